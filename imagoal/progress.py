"""Progress: a bar on a terminal, an occasional plain line elsewhere (a log file, CI), the same calls for both."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

EVERY = 15.0  # seconds between plain lines


class Progress(Protocol):
    """What a job calls while it works."""

    def advance(self, n: int = 1, **numbers: Any) -> None:
        """n more of the total are done; `numbers` are shown beside the count (0-d tensors are read only when shown)."""

    def reach(self, done: int, total: int) -> None:
        """`done` of `total` are done, for work that counts by itself."""


class PlainProgress:
    """Lines such as `pretrain 2000/10000 20% 31 s, 124 s left: loss 0.31`, at most one in `EVERY` seconds."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label, self.total, self.done, self.began_at = label, total, done, done
        self.began = self.said = time.monotonic()
        self.numbers: dict[str, Any] = {}

    def advance(self, n: int = 1, **numbers: Any) -> None:
        """See Progress."""
        self.done += n
        self.numbers |= numbers
        if time.monotonic() - self.said >= EVERY:
            self.say()

    def reach(self, done: int, total: int) -> None:
        """See Progress."""
        if not self.total:
            self.began_at = done - 1  # what was there before is not this session's work
        self.total = total
        self.advance(done - self.done)

    def say(self) -> None:
        """Print where it stands, if there was anything to do."""
        if not self.total:
            return
        self.said = time.monotonic()
        spent = self.said - self.began
        left = spent / max(self.done - self.began_at, 1) * max(self.total - self.done, 0)
        share = 100 * self.done // max(self.total, 1)
        print(f"{self.label} {self.done}/{self.total} {share}% {spent:.0f} s, {left:.0f} s left{shown(self.numbers)}", file=sys.stderr)


class BarProgress:
    """A rich bar with the numbers beside it."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.bars = Bars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"), console=Console(stderr=True), refresh_per_second=4,
        )  # fmt: skip
        self.task = self.bars.add_task(label, total=total or None, completed=done, numbers="")
        self.shown_at = 0.0
        self.numbers: dict[str, Any] = {}
        self.bars.start()

    def advance(self, n: int = 1, **numbers: Any) -> None:
        """See Progress."""
        self.numbers |= numbers
        if self.numbers and time.monotonic() - self.shown_at > 0.5:
            self.shown_at = time.monotonic()
            self.bars.update(self.task, numbers=shown(self.numbers).lstrip(": "))
        self.bars.advance(self.task, n)

    def reach(self, done: int, total: int) -> None:
        """See Progress."""
        self.bars.update(self.task, completed=done, total=total)


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Progress]:
    """`with progress("pretrain", updates) as bar: bar.advance(1, loss=loss)`; `done` of the total were done before a resume."""
    if not sys.stderr.isatty():
        plain = PlainProgress(label, total, done)
        yield plain
        plain.say()
        return
    bar = BarProgress(label, total, done)
    try:
        yield bar
    finally:
        bar.bars.stop()


def shown(numbers: dict[str, Any]) -> str:
    """`: loss 0.31, success 0.5`."""
    return ": " + ", ".join(f"{name} {float(value):.3g}" for name, value in numbers.items()) if numbers else ""


