"""Videos, read with OpenCV: each one a trajectory."""

import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # broken videos are reported by us, once

import cv2
import numpy as np

from vision.sources.base import Found, Part, Settings, Source, Unit, is_kept, names_of, natural
from vision.sources.pixels import fit

SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ogv"})
MISSING = 0.05  # share of the frames a video declares that may be missing: containers estimate, players forgive


class Video:
    """An open video. Raises ValueError if it cannot be opened.

    Attributes:
        fps: frames per second, 0 if unknown. declared: how many frames its container speaks of, 0 if unknown.
    """

    def __init__(self, path: str | Path) -> None:
        threads = [cv2.CAP_PROP_N_THREADS, 1] if multiprocessing.parent_process() else []  # workers share the cores
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, threads)
        if not self._capture.isOpened():
            raise ValueError("cannot be opened as a video: damaged, truncated, or of an unknown codec")
        fps, declared = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = float(fps) if np.isfinite(fps) and 0 < fps < 1000 else 0.0
        self.declared = int(declared) if np.isfinite(declared) and 0 < declared < 2**40 else 0

    def seek(self, frame: int) -> bool:
        """Makes `frame` the next to be read. False where the video ends before it or the container cannot say."""
        if frame == round(self._capture.get(cv2.CAP_PROP_POS_FRAMES)):
            return True
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
        return frame == round(self._capture.get(cv2.CAP_PROP_POS_FRAMES))

    def skip(self) -> bool:
        """Passes over a frame; False at the end."""
        return bool(self._capture.grab())

    def read(self, image_size: int) -> np.ndarray | None:
        """The next frame as (1, image_size, image_size, 3) RGB, None at the end."""
        good, frame = self._capture.read()
        return np.ascontiguousarray(fit(frame, image_size)[None, ..., ::-1]) if good else None

    def close(self) -> None:
        """Frees the decoder."""
        self._capture.release()


@dataclass(frozen=True)
class WholeVideo(Unit):
    """One video file."""

    folder: str
    name: str
    fps: float
    items: int = 1

    def read(self, part: Part) -> None:
        try:
            video = Video(Path(self.folder, self.name))
        except ValueError as error:
            part.skip(self.name, str(error))
            return
        if self.fps and not video.fps:
            part.skip(self.name, "says no frame rate, so none can be chosen; use fps=0")
            return
        decoded = 0
        while True:
            if not is_kept(decoded, self.fps, video.fps):
                if not video.skip():
                    break
            elif (frame := video.read(part.image_size)) is None:
                break
            else:
                part.add(frame)
            decoded += 1
        video.close()
        if video.declared - decoded > max(2, MISSING * video.declared):
            part.undo()
            part.skip(self.name, f"damaged or truncated: only {decoded} of {video.declared} frames can be decoded")
            return
        part.end(self.name)


def find(path: Path, files: list[Path]) -> Found:
    """A video file, or those of a folder."""

    def source(settings: Settings) -> Source:
        root = path if path.is_dir() else path.parent
        units = [WholeVideo(str(root), name, settings.fps) for name in sorted(names_of(files, root), key=natural)]
        return Source("videos", units, trajectories=True)

    return Found("video", path, files, source)
