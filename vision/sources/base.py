"""What every kind of data has in common: units of work, the parts they become, and the choice of a column."""

import difflib
import hashlib
import itertools
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vision.sources.pixels import fit, rgb8

ROWS = 128  # pictures that a unit of work holds, about
BLOCK = 64  # pictures in memory at a time, fewer where they are large
BLOCK_BYTES = 32 << 20
# Names by which a column of pictures is known where there are several, best first.
WELL_KNOWN = (
    "image", "images", "observation", "observations", "pixels", "rgb", "img", "frames", "obs", "achieved_goal",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How pictures are to be read. fps: frames per second of videos, 0 for every frame. image_key: the column or camera."""

    image_size: int
    fps: float = 0.0
    image_key: str = ""


@dataclass(frozen=True)
class Result:
    """What a unit of work became; its pictures lie in a file.

    Attributes:
        rows: number of pictures. state: (rows, S) float32. lengths, scenes: one number per episode (none when loose).
        skipped: (what, why) of each thing left out.
    """

    rows: int
    state: np.ndarray
    lengths: list[int]
    scenes: list[int]
    skipped: list[tuple[str, str]]


class Part:
    """What a worker writes pictures to: they go to a file at once, so that memory stays small however long a video is."""

    def __init__(self, path: str | Path, image_size: int, state_dim: int) -> None:
        self.image_size, self.state_dim = image_size, state_dim
        self._file = open(path, "wb")
        self._states: list[np.ndarray] = []
        self._rows = self._marked_rows = self._marked_states = 0
        self._lengths: list[int] = []
        self._scenes: list[int] = []
        self._skipped: list[tuple[str, str]] = []

    def add(self, frames: np.ndarray, state: np.ndarray | None = None) -> None:
        """Pictures (n, ...) as `rgb8` takes them and their states (n, S), where the data have states.

        Raises:
            ValueError: for pictures that `rgb8` refuses, and for states of another shape. OSError: on a full disk.
        """
        if state is None:
            state = np.zeros((len(frames), 0), np.float32)
        if state.shape != (len(frames), self.state_dim):
            raise ValueError(f"states must be {(len(frames), self.state_dim)} beside {len(frames)} pictures, not {state.shape}")
        for frame in rgb8(frames):
            self._file.write(np.ascontiguousarray(fit(frame, self.image_size)).data)
        self._states.append(np.asarray(state, np.float32))
        self._rows += len(frames)

    def end(self, what: str, scene: int = 0) -> None:
        """The pictures since the last end are one episode, called `what`; it is left out if shorter than two frames."""
        length = self._rows - self._marked_rows
        if length < 2:
            self.undo()
            self.skip(what, "one frame: nothing follows its first" if length else "no frames")
            return
        self._lengths.append(length)
        self._scenes.append(scene)
        self._marked_rows, self._marked_states = self._rows, len(self._states)

    def undo(self) -> None:
        """Forgets the pictures since the last end."""
        self._file.seek(self._marked_rows * self.image_size**2 * 3)
        self._file.truncate()
        del self._states[self._marked_states :]
        self._rows = self._marked_rows

    def skip(self, what: str, why: str | Exception) -> None:
        """Notes that something is left out."""
        reason = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
        self._skipped.append((what, reason))

    def close(self) -> Result:
        """Finishes the file."""
        self._file.close()
        state = np.concatenate([np.zeros((0, self.state_dim), np.float32), *self._states])
        return Result(self._rows, state, self._lengths, self._scenes, self._skipped)


class Unit(ABC):
    """A piece of work independent of all others: some files, some episodes, a video. Small, as it goes to a process."""

    items: int
    """How many things (see `Source.items`) it holds."""

    @abstractmethod
    def read(self, part: Part) -> None:
        """Decodes into `part`. What is broken is skipped; ValueError is for data that cannot be understood at all.

        `part.add` stays outside of the `try` that catches broken data: a full disk is no broken picture.
        """


@dataclass(frozen=True)
class Source:
    """Data that can be converted.

    Attributes:
        items: what is counted: "pictures", "videos", "episodes". units: the work. trajectories: see `Pictures`.
        state_dim: S. skipped: what was left out already when the data were listed.
        serial: the units are read in order in one process (a compressed stream).
    """

    items: str
    units: Sequence[Unit]
    trajectories: bool
    state_dim: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    serial: bool = False

    @property
    def total(self) -> int:
        """How many things there are, good and bad."""
        return len(self.skipped) + sum(unit.items for unit in self.units)


@dataclass(frozen=True)
class Found:
    """Data of a known kind. `files` tell them from changed ones; `open` lists what there is to convert."""

    kind: str
    path: Path
    files: list[Path]
    open: Callable[[Settings], Source]

    def stamp(self, settings: Settings) -> dict[str, Any]:
        """What tells this conversion from every other one."""
        digest = hashlib.sha256()
        root = self.path if self.path.is_dir() else self.path.parent
        for path, name in zip(self.files, names_of(self.files, root), strict=True):
            stat = path.stat()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        wanted = {"image_size": settings.image_size, "fps": settings.fps, "image_key": settings.image_key}
        return {"version": 1, "kind": self.kind, "name": self.path.name, "files": digest.hexdigest(), **wanted}


def natural(path: str | Path) -> list[Any]:
    """Sorts names as people do: episode_2 before episode_10."""
    return [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in re.split(r"([0-9]+)", str(path)) if word]


def files_below(folder: Path) -> list[Path]:
    """All files below `folder`, sorted by path, hidden ones left out."""
    found: list[str] = []  # of millions of files, text sorts much faster than Path
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(root, name) for name in names if not name.startswith(".")]
    return [Path(name) for name in sorted(found)]


def grouped(lengths: Sequence[int]) -> list[slice]:
    """Slices of consecutive episodes that hold about `ROWS` pictures together."""
    cuts, held = [0], 0
    for i, length in enumerate(lengths):
        held += length
        if held >= ROWS:
            cuts.append(i + 1)
            held = 0
    if cuts[-1] != len(lengths):
        cuts.append(len(lengths))
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


def leaf(column: str) -> str:
    """The last word of a column's name: `top` of `observation.images.top`, `image` of `obs/image`."""
    return re.split(r"[/.]", column)[-1]


def choose_column(pictures: Sequence[str], columns: Mapping[str, str], image_key: str, where: str) -> str:
    """Which column holds the pictures.

    Args:
        pictures: the columns that do hold pictures.
        columns: all columns, each with a description of it for messages.
        image_key: a column's name or its last words; empty for the only one, or one with a well-known name.
        where: the data's name, for messages.

    Raises:
        ValueError: if there is none, no such one, or several; the message lists them.
    """
    described = ", ".join(f"{name} {what}".strip() for name, what in columns.items()) or "none"
    if image_key:
        matching = [c for c in pictures if c == image_key] or [c for c in pictures if c.endswith((f"/{image_key}", f".{image_key}"))]
        if len(matching) == 1:
            return matching[0]
        if len(matching) > 1:
            raise ValueError(f"{where}: image_key={image_key} fits several columns: {', '.join(matching)}; give the whole name")
        if image_key in columns:
            raise ValueError(f"{where}: column {image_key} {columns[image_key]} holds no pictures; the columns are {described}")
        names = {leaf(c): c for c in columns} | {c: c for c in columns}
        near = difflib.get_close_matches(image_key, names, 1, 0.3)
        hint = f"; did you mean image_key={names[near[0]]}?" if near else ""
        raise ValueError(f"{where} has no column {image_key}; its columns are {described}{hint}")
    if len(pictures) == 1:
        return pictures[0]
    if not pictures:
        raise ValueError(
            f"{where} has no column of pictures (N, H, W, 3); its columns are {described}. Store the pictures as uint8 arrays"
        )
    now = [c for c in pictures if not re.search(r"\bnext_", c)] or list(pictures)
    for name in WELL_KNOWN:
        known = [c for c in now if leaf(c) == name]
        if len(known) == 1:
            return known[0]
    if len(now) == 1:
        return now[0]
    raise ValueError(f"{where} has several columns of pictures: {', '.join(pictures)}; choose one with image_key={now[0]}")


ENDINGS = ("episode_ends", "episode_index", "terminals", "timeouts", "terminations", "truncations", "dones")


def episode_bounds(n: int, columns: Mapping[str, np.ndarray], where: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(start, end), each (E,) int64, of episodes told by columns named as in `ENDINGS`; None where there are none.

    `episode_ends` (E,) are the rows after each last one; `episode_index` (N,) is each row's episode; the others (N,) are
    true at each last row. Raises ValueError where a column does not fit n rows.
    """
    if "episode_ends" in columns:
        end = np.ravel(columns["episode_ends"]).astype(np.int64)
        if not len(end) or end[-1] != n or (np.diff(end, prepend=0) < 1).any():
            last = int(end[-1]) if len(end) else "missing"
            raise ValueError(f"{where}: episode_ends must rise from above 0 to the {n} pictures there are; its last value is {last}")
        return np.concatenate([[0], end[:-1]]), end
    told = {name: np.ravel(columns[name]) for name in ENDINGS[1:] if name in columns}
    for name, values in told.items():
        if len(values) != n:
            raise ValueError(f"{where}: {name} has {len(values)} values beside {n} pictures; both must have one row per picture")
    if "episode_index" in told:
        last_rows = np.append(np.flatnonzero(np.diff(told["episode_index"])), n - 1)
    elif told:
        last_rows = np.union1d(np.flatnonzero(np.any([values.astype(bool) for values in told.values()], 0)), [n - 1])
    else:
        return None
    end = last_rows.astype(np.int64) + 1
    return np.concatenate([[0], end[:-1]]), end


def is_kept(frame: int, fps: float, native: float) -> bool:
    """Whether frame 0, 1, 2, ... of a video with `native` frames per second is used at `fps` (0: all are). The first
    always is; where fps is above the video's own, each is used once."""
    if fps <= 0 or fps >= native:
        return True
    step = fps / native
    return math.floor(frame * step + 1e-6) > math.floor((frame - 1) * step + 1e-6)


def refuse_fps(settings: Settings, kind: str) -> None:
    """Raises ValueError where frames per second were asked of data that have no rate."""
    if settings.fps:
        raise ValueError(f"fps={settings.fps:g}: {kind} has no frame rate to choose from; leave fps=0")


def refuse_key(settings: Settings, kind: str) -> None:
    """Raises ValueError where a column was asked for of data that have none."""
    if settings.image_key:
        raise ValueError(f"image_key={settings.image_key}: {kind} has no columns to choose from; leave image_key empty")


def names_of(paths: Iterable[Path], root: Path) -> list[str]:
    """Paths as written below `root`, where they all are."""
    cut = 0 if root == Path() else len(os.path.join(root, ""))
    return [str(path)[cut:] for path in paths]
