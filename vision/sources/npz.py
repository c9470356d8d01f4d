"""NumPy archives (`.npz`) and single arrays (`.npy`).

Arrays that lie in the archive as they are get mapped; compressed ones are streamed, never held whole.
"""

import functools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vision.sources.arrays import STATES, Arrays, Spans, described, one_array
from vision.sources.base import ENDINGS, Found, Settings, Source, choose_column, refuse_fps
from vision.sources.pixels import is_pictures

SUFFIXES = frozenset({".npz", ".npy"})
_DAMAGED = (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, struct.error, NotImplementedError)
_LOCAL_HEADER = 30  # bytes before a zip member's name


@dataclass(frozen=True)
class Member:
    """One array of a file. `offset` is where its bytes begin in the file; -1 for a compressed member."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads an array's header: shape, whether columns lie first, type."""
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)  # type: ignore[no-untyped-call]
    return tuple(shape), bool(fortran), dtype


def members(path: Path) -> dict[str, Member]:
    """The arrays of a file, by name, objects left out. Raises one of `_DAMAGED`."""
    if path.suffix.lower() == ".npy":
        with open(path, "rb") as file:
            shape, fortran, dtype = _header(file)
            found = Member(path.stem, shape, dtype, fortran, file.tell())
        if path.stat().st_size < found.offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            raise ValueError("the file is shorter than its header says: truncated")
        return {path.stem: found}
    arrays = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as raw:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as stream:
                shape, fortran, dtype = _header(stream)
                inside = stream.tell()
            offset = _data_start(raw, info) + inside if info.compress_type == zipfile.ZIP_STORED else -1
            if not dtype.hasobject:
                arrays[name] = Member(name, shape, dtype, fortran, offset)
    return arrays


def _data_start(raw: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header, whose name and extra field vary in length."""
    raw.seek(info.header_offset)
    header = raw.read(_LOCAL_HEADER)
    name, extra = struct.unpack("<HH", header[26:30])
    return info.header_offset + _LOCAL_HEADER + int(name) + int(extra)


class _Stream:
    """A compressed array, read forward; going back begins anew."""

    def __init__(self, path: str, member: Member) -> None:
        self._path, self._member = path, member
        lead = 2 if len(member.shape) == 5 else 1
        self._row = member.shape[lead:]
        self._row_bytes = int(np.prod(self._row, dtype=np.int64)) * member.dtype.itemsize
        self.per_episode = member.shape[1] if lead == 2 else 0
        self._begin()

    def _begin(self) -> None:
        self._archive = zipfile.ZipFile(self._path)
        self._stream = self._archive.open(f"{self._member.name}.npy")
        _header(self._stream)
        self._at = 0

    def rows(self, start: int, end: int) -> np.ndarray:
        """Rows [start, end) of the array without its division into episodes."""
        if start < self._at:
            self._begin()
        while self._at < start:
            self._read(min(start - self._at, 64))
        data = self._read(end - start)
        return np.frombuffer(data, self._member.dtype).reshape(end - start, *self._row)

    def _read(self, rows: int) -> bytes:
        wanted = rows * self._row_bytes
        try:
            data = self._stream.read(wanted)
            if len(data) != wanted:
                raise EOFError("it ends too early")
        except (zlib.error, zipfile.BadZipFile, EOFError) as error:  # nothing behind the damage can be read either
            raise ValueError(f"{self._path}: {self._member.name} is damaged behind picture {self._at}: {error}") from error
        self._at += rows
        return data


@functools.lru_cache(maxsize=1)
def _stream(path: str, member: Member, mtime: int) -> _Stream:
    """One stream stays open from unit to unit."""
    return _Stream(path, member)


@functools.lru_cache(maxsize=4)
def _whole(path: str, name: str, mtime: int) -> np.ndarray:
    """A small array of the file, or one that cannot be streamed."""
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[name])


class _File:
    """A file, as `Arrays`."""

    def __init__(self, path: str, pictures: Member) -> None:
        self._path, self._pictures, self._mtime = path, pictures, Path(path).stat().st_mtime_ns

    def rows(self, name: str, episode: int, start: int, end: int) -> np.ndarray:
        member = self._pictures
        if name != member.name:
            array = _whole(self._path, name, self._mtime)
        elif member.offset >= 0:
            order = "F" if member.fortran else "C"
            array = np.memmap(self._path, member.dtype, "r", member.offset, member.shape, order)  # type: ignore[call-overload]
        elif member.fortran:
            array = _whole(self._path, name, self._mtime)
        else:
            stream = _stream(self._path, member, self._mtime)
            before = max(episode, 0) * stream.per_episode
            return stream.rows(before + start, before + end)
        return np.asarray(array[start:end] if episode < 0 else array[episode, start:end])


@dataclass(frozen=True)
class NpzSpans(Spans):
    """Spans of a NumPy file."""

    pictures: Member

    @contextmanager
    def open(self) -> Iterator[Arrays]:
        yield _File(self.path, self.pictures)


def _source(path: Path, settings: Settings) -> Source:
    refuse_fps(settings, "a NumPy file")
    try:
        arrays = members(path)
    except _DAMAGED as error:
        raise ValueError(f"{path} cannot be read as a NumPy file: {error}") from error
    if not arrays:
        raise ValueError(f"{path} holds no arrays of numbers (pickled objects are not read)")
    texts = {name: described(a.shape, a.dtype) for name, a in arrays.items()}
    column = choose_column([n for n, a in arrays.items() if is_pictures(a.shape, a.dtype)], texts, settings.image_key, path.name)
    near = {key: key for key in (*ENDINGS, *STATES) if key in arrays}
    mtime, found = path.stat().st_mtime_ns, arrays[column]
    return one_array(
        NpzSpans, path, column, arrays, near, lambda name: _whole(str(path), name, mtime), serial=found.offset < 0, pictures=found
    )


def find(path: Path) -> Found:
    """A NumPy file."""
    return Found("npz", path, [path], lambda settings: _source(path, settings))
