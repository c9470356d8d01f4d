"""Any data as pictures: `open_pictures` takes folders, videos, arrays, datasets and runs; see `vision.sources`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from envs.columns import open_columns
from vision.data import first_rows
from vision.sources import columns, find
from vision.sources.base import Found, Settings
from vision.sources.convert import WHOLE, convert, only_one, read_json, too_many_bad


@dataclass(frozen=True)
class Pictures:
    """N pictures of E episodes; loose pictures have no episodes worth pairing (trajectories=False, one episode each).

    Attributes:
        image: (N, H, W, 3) uint8, usually a read-only memory map.
        start, end: (E,) int64; episode e is rows [start[e], end[e]), one after another.
        state: (N, S) float32, ground truth where there is one (S = 0: none); for evaluation only.
        trajectories: whether the order of an episode's rows means something.
        scene: (E,) int64, the number of each episode's scene, zeros when unknown.
        skipped: (what, why) of everything left out.
        source: what it was made from: kind, name, hash of the files' names, sizes and times, settings.
        context: (E,) int64, the row of each episode's context; None: its first picture.
        meta: of a collect run or Minari dataset: split, kinds, ...
    """

    image: UInt8[np.ndarray, "N H W 3"]
    start: Int64[np.ndarray, "E"]
    end: Int64[np.ndarray, "E"]
    state: Float32[np.ndarray, "N S"]
    trajectories: bool
    scene: Int64[np.ndarray, "E"]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    context: Int64[np.ndarray, "E"] | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.image)

    @property
    def episodes(self) -> int:
        """E."""
        return len(self.start)

    @property
    def first(self) -> Int64[np.ndarray, "N"] | None:
        """The row of each picture's context, usually the first of its trajectory; None for loose pictures."""
        if self.context is not None:
            return np.repeat(self.context, self.end - self.start)
        return first_rows(self.start, self.end) if self.trajectories else None


def open_pictures(
    data: str | Path,
    image_size: int,
    keep: str | Path,
    *,
    fps: float | int = 0,
    image_key: str = "",
    max_bad_share: float | int = 0.05,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Pictures:
    """The pictures of `data`, cropped to the centre square at `image_size`, converted once into columns in `keep`.

    A conversion that was killed goes on where it was; one that is whole is opened without decoding; data that have
    changed since, or other settings, are converted anew. Columns of a collect run at this size are used where they lie.

    Args:
        data: a folder of pictures, a video or a folder of them, a Minari or LeRobot dataset, an HDF5 or NumPy file, a
            collect run.
        fps: frames per second to use of videos; 0, or more than they have: every frame.
        image_key: the column or camera; empty: the only one, or one with a well-known name.
        max_bad_share: the fraction of pictures (episodes, of trajectories) that may be left out for being broken.
        workers: processes, 0 for as many as there are cores.
        progress: called with (done, total) pictures or episodes.

    Raises:
        ValueError: for data that are missing, of unknown kind, empty or too bad, and for a missing or unclear column.
        vision.sources.convert.WorkerDied: if a process dies. OSError: on a full disk. Call again to go on.
    """
    if image_size < 1 or fps < 0 or not 0 <= max_bad_share <= 1 or workers < 0:
        raise ValueError(
            f"open_pictures: image_size={image_size} must be positive, fps={fps} and workers={workers} not negative, "
            f"max_bad_share={max_bad_share} in [0, 1]"
        )
    path, folder, settings = Path(data).expanduser(), Path(keep), Settings(image_size, float(fps), image_key)
    found = find(path)
    if found.kind == "columns":
        pictures = _as_they_lie(found, settings)
        if pictures is not None:
            return pictures
    stamp = found.stamp(settings)
    pictures = _opened(folder, stamp, max_bad_share, str(path))
    if pictures is None:
        with only_one(folder):
            pictures = _opened(folder, stamp, max_bad_share, str(path))  # the process that was waited for may have made them
            if pictures is None:
                convert(found.open(settings), stamp, image_size, folder, str(path), max_bad_share, workers, progress)
                pictures = _opened(folder, stamp, max_bad_share, str(path))
        if pictures is None:
            raise ValueError(f"{folder}: what was just written cannot be read back; is something else writing there?")
    return pictures


def _as_they_lie(found: Found, settings: Settings) -> Pictures | None:
    """A collect run's own columns, where they have the size wanted."""
    folder = columns.folder_of(found.path)
    if folder is None:
        return None
    columns.check(settings, folder)
    opened = open_columns(folder)
    size = settings.image_size
    if opened.image.shape[1:3] != (size, size):
        return None
    return Pictures(
        opened.image, opened.start, opened.end, opened.state, True, opened.scene,
        [], found.stamp(settings), dict(opened.meta),
    )  # fmt: skip


def _opened(folder: Path, stamp: dict[str, Any], max_bad_share: float | int, where: str) -> Pictures | None:
    """Columns converted earlier; None where there are none that are whole and of this stamp."""
    whole = read_json(folder / WHOLE)
    if whole is None or whole.get("stamp") != stamp:
        return None
    skipped = [(what, why) for what, why in whole["skipped"]]
    if error := too_many_bad(skipped, whole["total"], whole["items"], max_bad_share, where):
        raise error
    n = whole["rows"]
    try:
        image = np.load(folder / "image.npy", mmap_mode="r", allow_pickle=False)
        state = np.zeros((n, 0), np.float32)
        if whole["state_dim"]:
            state = np.load(folder / "state.npy", mmap_mode="r", allow_pickle=False)
        length, scene = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("length", "scene"))
    except (OSError, ValueError, EOFError):
        return None
    if len(image) != n or len(state) != n:
        return None
    if not whole["trajectories"]:
        length, scene = np.ones(n, np.int64), np.zeros(n, np.int64)
    end = np.cumsum(length)
    return Pictures(image, end - length, end, state, whole["trajectories"], scene, skipped, stamp, whole["meta"])


def split_rows(
    pictures: Pictures, share: float | int, seed: int
) -> tuple[Int64[np.ndarray, "T"], Int64[np.ndarray, "V"]]:
    """Rows to learn from and rows to validate with, sorted: whole scenes drawn by `seed`, where the episodes' scenes are known (not all the
    same), else whole episodes (single pictures when loose).

    `share` is the fraction of scenes (episodes, pictures) kept for validation, rounded, but at least one. Raises ValueError where a side would be empty.
    """
    scenes, scene = np.unique(pictures.scene, return_inverse=True)
    known = len(scenes) > 1 and pictures.trajectories
    n = len(scenes) if known else pictures.episodes
    chosen = max(1, round(share * n)) if 0 < share <= 1 else 0
    if not 0 < chosen < n:
        what = "scenes" if known else "trajectories" if pictures.trajectories else "pictures"
        least = "at least two are needed: use more data" if n < 2 else f"use a share between {1 / n:.2g} and {1 - 1 / n:.2g}, or more data"
        least += ", or clip=FRAMES, which cuts long trajectories" if pictures.trajectories else ""
        raise ValueError(f"split_rows: share={share:g} of {n} {what} leaves nothing to {'validate with' if chosen < 1 else 'learn from'}; {least}")
    validation = np.zeros(n, bool)
    validation[np.random.default_rng(seed).permutation(n)[:chosen]] = True
    of_row = np.repeat(validation[scene] if known else validation, pictures.end - pictures.start)
    return np.flatnonzero(~of_row).astype(np.int64), np.flatnonzero(of_row).astype(np.int64)
