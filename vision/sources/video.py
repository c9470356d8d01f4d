"""Videos, read with OpenCV: each one a trajectory."""

import multiprocessing
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # broken videos are reported by us, once

import cv2
import imageio_ffmpeg
import numpy as np

from vision.sources.base import Found, Part, Settings, Source, Unit, is_kept, names_of, natural, refuse_key
from vision.sources.pixels import fit

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # not its warning for each video it cannot open
SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ogv"})
MISSING = 0.05  # share of the frames a video declares that may be missing: containers estimate, players forgive


class Video:
    """An open video. Raises ValueError if it cannot be opened.

    What OpenCV opens but cannot decode is read through ffmpeg: its wheels lack AV1, in which LeRobot writes.

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
        self._next = 0  # the frame that is read next
        self._held = bool(self._capture.grab())  # it has been taken from the video already
        self._pipe = None if self._held or not self.fps else _Pipe(path, self.fps, self._side())

    def _side(self) -> int:
        """Pixels of the shorter side."""
        return int(min(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH), self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))

    def seek(self, frame: int) -> bool:
        """Makes `frame` the next to be read. False where the video ends before it or the container cannot say."""
        if frame != self._next and self._pipe is None:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
            self._held = False
            if frame != round(self._capture.get(cv2.CAP_PROP_POS_FRAMES)):
                return False
        self._next = frame
        return True

    def skip(self) -> bool:
        """Passes over a frame; False at the end."""
        if self._pipe is not None:
            good = self._pipe.skip(self._next)
        else:
            good = self._held or bool(self._capture.grab())
            self._held = False
        self._next += 1
        return good

    def read(self, image_size: int) -> np.ndarray | None:
        """The next frame as (1, image_size, image_size, 3) RGB, None at the end."""
        if self._pipe is not None:
            frame = self._pipe.read(self._next, image_size)
        else:
            good, taken = self._capture.retrieve() if self._held else self._capture.read()
            frame = np.ascontiguousarray(fit(taken, image_size)[..., ::-1]) if good else None
            self._held = False
        self._next += 1
        return None if frame is None else frame[None]

    def close(self) -> None:
        """Frees the decoder."""
        self._capture.release()
        if self._pipe is not None:
            self._pipe.close()


class _Pipe:
    """Frames of a video through an ffmpeg process, which crops and resizes them. It begins with the first frame read."""

    def __init__(self, path: str | Path, fps: float, side: int) -> None:
        self._path, self._fps, self._side = str(path), fps, side
        self._process: subprocess.Popen[bytes] | None = None
        self._at = self._bytes = 0

    def _begin(self, frame: int, image_size: int) -> None:
        self.close()
        how = "area" if self._side > image_size else "lanczos"
        picture = f"crop=min(iw\\,ih):min(iw\\,ih),scale={image_size}:{image_size}:flags={how}"
        begin = ["-ss", f"{(frame - 0.5) / self._fps:.6f}"] if frame else []  # between the frame before and this one
        threads = ["-threads", "1"] if multiprocessing.parent_process() else []
        self._process = subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "quiet", "-nostdin", *threads, *begin, "-i", self._path,
             "-map", "0:v:0", "-vf", picture, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._at, self._bytes = frame, image_size * image_size * 3

    def _take(self) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        self._at += 1
        return self._process.stdout.read(self._bytes)

    def skip(self, frame: int) -> bool:
        """Passes over `frame`; before the first one read, this costs nothing."""
        return self._process is None or frame != self._at or len(self._take()) == self._bytes

    def read(self, frame: int, image_size: int) -> np.ndarray | None:
        """`frame` as (image_size, image_size, 3) RGB, None behind the end."""
        if self._process is None or frame != self._at:
            self._begin(frame, image_size)
        data = self._take()
        if len(data) != self._bytes:
            return None
        return np.frombuffer(data, np.uint8).reshape(image_size, image_size, 3)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


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
        refuse_key(settings, "a video")
        root = path if path.is_dir() else path.parent
        units = [WholeVideo(str(root), name, settings.fps) for name in sorted(names_of(files, root), key=natural)]
        return Source("videos", units, trajectories=True)

    return Found("video", path, files, source)
