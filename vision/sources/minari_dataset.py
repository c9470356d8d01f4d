"""Minari datasets (Farama's format), HDF5 or Arrow, through Minari's own reader."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from minari.dataset.minari_storage import MinariStorage

from envs.trajectories import IMAGE_KEYS, META_KEYS, is_minari, read_minari
from vision.sources.arrays import described
from vision.sources.base import ROWS, Found, Part, Settings, Source, Unit, choose_column, refuse_fps
from vision.sources.pixels import is_pictures

_BROKEN = (OSError, KeyError, RuntimeError, ValueError, IndexError, AssertionError)  # what a damaged episode raises


def _flat(observations: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays of a nest of observations, by name; one array alone is called `observation`."""
    if not isinstance(observations, dict):
        return {prefix.rstrip("/") or "observation": np.asarray(observations)}
    return {k: v for name, part in observations.items() for k, v in _flat(part, f"{prefix}{name}/").items()}


def _state(record: dict[str, Any], rows: int) -> np.ndarray:
    """infos/state (rows, S), S = 0 where there is none."""
    state = np.asarray((record.get("infos") or {}).get("state", np.zeros((rows, 0))))
    return np.asarray(state, np.float32).reshape(rows, -1) if len(state) == rows else np.zeros((rows, 0), np.float32)


@dataclass(frozen=True)
class MinariEpisodes(Unit):
    """Some episodes of a dataset."""

    path: str
    column: str
    numbers: tuple[int, ...]

    @property
    def items(self) -> int:  # type: ignore[override]
        return len(self.numbers)

    def read(self, part: Part) -> None:
        storage = MinariStorage.read(Path(self.path).resolve())
        for number in self.numbers:
            what = f"episode {number}"
            try:
                record = next(iter(storage.get_episodes([number])))
                frames = _flat(record["observations"])[self.column]
                state = _state(record, len(frames))
                scene = int(np.ravel((record.get("infos") or {}).get("scene", 0))[0])
            except _BROKEN as error:
                part.skip(what, error)
                continue
            if state.shape[1] != part.state_dim:
                part.skip(what, f"its states have {state.shape[1]} numbers, those of other episodes {part.state_dim}")
                continue
            try:
                part.add(frames, state)
            except ValueError as error:
                raise ValueError(f"{Path(self.path).name}, {what}, {self.column}: {error}") from error
            part.end(what, scene)


def _source(path: Path, settings: Settings) -> Source:
    refuse_fps(settings, "a Minari dataset")
    storage = read_minari(path)
    episodes = int(storage.total_episodes)
    record, why = None, ""
    for number in range(min(episodes, 20)):  # the first that can be read shows what there is
        try:
            record = next(iter(storage.get_episodes([number])))
            break
        except _BROKEN as error:
            why = f"{type(error).__name__}: {error}"
    if record is None:
        raise ValueError(f"{path}: no episode can be read ({why}); the dataset is damaged")
    arrays = _flat(record["observations"])
    pictures = [name for name, a in arrays.items() if is_pictures(a.shape, a.dtype) and a.ndim < 5]
    texts = {name: described(a.shape, a.dtype) for name, a in arrays.items()}
    key = settings.image_key or next((known for known in IMAGE_KEYS if known in pictures), "")
    column = choose_column(pictures, texts, key, path.name)
    each = max(1, ROWS * episodes // max(1, int(storage.total_steps)))
    numbers = [tuple(range(i, min(i + each, episodes))) for i in range(0, episodes, each)]
    metadata = storage.metadata
    meta = {name: metadata[name] for name in (*META_KEYS, "dataset_id") if name in metadata}
    width = _state(record, len(arrays[column])).shape[1]
    return Source("episodes", [MinariEpisodes(str(path), column, some) for some in numbers], True, width, meta=meta)


def folder_of(path: Path) -> Path | None:
    """The folder with the dataset's files: `path`, or `data` in it."""
    return next((folder for folder in (path, path / "data") if is_minari(folder)), None)


def find(path: Path, folder: Path) -> Found:
    """The dataset at or below `path`."""
    return Found("minari", path, sorted(p for p in folder.rglob("*") if p.is_file()), lambda settings: _source(folder, settings))
