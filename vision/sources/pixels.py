"""Pixels of any kind as square RGB pictures of 8 bits. NumPy, Pillow and OpenCV only: workers import this without torch."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})
# What Pillow raises for a file it cannot read: OSError (truncated, not an image), SyntaxError (broken PNG), the rest from
# inside decoders and from its guard against decompression bombs.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
CHANNELS = (1, 3, 4)
SMALLEST = 8  # pixels a side below which an array is not taken for pictures


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB: 16-bit grey is scaled to 8 bits (Pillow would clip it), transparency goes on white, floats
    in [0, 1] are scaled. Raises ValueError for other floats."""
    if image.mode == "F":
        return Image.fromarray(rgb8(np.asarray(image)[None])[0])
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        deep = image.mode.startswith("I;16") or values.max(initial=0) > 255
        return Image.fromarray((values // 257 if deep else values).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def square_image(image: Image.Image, image_size: int) -> UInt8[np.ndarray, "H W 3"]:
    """An open Pillow image as `(image_size, image_size, 3)`: see `read_image`."""
    image.draft(None, (2 * image_size, 2 * image_size))  # lets the JPEG decoder skip detail that resizing drops
    upright = ImageOps.exif_transpose(image)
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    square = to_rgb(upright.crop((left, top, left + side, top + side)))
    square = square.resize((image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(square, dtype=np.uint8)


def read_image(path: str | Path, image_size: int) -> UInt8[np.ndarray, "H W 3"]:
    """One file as `(image_size, image_size, 3)` uint8: turned as its EXIF says, cropped to the centre square, resized
    with Lanczos. Raises one of `UNREADABLE` when the file is truncated or no image."""
    with Image.open(path) as image:
        return square_image(image, image_size)


def fit(frame: UInt8[np.ndarray, "h w 3"], image_size: int) -> UInt8[np.ndarray, "H W 3"]:
    """A picture's centre square at `image_size` pixels a side: averaged where it shrinks, Lanczos where it grows, and
    untouched where it has that size."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    if side == image_size:
        return square
    how = cv2.INTER_AREA if side > image_size else cv2.INTER_LANCZOS4
    resized = cv2.resize(np.ascontiguousarray(square), (image_size, image_size), interpolation=how)
    return np.asarray(resized, np.uint8)


def is_pictures(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether an array looks like pictures: (N, H, W, C), (N, C, H, W), the same with episodes in front (E, T, ...), or
    grey (N, H, W) of unsigned integers; C in `CHANNELS`, H and W at least `SMALLEST`."""
    if dtype.kind not in "uifb" or 0 in shape[1:]:
        return False
    if len(shape) == 3:
        return dtype in (np.uint8, np.uint16) and min(shape[1:]) >= SMALLEST
    if len(shape) not in (4, 5):
        return False
    a, b, c = shape[-3:]
    return (c in CHANNELS and min(a, b) >= SMALLEST) or (a in CHANNELS and min(b, c) >= SMALLEST)


def rgb8(frames: np.ndarray) -> UInt8[np.ndarray, "N H W 3"]:
    """Pictures (N, H, W), (N, H, W, C) or (N, C, H, W) of any number type as RGB of 8 bits.

    16 bits are scaled, floats in [0, 1] too; grey is repeated, alpha goes on white. Raises ValueError for other shapes,
    for floats outside [0, 1] and for whole numbers outside 0..255.
    """
    if frames.ndim == 3:
        frames = frames[..., None]
    if frames.ndim == 4 and frames.shape[-1] not in CHANNELS and frames.shape[1] in CHANNELS:
        frames = frames.transpose(0, 2, 3, 1)
    if frames.ndim != 4 or frames.shape[-1] not in CHANNELS:
        raise ValueError(f"pictures must be (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels, not {frames.shape}")
    frames = _eight_bits(frames)
    if frames.shape[-1] == 4:
        alpha = frames[..., 3:].astype(np.float32) / 255
        frames = np.rint(frames[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.repeat(frames, 3, -1) if frames.shape[-1] == 1 else frames


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Any number type as uint8 (see `rgb8`)."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return (values // 257).astype(np.uint8)
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise ValueError(f"pictures of type {values.dtype} are not understood; give uint8, uint16 or floats in [0, 1]")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    most = 1 if values.dtype.kind == "f" else 255
    if not (0 <= low and high <= most):  # so written that NaN is refused too
        raise ValueError(
            f"pictures of type {values.dtype} hold values from {low:g} to {high:g}, but must lie in [0, {most}]; "
            "scale them, or store uint8"
        )
    return np.rint(values * 255).astype(np.uint8) if most == 1 else values.astype(np.uint8)
