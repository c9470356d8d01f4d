"""Arrays of pictures, whatever file they lie in: which spans of which arrays are episodes, and how spans are read."""

import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from zipfile import BadZipFile

import numpy as np

from vision.sources.base import BLOCK, BLOCK_BYTES, ENDINGS, ROWS, Part, Source, Unit, episode_bounds, grouped

BROKEN = (OSError, RuntimeError, EOFError, KeyError, zlib.error, BadZipFile)  # what reading damaged arrays raises
STATES = ("state", "states")  # names of arrays of states


@runtime_checkable
class Arrays(Protocol):
    """An open file of arrays."""

    def rows(self, name: str, episode: int, start: int, end: int) -> np.ndarray:
        """Rows [start, end) of an array, or of its episode where that is not negative."""
        ...


@dataclass(frozen=True)
class Span:
    """Rows [start, end) of the array `column` (of its `episode` where the array has episodes in front); an episode, or a
    stretch of loose pictures. `state` names the array of states with the same rows, "" for none; `step` is how many rows are
    read at a time."""

    name: str
    column: str
    start: int
    end: int
    episode: int = -1
    state: str = ""
    step: int = BLOCK


@dataclass(frozen=True)
class Spans(Unit):
    """Spans of one file; each is an episode unless they are loose."""

    path: str
    spans: tuple[Span, ...]
    loose: bool

    @property
    def items(self) -> int:  # type: ignore[override]
        return sum(span.end - span.start for span in self.spans) if self.loose else len(self.spans)

    @abstractmethod
    def open(self) -> AbstractContextManager[Arrays]:
        """The file. Raises one of `BROKEN` if it cannot be opened."""

    def read(self, part: Part) -> None:
        try:
            opened = self.open()
        except BROKEN as error:
            raise ValueError(f"{self.path} cannot be opened any more: {error}") from error
        with opened as file:
            for span in self.spans:
                (self._read_loose if self.loose else self._read_episode)(file, span, part)

    def _block(self, file: Arrays, span: Span, start: int, end: int) -> tuple[np.ndarray, np.ndarray | None]:
        frames = file.rows(span.column, span.episode, start, end)
        if not span.state:
            return frames, None
        return frames, np.asarray(file.rows(span.state, span.episode, start, end), np.float32).reshape(len(frames), -1)

    def _add(self, part: Part, span: Span, block: tuple[np.ndarray, np.ndarray | None]) -> None:
        try:
            part.add(*block)
        except ValueError as error:
            raise ValueError(f"{Path(self.path).name}, column {span.column}: {error}") from error

    def _read_episode(self, file: Arrays, span: Span, part: Part) -> None:
        for start in range(span.start, span.end, span.step):
            try:
                block = self._block(file, span, start, min(start + span.step, span.end))
            except BROKEN as error:
                part.undo()
                part.skip(span.name, error)
                return
            self._add(part, span, block)
        part.end(span.name)

    def _read_loose(self, file: Arrays, span: Span, part: Part) -> None:
        for start in range(span.start, span.end, span.step):
            end = min(start + span.step, span.end)
            try:
                blocks = [self._block(file, span, start, end)]
            except BROKEN:  # one by one, so that what can be read is
                blocks = []
                for row in range(start, end):
                    try:
                        blocks.append(self._block(file, span, row, row + 1))
                    except BROKEN as error:
                        part.skip(f"{span.column}[{row}]", error)
            for block in blocks:
                self._add(part, span, block)


def in_groups(unit: type[Spans], path: Path, spans: Sequence[Span], **settings: Any) -> list[Spans]:
    """Episodes as units of work, a few short ones together."""
    cuts = grouped([span.end - span.start for span in spans])
    return [unit(str(path), tuple(spans[cut]), False, **settings) for cut in cuts]


def loose_units(
    unit: type[Spans], path: Path, column: str, n: int, state: str, step: int, **settings: Any
) -> list[Spans]:
    """n loose pictures as units of work."""
    stretches = [Span("", column, a, min(a + ROWS, n), -1, state, step) for a in range(0, n, ROWS)]
    return [unit(str(path), (span,), True, **settings) for span in stretches]


def one_array(
    unit: type[Spans], path: Path, column: str, arrays: Mapping[str, Any], near: Mapping[str, str], ends: Callable[[str], np.ndarray],
    serial: bool = False, **settings: Any,
) -> Source:  # fmt: skip
    """The array `column`, (N, H, W, C) or (E, T, H, W, C): loose pictures, or episodes that arrays beside it tell apart.

    Args:
        unit: what reads the file. arrays: name -> what has `shape` and `dtype`. near: which of them stand for a known key
            (`ENDINGS`, `STATES`). ends: the whole of one that tells episodes apart; it may raise one of `BROKEN`.
    """
    found = arrays[column]
    lead = found.shape[:2] if len(found.shape) == 5 else found.shape[:1]
    state = next((near[s] for s in STATES if s in near and state_width(arrays[near[s]].shape, lead)), "")
    width = state_width(arrays[state].shape, lead) if state else 0
    step = step_of(found.shape, found.dtype)
    if len(lead) == 2:
        spans = [Span(f"{column}[{e}]", column, 0, lead[1], e, state, step) for e in range(lead[0])]
        return Source("episodes", in_groups(unit, path, spans, **settings), True, width, serial=serial)
    try:
        told = {key: ends(near[key]) for key in ENDINGS if key in near}
    except BROKEN as error:
        raise ValueError(f"{path}: the ends of the episodes cannot be read: {error}") from error
    bounds = episode_bounds(lead[0], told, path.name) if lead[0] else None
    if bounds is None:
        return Source("pictures", loose_units(unit, path, column, lead[0], state, step, **settings), False, width, serial=serial)
    spans = [Span(f"{column} episode {e}", column, int(a), int(b), -1, state, step) for e, (a, b) in enumerate(zip(*bounds, strict=True))]
    return Source("episodes", in_groups(unit, path, spans, **settings), True, width, serial=serial)


def state_width(shape: tuple[int, ...] | None, rows: tuple[int, ...]) -> int:
    """How many numbers a state of an array with this shape has, 0 where it does not lie beside pictures (*rows, ...)."""
    if shape is None or shape[: len(rows)] != rows or len(shape) > len(rows) + 1:
        return 0
    return int(np.prod(shape[len(rows) :], dtype=int))


def step_of(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """How many pictures of an array to read at a time, so that large ones do not fill the memory."""
    lead = 2 if len(shape) == 5 else 1
    return max(1, min(BLOCK, BLOCK_BYTES // max(1, int(np.prod(shape[lead:], dtype=np.int64)) * dtype.itemsize)))


def described(shape: tuple[int, ...], dtype: np.dtype) -> str:
    """An array, for messages."""
    return f"({', '.join(map(str, shape))}) {dtype}"
