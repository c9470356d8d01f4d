"""Units of work into growing columns: in parallel, in order, and so that a killed conversion goes on where it was.

Workers decode a unit into a file of its own; the parent appends these files in order to `image.npy` and notes in
`progress.json`, now and then, up to where the columns are good. `pictures.json` is written last and makes them whole.
"""

import contextlib
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from vision.sources.base import Part, Result, Source, Unit

WHOLE, JOURNAL, LOCK, PARTS = "pictures.json", "progress.json", ".lock", "parts"
FEW = 4  # units from which on processes are worth their start
SECONDS = 2.0  # between two entries of the journal
_HEADER = 128  # bytes; a header of fixed length can be written again when the number of rows is known
_COPY = 1 << 20


class WorkerDied(RuntimeError):
    """A process that decoded pictures ended on its own."""


class Growing:
    """A `.npy` file that rows are appended to. What it held behind its first `rows` rows is cut off.

    Raises:
        ValueError: if the file holds fewer rows.
    """

    def __init__(self, path: Path, dtype: Any, row: tuple[int, ...], rows: int) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        size = _HEADER + rows * int(np.prod(row, dtype=np.int64)) * self._dtype.itemsize
        if rows and (not path.is_file() or path.stat().st_size < size):
            raise ValueError(f"{path} holds fewer than {rows} rows")
        if not rows:
            path.unlink(missing_ok=True)  # not truncated: someone may still have the old one mapped
        self._file = open(path, "r+b" if rows else "w+b")
        self._write_header(rows)
        self._file.truncate(size)
        self._file.seek(size)

    def _write_header(self, rows: int) -> None:
        shape = (rows, *self._row)
        described = repr({"descr": self._dtype.str, "fortran_order": False, "shape": shape}).encode("latin1")
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + described.ljust(_HEADER - 11) + b"\n")

    def append(self, values: np.ndarray) -> None:
        """Rows of the column's type."""
        self._file.write(np.ascontiguousarray(values, self._dtype).data)

    def append_file(self, path: Path) -> None:
        """Rows as the bytes of another file."""
        with open(path, "rb") as part:
            shutil.copyfileobj(part, self._file, _COPY)

    def sync(self) -> None:
        """Puts everything appended so far on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self, rows: int) -> None:
        """Says in the header how many rows there are."""
        self._write_header(rows)
        self.sync()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk what was not written is gone, as the journal knows
            self._file.close()


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes or replaces a file in one move."""
    begun = path.with_name(f"{path.name}.tmp")
    with open(begun, "w") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    begun.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What a file says, None where it is missing or broken."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


@contextlib.contextmanager
def only_one(keep: Path) -> Iterator[None]:
    """One process at a time converts into a folder; the others wait, and say so."""
    keep.mkdir(parents=True, exist_ok=True)
    with open(keep / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"pictures: another process is converting into {keep}; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def work(unit: Unit, path: str, image_size: int, state_dim: int) -> Result:
    """Decodes one unit; its pictures go to the file `path`."""
    part = Part(path, image_size, state_dim)
    try:
        unit.read(part)
    except BaseException:
        with contextlib.suppress(OSError):
            part.close()
        raise
    return part.close()


def _begin_worker() -> None:
    """A worker uses one thread, leaves Ctrl-C to its parent, and ends when the parent is killed."""
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _results(source: Source, first: int, parts: Path, image_size: int, workers: int) -> Iterator[tuple[Result, Path]]:
    """What the units from `first` on become, in order. A part's file is the caller's to remove."""
    tasks = [(i, unit) for i, unit in enumerate(source.units) if i >= first]
    if workers == 1 or source.serial or len(tasks) < FEW:
        for i, unit in tasks:
            path = parts / f"{i}.raw"
            yield work(unit, str(path), image_size, source.state_dim), path
        return
    before = set(multiprocessing.active_children())
    # Spawned: torch's threads, which the parent may have, do not survive a fork.
    pool = ProcessPoolExecutor(min(workers, len(tasks)), multiprocessing.get_context("spawn"), initializer=_begin_worker)
    waiting: deque[tuple[Future[Result], Path]] = deque()
    try:
        for i, unit in tasks:
            path = parts / f"{i}.raw"
            waiting.append((pool.submit(work, unit, str(path), image_size, source.state_dim), path))
            if len(waiting) >= 2 * workers:  # no more, so that parts do not pile up behind a slow one
                future, path = waiting.popleft()
                yield future.result(), path
        while waiting:
            future, path = waiting.popleft()
            yield future.result(), path
    except BrokenProcessPool as error:
        raise WorkerDied(
            "a process that decoded pictures died: killed from outside or by the system when memory ran out. What it had "
            "done is kept; run again with fewer workers (a script of your own must start under `if __name__ == "
            "'__main__'`, as the processes import it)"
        ) from error
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def too_many_bad(skipped: list[tuple[str, str]], total: int, items: str, max_bad_share: float | int, where: str) -> ValueError | None:
    """What to raise where more than `max_bad_share` of the data were left out."""
    if len(skipped) <= max_bad_share * total:
        return None
    some = "; ".join(f"{what}: {why}" for what, why in skipped[:3])
    return ValueError(
        f"{where}: {len(skipped)} of {total} {items} cannot be used, more than the share of {max_bad_share:g} that is allowed "
        f"({some}{'; ...' if len(skipped) > 3 else ''}); repair or remove them, or allow more (unreadable_share; from Python max_bad_share)"
    )


class _Columns:
    """The growing columns of one conversion and its journal."""

    def __init__(self, source: Source, stamp: dict[str, Any], image_size: int, keep: Path) -> None:
        self.source, self.stamp, self.keep = source, stamp, keep
        journal = read_json(keep / JOURNAL)
        if journal is not None and journal.get("stamp") == stamp:
            try:
                self._open(journal, image_size)
                return
            except (KeyError, ValueError, TypeError):  # someone changed the files: from the start
                pass
        empty = {"units": 0, "rows": 0, "episodes": 0, "skipped": source.skipped}
        (keep / JOURNAL).unlink(missing_ok=True)
        self._open(empty, image_size)

    def _open(self, journal: dict[str, Any], image_size: int) -> None:
        self.units, self.rows, self.episodes = int(journal["units"]), int(journal["rows"]), int(journal["episodes"])
        self.skipped = [(str(what), str(why)) for what, why in journal["skipped"]]
        self._files = {
            "image": Growing(self.keep / "image.npy", np.uint8, (image_size, image_size, 3), self.rows),
            "state": Growing(self.keep / "state.npy", np.float32, (self.source.state_dim,), self.rows),
            "length": Growing(self.keep / "length.npy", np.int64, (), self.episodes),
            "scene": Growing(self.keep / "scene.npy", np.int64, (), self.episodes),
        }

    def append(self, result: Result, pictures: Path) -> None:
        """A unit's result, behind those of the units before it."""
        self._files["image"].append_file(pictures)
        self._files["state"].append(result.state)
        self._files["length"].append(np.array(result.lengths, np.int64))
        self._files["scene"].append(np.array(result.scenes, np.int64))
        self.units, self.rows, self.episodes = self.units + 1, self.rows + result.rows, self.episodes + len(result.lengths)
        self.skipped += result.skipped

    def note(self) -> None:
        """An entry in the journal: from here a killed conversion goes on."""
        for column in self._files.values():
            column.sync()
        counts = {"units": self.units, "rows": self.rows, "episodes": self.episodes}
        write_json(self.keep / JOURNAL, {"stamp": self.stamp, **counts, "skipped": self.skipped})

    def finish(self) -> None:
        """Makes the folder whole."""
        for name, column in self._files.items():
            column.finish(self.rows if name in ("image", "state") else self.episodes)
        counts = {"rows": self.rows, "episodes": self.episodes, "state_dim": self.source.state_dim}
        listed = {"items": self.source.items, "total": self.source.total, "skipped": self.skipped, "meta": self.source.meta}
        write_json(
            self.keep / WHOLE, {"stamp": self.stamp, "trajectories": self.source.trajectories, **counts, **listed}
        )
        (self.keep / JOURNAL).unlink(missing_ok=True)

    def close(self) -> None:
        for column in self._files.values():
            column.close()


def convert(
    source: Source,
    stamp: dict[str, Any],
    image_size: int,
    keep: Path,
    where: str,
    max_bad_share: float | int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Decodes all of `source` into columns in `keep`, going on from what an earlier call with the same stamp had done.

    Args:
        where: the data's name, for messages. workers: processes, 0 for as many as there are cores.
        progress: called with (done, total) things.

    Raises:
        ValueError: where too much is bad, nothing is left or the data cannot be understood. WorkerDied: see there.
        OSError: on a full disk; the next call goes on.
    """
    (keep / WHOLE).unlink(missing_ok=True)
    parts = keep / PARTS
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    columns = _Columns(source, stamp, image_size, keep)
    done = len(source.skipped) + sum(unit.items for unit in source.units[: columns.units])
    noted = time.monotonic()
    results = _results(source, columns.units, parts, image_size, workers or default_workers())
    try:
        if progress is not None:
            progress(done, source.total)
        for result, path in results:
            done += source.units[columns.units].items
            columns.append(result, path)
            path.unlink()
            if time.monotonic() - noted > SECONDS:
                columns.note()
                noted = time.monotonic()
            if progress is not None:
                progress(done, source.total)
            if error := too_many_bad(columns.skipped, source.total, source.items, max_bad_share, where):
                raise error
        if error := too_many_bad(columns.skipped, source.total, source.items, max_bad_share, where):
            raise error
        if not columns.rows:
            why = f": {columns.skipped[0][0]}: {columns.skipped[0][1]}" if columns.skipped else ""
            raise ValueError(f"{where} holds no {source.items} that can be used ({source.total} were looked at{why})")
        columns.finish()
    except BaseException:
        with contextlib.suppress(OSError):
            columns.note()
        raise
    finally:
        results.close()  # type: ignore[attr-defined]
        columns.close()
        shutil.rmtree(parts, ignore_errors=True)
