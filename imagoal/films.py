"""Pictures and films as bytes and files: small lossless images, animated WebP for reports, GIF for everywhere else.

All images are uint8 RGB, (H, W, 3); films are (T, H, W, 3), in any array numpy can read.
"""

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from imagoal.disk import write_atomic

LOSSLESS_UP_TO = 64  # pixels; larger films are stored lossily, which nobody sees and which is ten times smaller


def images_array(images: ArrayLike, ndim: int) -> NDArray[np.uint8]:
    """`images` as a uint8 array of `ndim` axes ending in 3 channels; ValueError says what it was instead."""
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != ndim or array.shape[-1] != 3 or 0 in array.shape:
        expected = "(T, H, W, 3)" if ndim == 4 else "(H, W, 3)"
        raise ValueError(f"expected uint8 images {expected}, got {array.dtype} {array.shape}")
    return array


def upscale_nearest(images: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Every pixel becomes factor x factor pixels; (..., H, W, 3)."""
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def thin(frames: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """At most `most` frames, evenly spaced, first and last kept."""
    if len(frames) <= most:
        return frames
    return frames[np.linspace(0, len(frames) - 1, most).round().astype(np.int64)]


def encode_image(image: ArrayLike) -> bytes:
    """Lossless WebP of one (H, W, 3) image: about half the size of the PNG."""
    buffer = io.BytesIO()
    Image.fromarray(images_array(image, 3)).save(buffer, "WEBP", lossless=True, quality=60, method=4)
    return buffer.getvalue()


def encode_film(frames: ArrayLike, fps: float, format: str = "WEBP", pause: float = 1.0) -> bytes:
    """A film that loops for ever and rests `pause` seconds on its last frame. `format` is "WEBP" or "GIF".

    Raises ValueError for wrong arrays, fps <= 0 or another format.
    """
    array = images_array(frames, 4)
    if fps <= 0 or format not in ("WEBP", "GIF"):
        raise ValueError(f"need fps > 0 and format WEBP or GIF, got fps={fps}, format={format!r}")
    pictures = [Image.fromarray(frame) for frame in array]
    duration = max(20, round(1000 / fps))
    durations = [duration] * (len(pictures) - 1) + [duration + round(1000 * pause)]
    options: dict[str, object] = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    if format == "WEBP":
        options |= {"lossless": max(array.shape[1:3]) <= LOSSLESS_UP_TO, "quality": 75, "method": 3}
    else:
        palette = _palette(array)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
        options |= {"append_images": pictures[1:], "optimize": False, "disposal": 1}
    buffer = io.BytesIO()
    pictures[0].save(buffer, format, **options)
    return buffer.getvalue()


def _palette(frames: NDArray[np.uint8]) -> Image.Image:
    """One palette of 256 colours for a whole film, so that still pixels do not flicker."""
    sample = thin(frames, 16)
    mosaic = Image.fromarray(sample.reshape(-1, sample.shape[2], 3))
    return mosaic.quantize(256, method=Image.Quantize.MEDIANCUT)


def save_film(path: str | Path, frames: ArrayLike, fps: float = 15.0, upscale: int = 1) -> Path:
    """Write (T, H, W, 3) frames as .gif or .webp, whichever `path` ends in; atomic. Raises ValueError for other endings."""
    path = Path(path)
    formats = {".gif": "GIF", ".webp": "WEBP"}
    if path.suffix.lower() not in formats:
        raise ValueError(f"a film ends in .gif or .webp, got {path.name!r}")
    enlarged = upscale_nearest(images_array(frames, 4), upscale)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_atomic(path, encode_film(enlarged, fps, formats[path.suffix.lower()]))


def data_uri(data: bytes) -> str:
    """`data:` address of an image's bytes; the kind is read from its first bytes (PNG, GIF or WebP)."""
    kinds = {b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp"}
    if data[:4] not in kinds:
        raise ValueError(f"expected PNG, GIF or WebP bytes, they begin with {data[:4]!r}")
    return f"data:image/{kinds[data[:4]]};base64,{base64.b64encode(data).decode()}"
