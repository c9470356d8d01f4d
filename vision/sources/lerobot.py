"""LeRobot datasets, read with pyarrow and OpenCV: versions 2 (a file per episode) and 3 (episodes are slices of files).

Pictures lie in videos or, encoded, in the parquet files as structs {bytes, path}.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vision.sources.base import Found, Part, Settings, Source, Unit, choose_column, grouped, is_kept, natural
from vision.sources.pixels import UNREADABLE, square_image
from vision.sources.video import Video

INFO = "meta/info.json"
STATE = "observation.state"
_BROKEN = (pa.ArrowException, OSError, KeyError, ValueError)  # what a damaged parquet file raises
_DATA = {2: "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
         3: "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"}  # fmt: skip
_VIDEO = {2: "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
          3: "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"}  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """An episode: its number, its frames (-1: as many as its table has rows) and its first frame in the video."""

    number: int
    length: int
    first_frame: int


@dataclass(frozen=True)
class LeRobotEpisodes(Unit):
    """Episodes that share a parquet file and a video.

    Attributes:
        root: the dataset. table, video: paths below it; video is "" for pictures in the table.
        key: the camera. fps: frames per second wanted (0: all). native: those there are. state: whether to read states.
        wide: whether the table holds other episodes too.
    """

    root: str
    table: str
    video: str
    key: str
    episodes: tuple[Slice, ...]
    fps: float
    native: float
    state: bool
    wide: bool

    @property
    def items(self) -> int:  # type: ignore[override]
        return len(self.episodes)

    def read(self, part: Part) -> None:
        try:
            numbers, state, encoded = self._table()
        except _BROKEN as error:
            for episode in self.episodes:
                part.skip(f"episode {episode.number}", f"{self.table} cannot be read: {error}")
            return
        video, why = None, ""
        if self.video:
            try:
                video = Video(Path(self.root, self.video))
            except ValueError as error:
                why = f"{self.video} {error}"
        for episode in self.episodes:
            what = f"episode {episode.number}"
            rows = np.flatnonzero(numbers == episode.number)
            if episode.length >= 0 and len(rows) != episode.length:
                part.skip(what, f"{self.table} has {len(rows)} of its {episode.length} rows")
            elif video is not None:
                video = self._from_video(part, video, episode, state[rows], what)
            elif self.video:
                part.skip(what, why)
            else:
                self._from_table(part, [encoded[row] for row in rows], state[rows], what)
        if video is not None:
            video.close()

    def _table(self) -> tuple[np.ndarray, np.ndarray, list[Any]]:
        """Each row's episode (n,), state (n, S) and encoded picture (empty for videos)."""
        columns = ["episode_index", *([STATE] if self.state else []), *([] if self.video else [self.key])]
        numbers = [episode.number for episode in self.episodes]
        within = [("episode_index", ">=", min(numbers)), ("episode_index", "<=", max(numbers))] if self.wide else None
        table = pq.read_table(Path(self.root, self.table), columns=columns, filters=within, partitioning=None, use_threads=False)
        n = table.num_rows
        state = np.zeros((n, 0), np.float32)
        if self.state and n:
            state = np.array(table[STATE].to_pylist(), np.float32).reshape(n, -1)
        return np.asarray(table["episode_index"]), state, [] if self.video else table[self.key].to_pylist()

    def _from_video(self, part: Part, video: Video, episode: Slice, state: np.ndarray, what: str) -> Video:
        """Reads the episode's frames; returns the video to go on with."""
        if not video.seek(episode.first_frame):  # then by counting from the start
            video.close()
            video = Video(Path(self.root, self.video))
            for _ in range(episode.first_frame):
                if not video.skip():
                    break
        for i in range(len(state)):
            if not is_kept(i, self.fps, self.native):
                good = video.skip()
            else:
                frame = video.read(part.image_size)
                good = frame is not None
                if frame is not None:
                    part.add(frame, state[i : i + 1])
            if not good:
                part.undo()
                part.skip(what, f"{self.video}: only {i} of its {len(state)} frames can be decoded")
                return video
        part.end(what)
        return video

    def _from_table(self, part: Part, encoded: list[Any], state: np.ndarray, what: str) -> None:
        for i, cell in enumerate(encoded):
            if not is_kept(i, self.fps, self.native):
                continue
            try:
                inside = cell["bytes"] if isinstance(cell, dict) else cell
                source = io.BytesIO(inside) if inside else Path(self.root, cell["path"])
                with Image.open(source) as image:
                    picture = square_image(image, part.image_size)
            except (*UNREADABLE, TypeError, KeyError) as error:
                part.undo()
                part.skip(what, f"picture {i}: {type(error).__name__}: {error}")
                return
            part.add(picture[None], state[i : i + 1])
        part.end(what)


def _info(path: Path) -> dict[str, Any]:
    """meta/info.json. Raises ValueError where it is broken."""
    try:
        info = json.loads((path / INFO).read_text())
        if not isinstance(info.get("features"), dict):
            raise ValueError("it has no features")
        return dict(info)
    except (ValueError, AttributeError, OSError) as error:
        raise ValueError(f"{path / INFO} cannot be read as that of a LeRobot dataset: {error}") from error


def _source(path: Path, settings: Settings) -> Source:
    info = _info(path)
    features = info["features"]
    texts = {name: f"{f.get('dtype')} {f.get('shape')}" for name, f in features.items()}
    cameras = [name for name, f in features.items() if f.get("dtype") in ("video", "image") and not _is_depth(f)]
    key = choose_column(cameras, texts, settings.image_key, path.name)
    try:
        version = int(str(info.get("codebase_version", "v2.0")).lstrip("v").split(".")[0])
    except ValueError:
        version = 0
    if version not in _DATA:
        raise ValueError(f"{path}: LeRobot version {info.get('codebase_version')} is not read; convert it to v2.x or v3.0")
    native = float(info.get("fps") or 0)
    if settings.fps and not native:
        raise ValueError(f"fps={settings.fps:g}: {path / INFO} says no fps to choose from; leave fps=0")
    data = info.get("data_path") or _DATA[version]
    video = (info.get("video_path") or _VIDEO[version]) if features[key]["dtype"] == "video" else ""
    state = features.get(STATE)
    width = int(np.prod(state.get("shape") or [1], dtype=int)) if state else 0

    def unit(table: str, film: str, episodes: Sequence[Slice]) -> LeRobotEpisodes:
        return LeRobotEpisodes(
            str(path), table, film, key, tuple(episodes), settings.fps, native, state is not None, version == 3
        )

    units = _version_2(path, info, data, video, key, unit) if version == 2 else _version_3(path, data, video, key, native, unit)
    if not units:
        raise ValueError(f"{path}: the dataset holds no episodes")
    return Source("episodes", units, True, width)


def _is_depth(feature: dict[str, Any]) -> bool:
    """Whether a camera's pictures are distances."""
    info = feature.get("info") or feature.get("video_info") or {}
    return bool(info.get("video.is_depth_map") or info.get("is_depth_map"))


def _version_2(path: Path, info: dict[str, Any], data: str, video: str, key: str, unit: Any) -> list[LeRobotEpisodes]:
    """A file per episode."""
    lengths: dict[int, int] = {}
    listing = path / "meta" / "episodes.jsonl"
    try:
        if listing.is_file():
            for line in listing.read_text().splitlines():
                if line.strip():
                    row = json.loads(line)
                    lengths[int(row["episode_index"])] = int(row.get("length", -1))
        else:
            lengths = dict.fromkeys(range(int(info.get("total_episodes", 0))), -1)
        units = []
        for number, length in sorted(lengths.items()):
            place = {"episode_chunk": number // int(info.get("chunks_size") or 1000), "episode_index": number, "video_key": key}
            units.append(unit(data.format(**place), video.format(**place), [Slice(number, length, 0)]))
        return units
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: the list of episodes cannot be read ({type(error).__name__}: {error})") from error


def _version_3(path: Path, data: str, video: str, key: str, native: float, unit: Any) -> list[LeRobotEpisodes]:
    """Episodes are slices of parquet files and of videos, by their timestamps."""
    films = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")] if video else []
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index", *films]
    found = []
    for listing in sorted((path / "meta" / "episodes").rglob("*.parquet"), key=natural):
        try:
            table = pq.read_table(listing, columns=columns, partitioning=None, use_threads=False).to_pylist()
        except _BROKEN as error:
            raise ValueError(f"{listing}: the list of episodes cannot be read: {error}") from error
        for row in table:
            film, first = "", 0
            if video:
                film = video.format(video_key=key, chunk_index=row[films[0]], file_index=row[films[1]])
                first = round(row[films[2]] * native)
            place = data.format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
            found.append((place, film, Slice(row["episode_index"], row["length"], first)))
    found.sort(key=lambda episode: episode[2].number)
    units = []
    for (place, film), several in groupby(found, key=lambda episode: episode[:2]):
        slices = [episode[2] for episode in several]
        units += [unit(place, film, slices[cut]) for cut in grouped([s.length for s in slices])]
    return units


def find(path: Path, files: list[Path]) -> Found:
    """The dataset at `path`."""
    return Found("lerobot", path, files, lambda settings: _source(path, settings))
