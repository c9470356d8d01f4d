"""HDF5 files: one array of pictures, or groups of episodes that each hold one (as robomimic's `data/demo_0/obs/image`)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vision.sources.arrays import (
    BROKEN,
    STATES,
    Arrays,
    Span,
    Spans,
    described,
    in_groups,
    one_array,
    state_width,
    step_of,
)
from vision.sources.base import ENDINGS, Found, Settings, Source, choose_column, natural, refuse_fps
from vision.sources.pixels import is_pictures

SUFFIXES = frozenset({".hdf5", ".h5", ".hdf"})
EPISODE = re.compile(r"(?:demo|episode|ep|traj|trajectory|rollout|sequence|seq)?[_-]?[0-9]+", re.IGNORECASE)


class _File:
    """An open file, as `Arrays`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def rows(self, name: str, episode: int, start: int, end: int) -> np.ndarray:
        array = self._file[name]
        return np.asarray(array[start:end] if episode < 0 else array[episode, start:end])


@dataclass(frozen=True)
class Hdf5Spans(Spans):
    """Spans of an HDF5 file."""

    @contextmanager
    def open(self) -> Iterator[Arrays]:
        with h5py.File(self.path, "r") as file:
            yield _File(file)


def _template(name: str) -> tuple[str, str]:
    """An array's name with its episode replaced by *, and the name of that episode's group ("" where there is none)."""
    words = name.split("/")
    for i, word in enumerate(words):
        if EPISODE.fullmatch(word):
            return "/".join([*words[:i], "*", *words[i + 1 :]]), "/".join(words[: i + 1])
    for i, word in enumerate(words[:-1]):  # groups of any name that are numbered
        if word[-1:].isdigit():
            return "/".join([*words[:i], "*", *words[i + 1 :]]), "/".join(words[: i + 1])
    return name, ""


def _arrays(file: h5py.File) -> tuple[dict[str, h5py.Dataset], list[tuple[str, str]]]:
    """All arrays of a file by name, and those that cannot be opened."""
    found: dict[str, h5py.Dataset] = {}
    broken: list[tuple[str, str]] = []

    def walk(group: h5py.Group) -> None:
        for key in group:
            name = f"{group.name}/{key}".strip("/")
            try:
                thing = group[key]
                if isinstance(thing, h5py.Dataset):
                    thing.shape, thing.dtype  # noqa: B018 - a damaged header says so here
            except BROKEN as error:
                broken.append((name, f"{type(error).__name__}: {error}"))
                continue
            if isinstance(thing, h5py.Group):
                walk(thing)
            elif thing.shape is not None:
                found[name] = thing

    walk(file)
    return found, broken


def _source(path: Path, settings: Settings) -> Source:
    refuse_fps(settings, "an HDF5 file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} cannot be read as HDF5: {error}") from error
    with file:
        try:
            arrays, broken = _arrays(file)
        except BROKEN as error:
            raise ValueError(f"{path}: the file is damaged, its groups cannot be listed: {error}") from error
        if not arrays:
            raise ValueError(f"{path} holds no arrays" + (f"; {broken[0][0]}: {broken[0][1]}" if broken else ""))
        columns: dict[str, list[str]] = {}
        for name in arrays:
            columns.setdefault(_template(name)[0], []).append(name)
        pictures = [c for c, names in columns.items() if any(is_pictures(arrays[n].shape, arrays[n].dtype) for n in names)]
        texts = {c: described(arrays[names[0]].shape, arrays[names[0]].dtype) for c, names in columns.items()}
        column = choose_column(pictures, texts, settings.image_key, path.name)
        if "*" in column.split("/"):
            return _episodes(path, arrays, column, sorted(columns[column], key=natural), broken)
        return _flat(path, file, arrays, column)


def _episodes(
    path: Path, arrays: dict[str, h5py.Dataset], column: str, names: list[str], broken: list[tuple[str, str]]
) -> Source:
    """Groups of episodes, each with its array of pictures."""
    skipped = [(name, why) for name, why in broken if _template(name)[0] == column or name.rpartition("/")[2][-1:].isdigit()]
    good, states = [], []
    for name in names:
        array, group = arrays[name], _template(name)[1]
        if not is_pictures(array.shape, array.dtype) or len(array.shape) == 5:
            skipped.append((name, f"{described(array.shape, array.dtype)} is no array of pictures"))
            continue
        beside = [f"{where}/{state}" for where in (name.rpartition("/")[0], group) for state in STATES]
        states.append(next((s for s in beside if s in arrays and state_width(arrays[s].shape, array.shape[:1])), ""))
        good.append(name)
    widths = {state_width(arrays[s].shape, arrays[n].shape[:1]) if s else 0 for n, s in zip(good, states, strict=True)}
    width = widths.pop() if len(widths) == 1 else 0
    spans = [
        Span(name, name, 0, len(arrays[name]), -1, state if width else "", step_of(arrays[name].shape, arrays[name].dtype))
        for name, state in zip(good, states, strict=True)
    ]
    return Source("episodes", in_groups(Hdf5Spans, path, spans), True, width, skipped)


def _flat(path: Path, file: h5py.File, arrays: dict[str, h5py.Dataset], column: str) -> Source:
    """One array: loose pictures, or episodes that arrays beside it tell apart, or (E, T, ...)."""
    near = {}
    for where in ("", "meta", column.rpartition("/")[0]):
        near.update({key: f"{where}/{key}".strip("/") for key in (*ENDINGS, *STATES) if f"{where}/{key}".strip("/") in arrays})
    return one_array(Hdf5Spans, path, column, arrays, near, lambda name: np.asarray(file[name][()]))


def find(path: Path) -> Found:
    """An HDF5 file."""
    return Found("hdf5", path, [path], lambda settings: _source(path, settings))
