"""The one exception meant for the person at the keyboard, and the words it is made of."""

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can put right: one line saying what is wrong, where, and what to do.

    The command line prints it in red without a traceback and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


@contextmanager
def explained(where: str = "") -> Iterator[None]:
    """Turn the rooms' own refusals (ValueError, a missing file) inside the block into a UserError beginning with `where`.

    For the moments a job reads what the user named: `with explained("data"): pictures = open_pictures(config.data, ...)`.
    """
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from error


def nearest(word: str, words: Iterable[str]) -> str:
    """The hint `; did you mean 'x'?` for the closest of `words`, or the whole list where none is close."""
    known = sorted(set(words))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not close:  # a right word inside a longer wrong one: iql_small -> iql
        close = [k for k in known if k and (k in word or (len(word) > 2 and word in k))][:1]
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there are: {', '.join(known)}." if known else "."


def disk_full(error: BaseException) -> OSError | None:
    """The operating system's word that there is no room left, where that is what caused `error`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
