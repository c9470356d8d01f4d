"""Pictures: folders of files into arrays, arrays into what networks take, and back."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vision.sources.pixels import SUFFIXES, UNREADABLE, read_image

__all__ = ["UNREADABLE", "FolderReport", "read_folder", "read_image", "to_float", "to_uint8"]

@dataclass(frozen=True)
class FolderReport:
    """What became of a folder's files."""

    folder: Path
    files: list[Path]
    """The files that were read, in the order of the array's rows."""
    bad: list[tuple[Path, str]] = field(default_factory=list)
    """The files that could not be read, each with the reason."""
    ignored: int = 0
    """Files that are no pictures by their suffix, and hidden files."""

    @property
    def bad_share(self) -> float:
        """Unreadable pictures as a fraction of all pictures, in [0, 1]."""
        return len(self.bad) / max(1, len(self.files) + len(self.bad))

    def __str__(self) -> str:
        text = f"{len(self.files)} images from {self.folder}"
        if not self.bad:
            return text
        names = ", ".join(f"{path.relative_to(self.folder)} ({reason})" for path, reason in self.bad[:3])
        return f"{text}; {len(self.bad)} unreadable: {names}" + (", ..." if len(self.bad) > 3 else "")


def read_folder(
    folder: str | Path,
    image_size: int,
    *,
    max_bad_share: float = 0.1,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[UInt8[np.ndarray, "N H W 3"], FolderReport]:
    """All pictures below `folder`, sorted by path, as one array `(N, image_size, image_size, 3)`, and a report.

    Unreadable files are skipped and named in the report. `progress(done, total)` is called as files finish. Raises
    ValueError for a folder that is missing or holds no pictures, or when more than `max_bad_share` of them are bad.
    """
    root = Path(folder)
    if image_size < 1 or not 0 <= max_bad_share <= 1:
        raise ValueError(
            f"read_folder: image_size={image_size} must be positive, max_bad_share={max_bad_share} in [0, 1]"
        )
    if not root.is_dir():
        raise ValueError(
            f"image folder {root} does not exist or is not a folder; give the path of a folder of pictures"
        )
    everything = sorted(Path(d, name) for d, _, names in os.walk(root) for name in names)
    paths = [p for p in everything if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not paths:
        raise ValueError(
            f"image folder {root} holds no pictures ({len(everything)} other files); put "
            f"{', '.join(sorted(SUFFIXES))} files in it or below it"
        )
    images = np.empty((len(paths), image_size, image_size, 3), np.uint8)

    def read_into(row: int) -> str | None:
        try:
            images[row] = read_image(paths[row], image_size)
        except UNREADABLE as error:
            return f"{type(error).__name__}: {error}".replace(str(paths[row]), paths[row].name)
        return None

    reasons: list[str | None] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for done, reason in enumerate(pool.map(read_into, range(len(paths))), start=1):
            reasons.append(reason)
            if progress is not None:
                progress(done, len(paths))
    good = [row for row, reason in enumerate(reasons) if reason is None]
    report = FolderReport(
        folder=root,
        files=[paths[row] for row in good],
        bad=[(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason is not None],
        ignored=len(everything) - len(paths),
    )
    if report.bad_share > max_bad_share or not good:
        raise ValueError(
            f"image folder {root}: {report.bad_share:.0%} of {len(paths)} pictures are unreadable, more than the allowed "
            f"{max_bad_share:.0%} ({report}); repair or remove them, or raise max_bad_share"
        )
    return images if len(good) == len(paths) else images[good], report


def to_float(images: UInt8[Tensor, "B H W c"]) -> Float[Tensor, "B c H W"]:
    """uint8 pictures as float32 in [0, 1], channels first in shape. The memory stays channels last, as the pictures lie
    and as convolutions are fastest."""
    return images.permute(0, 3, 1, 2).float().mul_(1 / 255)


def to_uint8(images: Float[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B H W 3"]:
    """Float images in [0, 1] (values outside are clipped) as contiguous uint8 pictures, rounded."""
    return images.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
