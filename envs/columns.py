"""Trajectories as memory-mapped columns: one `.npy` file per column in a folder, read without copying.

The rows of all episodes follow one another, each episode with its final observation, so the next observation of row i
is row i + 1 and the transitions of an episode are the rows i with i + 1 < end. `columns.json` is written last and
makes the folder whole: a folder without it is ignored and built anew.
"""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MIN_STEPS = 2  # transitions of the shortest episode that is accepted
_META = "columns.json"
_ACTION_SLACK = 1e-5  # rounding beyond [-1, 1] that is forgiven
_DTYPES = {"image": np.uint8, "proprio": np.float32, "action": np.float32, "state": np.float32,
           "start": np.int64, "end": np.int64, "scene": np.int64}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """N observations of E episodes. Episode e is rows [start[e], end[e]), its final observation included.

    Attributes:
        image: (N, H, W, 3) uint8.
        proprio: (N, P) float32, what the policy may read beside the picture (P = 0: nothing).
        action: (N, A) float32 in [-1, 1]; the row of an episode's final observation is zero and unused.
        state: (N, S) float32, the simulator's state: for evaluation and probes only (S = 0: unknown).
        start, end: (E,) int64.
        scene: (E,) int64, the number of the episode's scene in its split.
        meta: plain values about where the data came from: the split, the kinds of things, the source's stamp.
    """

    image: np.ndarray
    proprio: np.ndarray
    action: np.ndarray
    state: np.ndarray
    start: np.ndarray
    end: np.ndarray
    scene: np.ndarray
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """N, the number of observations."""
        return len(self.image)

    @property
    def episodes(self) -> int:
        """E."""
        return len(self.start)


def validate(columns: Columns, where: str = "columns") -> Columns:
    """Returns `columns` if they are what `Columns` promises.

    Args:
        columns: to be checked; every column but the images is read once.
        where: what to call them in the message.

    Raises:
        ValueError: naming the column, or the first bad episode: wrong shape or type, overlapping episodes, an episode
            shorter than two steps, an action that is not finite or not within [-1, 1], a NaN in proprio.
    """
    for name, dtype in _DTYPES.items():
        found = getattr(columns, name).dtype
        if found != dtype:
            raise ValueError(f"{where}: column {name} must be {np.dtype(dtype)}, not {found}")
    n, e = len(columns.image), len(columns.start)
    if columns.image.ndim != 4 or columns.image.shape[-1] != 3:
        raise ValueError(f"{where}: column image must be (N, H, W, 3), not {columns.image.shape}")
    for name in ("proprio", "action", "state"):
        shape = getattr(columns, name).shape
        if len(shape) != 2 or shape[0] != n:
            raise ValueError(f"{where}: column {name} must be ({n}, ...) as there are {n} images, not {shape}")
    if not e or any(getattr(columns, name).shape != (e,) for name in ("end", "scene")):
        raise ValueError(f"{where}: no episodes, or start, end and scene differ in length")
    if columns.start[0] != 0 or columns.end[-1] != n or not np.array_equal(columns.start[1:], columns.end[:-1]):
        raise ValueError(f"{where}: the episodes must cover the rows 0..{n} one after another")
    lengths = columns.end - columns.start - 1
    if (lengths < MIN_STEPS).any():
        bad = int(np.argmax(lengths < MIN_STEPS))
        raise ValueError(
            f"{where}: episode {bad} has {max(int(lengths[bad]), 0)} steps, an episode needs at least {MIN_STEPS} "
            f"({int((lengths < MIN_STEPS).sum())} of {e} episodes are too short)"
        )

    def refuse(rows: np.ndarray, what: str) -> None:
        if rows.any():
            row = int(np.argmax(rows))
            bad = int(np.searchsorted(columns.end, row, side="right"))
            count = len(np.unique(np.searchsorted(columns.end, np.flatnonzero(rows), side="right")))
            step = row - int(columns.start[bad])
            raise ValueError(f"{where}: episode {bad} has {what} at step {step} ({count} of {e} episodes have such)")

    refuse(~np.isfinite(columns.action).all(-1), "an action that is NaN or infinite")
    refuse((np.abs(columns.action) > 1 + _ACTION_SLACK).any(-1), "an action outside [-1, 1]")
    refuse(~np.isfinite(columns.proprio).all(-1), "a proprio value that is NaN or infinite")
    return columns


def open_columns(folder: str | Path) -> Columns:
    """Opens the columns in `folder` as read-only memory maps.

    Raises:
        ValueError: if there is no such folder, a column is missing or broken, or the data are not valid (`validate`).
    """
    folder = Path(folder)
    meta = read_meta(folder)
    if meta is None:
        raise ValueError(f"{folder} holds no columns: it has no {_META}")
    columns = {}
    for name in _DTYPES:
        path = folder / f"{name}.npy"
        if not path.is_file():
            raise ValueError(f"{folder}: column {name} is missing ({path.name})")
        try:
            columns[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{folder}: column {name} cannot be read: {error}") from error
    return validate(Columns(**columns, meta=meta), str(folder))


def read_meta(folder: str | Path) -> dict[str, Any] | None:
    """What `columns.json` says, or None where the folder holds no (whole) columns."""
    path = Path(folder) / _META
    if not path.is_file():
        return None
    try:
        meta: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    return meta


class ColumnsWriter:
    """Writes columns into files of a known length, episode by episode; the folder appears in one move on `close`.

    Use as a context manager: an exception inside removes what was begun and leaves an older folder as it was.

    Args:
        folder: where the columns go.
        rows: observations in all (N). episodes: E.
        image_shape: (H, W, 3). proprio_dim, action_dim, state_dim: P, A, S.

    Raises:
        OSError: if the disk has no room for all of it.
    """

    def __init__(
        self, folder: str | Path, rows: int, episodes: int, image_shape: tuple[int, ...],
        proprio_dim: int, action_dim: int, state_dim: int,
    ) -> None:  # fmt: skip
        self.folder = Path(folder)
        self._begun = self.folder.with_name(f".{self.folder.name}.tmp-{os.getpid()}")
        shutil.rmtree(self._begun, ignore_errors=True)
        self._begun.mkdir(parents=True)
        shapes = {
            "image": (rows, *image_shape), "proprio": (rows, proprio_dim), "action": (rows, action_dim),
            "state": (rows, state_dim), "start": (episodes,), "end": (episodes,), "scene": (episodes,),
        }  # fmt: skip
        try:
            self._columns: dict[str, Any] = {name: self._create(name, shape) for name, shape in shapes.items()}
        except OSError:
            shutil.rmtree(self._begun, ignore_errors=True)
            raise
        self._row = self._episode = 0

    def _create(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self._begun / f"{name}.npy"
        if 0 in shape:  # an empty file cannot be mapped
            empty = np.zeros(shape, _DTYPES[name])
            np.save(path, empty)
            return empty
        column: np.ndarray = np.lib.format.open_memmap(path, "w+", _DTYPES[name], shape)  # type: ignore[no-untyped-call]
        with open(path, "r+b") as file:  # a full disk says so now; writing to a map without room kills the process
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return column

    def append(
        self, image: np.ndarray, proprio: np.ndarray, action: np.ndarray, state: np.ndarray, scene: int
    ) -> None:
        """One episode of T steps: image, proprio and state have T + 1 rows, action has T.

        Raises:
            ValueError: if the rows do not belong together or to this file.
        """
        begin, end = self._row, self._row + len(image)
        if not (len(proprio) == len(state) == len(image) == len(action) + 1) or end > len(self._columns["image"]):
            raise ValueError(
                f"episode {self._episode}: {len(image)} images, {len(proprio)} proprio, {len(state)} states and "
                f"{len(action)} actions do not belong together (one action fewer than observations)"
            )
        if image.dtype != np.uint8 or image.shape[1:] != self._columns["image"].shape[1:]:
            expected = self._columns["image"].shape[1:]
            raise ValueError(f"episode {self._episode}: images must be uint8 {expected}, not {image.dtype} {image.shape[1:]}")
        for name, values in (("image", image), ("proprio", proprio), ("state", state)):
            self._columns[name][begin:end] = values
        self._columns["action"][begin : end - 1] = action
        for name, number in (("start", begin), ("end", end), ("scene", scene)):
            self._columns[name][self._episode] = number
        self._row, self._episode = end, self._episode + 1

    def close(self, meta: dict[str, Any] | None = None) -> Columns:
        """Checks everything, puts the folder in its place and opens it. Raises ValueError for invalid data."""
        if self._row != len(self._columns["image"]) or self._episode != len(self._columns["start"]):
            raise ValueError(f"{self.folder}: {self._episode} episodes with {self._row} rows were written, not all")
        validate(Columns(**self._columns), str(self.folder))
        for column in self._columns.values():
            if isinstance(column, np.memmap):
                column.flush()
        self._columns = {}
        (self._begun / _META).write_text(json.dumps(meta or {}))
        shutil.rmtree(self.folder, ignore_errors=True)
        self._begun.rename(self.folder)
        return open_columns(self.folder)

    def __enter__(self) -> "ColumnsWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._columns = {}
        shutil.rmtree(self._begun, ignore_errors=True)
