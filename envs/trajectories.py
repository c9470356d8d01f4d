"""Trajectories on disk: Minari datasets (Farama's format, HDF5), and their conversion, once, into columns.

Datasets are written in Minari's own layout with h5py directly: one contiguous dataset per column and episode, images
lossless. Minari's writer loops over every frame and chunks (twice the time and 1.5 times the size).
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
from gymnasium import spaces
from minari.dataset.minari_storage import MinariStorage

from envs.columns import MIN_STEPS, Columns, ColumnsWriter, open_columns, read_meta

MAIN_FILE = "main_data.hdf5"
META_KEYS = ("split", "family", "episodes", "scenes", "horizon", "expert_share", "seed", "image_size", "kinds", "yaw", "linger", "elsewhere", "discarded")
IMAGE_KEYS = ("image", "observation", "pixels", "achieved_goal")  # where a dataset's pictures are looked for, in order


@dataclass(frozen=True)
class Episode:
    """One trajectory of T steps.

    Attributes:
        image: (T + 1, H, W, 3) uint8. proprio: (T + 1, P) float32. state: (T + 1, S) float32. action: (T, A) float32.
        scene: the scene's number in its split. number: the episode's own number. policy: "expert" or "random".
        thing: the number of what the expert meant to do in its scene (on the tabletop the thing to move), -1 for a random policy.
    """

    image: np.ndarray
    proprio: np.ndarray
    state: np.ndarray
    action: np.ndarray
    scene: int
    number: int
    policy: str
    thing: int = -1


class MinariWriter:
    """Writes episodes as a Minari dataset; the folder appears in one move on `close`, whole or not at all.

    Args:
        path: the dataset's folder.
        split: which scenes they are, "train" or "held_out".
        env_spec: what `MinariDataset.recover_environment` makes.
        description: a sentence for people.
    """

    def __init__(self, path: str | Path, split: str, env_spec: Any = None, description: str = "") -> None:
        # absolute, since Minari joins a relative path to itself
        self.path, self.split, self.env_spec, self.description = Path(path).resolve(), split, env_spec, description
        self._begun = self.path.with_name(f".{self.path.name}.tmp-{os.getpid()}")
        shutil.rmtree(self._begun, ignore_errors=True)
        self._begun.parent.mkdir(parents=True, exist_ok=True)
        self._file: h5py.File | None = None
        self._episodes = self._steps = 0

    def _open(self, episode: Episode) -> h5py.File:
        """Makes the folder when the first episode shows what its spaces are."""
        observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, episode.image.shape[1:], np.uint8),
                "proprio": spaces.Box(-np.inf, np.inf, episode.proprio.shape[1:], np.float32),
            }
        )
        action_space = spaces.Box(-1.0, 1.0, episode.action.shape[1:], np.float32)
        storage = MinariStorage.new(self._begun, observation_space, action_space, self.env_spec, jpeg_encoding=False)
        del storage
        return h5py.File(self._begun / MAIN_FILE, "w", track_order=True)

    def append(self, episode: Episode) -> None:
        """Adds one episode; its id is the count of those before it."""
        if self._file is None:
            self._file = self._open(episode)
        steps = len(episode.action)
        group = self._file.create_group(f"episode_{self._episodes}")
        attributes = {
            "id": self._episodes, "seed": episode.number, "total_steps": steps, "options/policy": episode.policy,
            "options/scene": f"{self.split}/{episode.scene}", "options/thing": episode.thing,
        }  # fmt: skip
        for name, value in attributes.items():
            group.attrs[name] = value
        truncations = np.zeros(steps, bool)
        truncations[-1] = True  # a time limit, not a terminal state
        leaves = {
            "observations/image": episode.image, "observations/proprio": episode.proprio, "actions": episode.action,
            "infos/state": episode.state, "infos/scene": np.full(steps + 1, episode.scene, np.int64),
            "rewards": np.zeros(steps, np.float32), "terminations": np.zeros(steps, bool), "truncations": truncations,
        }  # fmt: skip
        for name, values in leaves.items():
            group.create_dataset(name, data=values)
        self._episodes, self._steps = self._episodes + 1, self._steps + steps

    def close(self, dataset_id: str, metadata: dict[str, Any] | None = None) -> Path:
        """Finishes the dataset and puts it in its place. Raises ValueError if there are no episodes."""
        if self._file is None:
            raise ValueError(f"{self.path}: no episodes to write")
        self._file.close()
        storage = MinariStorage.read(self._begun)
        storage.update_metadata(
            {
                "dataset_id": dataset_id, "minari_version": minari.__version__, "total_episodes": self._episodes,
                "total_steps": self._steps, "dataset_size": storage.get_size(), "description": self.description,
                "algorithm_name": "scripted expert and OU random policy", "author": {"imagoal"}, **(metadata or {}),
            }
        )  # fmt: skip
        shutil.rmtree(self.path, ignore_errors=True)
        self._begun.rename(self.path)
        return self.path

    def __enter__(self) -> "MinariWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if self._file is not None:
                self._file.close()  # on a full disk this fails too
        finally:
            shutil.rmtree(self._begun, ignore_errors=True)


def is_minari(path: str | Path) -> bool:
    """Whether the folder looks like a Minari dataset."""
    return (Path(path) / "metadata.json").is_file() or (Path(path) / MAIN_FILE).is_file()


def stamp(path: str | Path) -> dict[str, Any]:
    """What tells a dataset from a changed one: size and time of its files."""
    parts = [p for p in sorted(Path(path).iterdir()) if p.suffix in (".hdf5", ".json", ".arrow")]
    return {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in parts}


def read_minari(path: str | Path) -> MinariStorage:
    """The dataset's storage. Raises ValueError where it is missing or cannot be read."""
    try:
        storage = MinariStorage.read(Path(path).resolve())
        if storage.FORMAT == "hdf5":
            h5py.File(Path(path) / MAIN_FILE, "r").close()
    except (OSError, KeyError, AssertionError, gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"{path} cannot be read as a Minari dataset: {error or type(error).__name__}") from error
    if storage.total_episodes < 1:
        raise ValueError(f"{path}: the dataset holds no episodes")
    return storage


def _split(observations: Any, path: str | Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (T + 1, H, W, 3) and proprio (T + 1, P) of one episode's observations."""
    parts = observations if isinstance(observations, dict) else {"image": observations}
    name = next((key for key in IMAGE_KEYS if key in parts and np.ndim(parts[key]) == 4), None)
    if name is None:
        raise ValueError(f"{path}: episode {number} has no pictures (T, H, W, 3) among its observations {sorted(parts)}")
    image = np.asarray(parts[name])
    proprio = np.asarray(parts.get("proprio", np.zeros((len(image), 0))), np.float32)
    return image, proprio


def _episodes(storage: MinariStorage, path: str | Path) -> Iterator[tuple[np.ndarray, ...]]:
    """(image, proprio, action, state, scene) of each episode, checked one by one."""
    records = iter(storage.get_episodes(range(storage.total_episodes)))
    for number in range(storage.total_episodes):
        try:
            record = next(records)
            image, proprio = _split(record["observations"], path, number)
        except (OSError, KeyError) as error:
            raise ValueError(f"{path}: episode {number} cannot be read: {error}") from error
        action = np.asarray(record["actions"], np.float32).reshape(len(record["actions"]), -1)
        if len(action) < MIN_STEPS:
            raise ValueError(f"{path}: episode {number} has {len(action)} steps, an episode needs at least {MIN_STEPS}")
        if not np.isfinite(action).all():
            step = int(np.argmax(~np.isfinite(action).all(-1)))
            raise ValueError(f"{path}: episode {number} has an action that is NaN or infinite at step {step}")
        infos = record.get("infos") or {}
        state = np.asarray(infos.get("state", np.zeros((len(image), 0))), np.float32)
        yield image, proprio, action, state, np.ravel(infos.get("scene", 0))[:1]


def columns_from_minari(path: str | Path, folder: str | Path) -> Columns:
    """The dataset at `path` as memory-mapped columns in `folder`: converted once, opened afterwards.

    The conversion is done again when the dataset's files have changed since. Read are: pictures under one of
    `IMAGE_KEYS` (or as the whole observation), `proprio` beside them, actions, and infos `state` and `scene` if there.

    Raises:
        ValueError: if the dataset cannot be read, has no pictures, or is bad (see `envs.columns.validate`); the message
            names the episode.
    """
    path, folder = Path(path), Path(folder)
    storage = read_minari(path)
    source = stamp(path)
    meta = read_meta(folder)
    if meta is not None and meta.get("source") == source:
        return open_columns(folder)
    episodes, rows = storage.total_episodes, storage.total_steps + storage.total_episodes
    metadata = storage.metadata
    kept = {key: metadata[key] for key in (*META_KEYS, "dataset_id") if key in metadata}
    writer: ColumnsWriter | None = None
    try:
        for image, proprio, action, state, scene in _episodes(storage, path):
            if writer is None:
                widths = proprio.shape[1], action.shape[1], state.shape[1]
                writer = ColumnsWriter(folder, rows, episodes, image.shape[1:], *widths)
            writer.append(image, proprio, action, state, int(scene[0]))
        assert writer is not None  # read_minari refuses a dataset without episodes
        return writer.close({"source": source, **kept})
    except ValueError as error:
        where = str(path)
        raise error if where in str(error) else ValueError(f"{where}: {error}") from error
    finally:
        if writer is not None:
            writer.__exit__()


def write_both(
    episodes: Iterable[Episode], dataset: str | Path, folder: str | Path, *, count: int, rows: int,
    split: str, meta: dict[str, Any], env_spec: Any = None, description: str = "",
) -> Columns:  # fmt: skip
    """Writes episodes as a Minari dataset and as its columns in one pass; the same as `columns_from_minari` afterwards.

    Args:
        episodes: `count` of them, with `rows` observations in all.
        dataset, folder: where the dataset and the columns go.
        split, env_spec, description: see `MinariWriter`. meta: kept in the dataset's metadata and in the columns.
    """
    columns: ColumnsWriter | None = None
    dataset_id = f"imagoal/{meta.get('family', 'tabletop')}-v0"
    try:
        with MinariWriter(dataset, split, env_spec, description) as writer:
            for e in episodes:
                if columns is None:
                    widths = e.proprio.shape[1], e.action.shape[1], e.state.shape[1]
                    columns = ColumnsWriter(folder, rows, count, e.image.shape[1:], *widths)
                writer.append(e)
                columns.append(e.image, e.proprio, e.action, e.state, e.scene)
            writer.close(dataset_id, {"split": split, **meta})
        assert columns is not None  # MinariWriter refuses to close without episodes
        return columns.close({"source": stamp(dataset), "dataset_id": dataset_id, "split": split, **meta})
    finally:
        if columns is not None:
            columns.__exit__()
