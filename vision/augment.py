"""Other pictures of the same scene: crops, colours and brightness changed by torchvision's transforms.

A pair (a frame, its trajectory's first) changes alike, so that what differs between the two stays what happened.
torchvision's colour kernels take one factor for all pictures they are given, and called per picture they cost more than a
small model's training step; so the rows of a batch are dealt to `groups` draws of colours, while crops are every row's own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int, UInt8
from torch import Tensor

from vision.data import Batches
from vision.torchvision_import import import_torchvision


@dataclass(frozen=True)
class AugmentConfig:
    """How much pictures change; all zero leaves them as they are."""

    crop_pad: int = 0
    """Pixels a picture may move by, up, down, left and right: it is padded by repeating its border, and cropped back."""
    color_jitter: float = 0.0
    """s in [0, 1]: brightness, contrast and saturation change by a factor in [1 - s, 1 + s], the hue by up to s/3 of the circle."""
    brightness: float = 0.0
    """b in [0, 1]: one more factor for the brightness, in [1 - b, 1 + b]."""
    groups: int = 16
    """How many different draws of colours a batch holds."""

    def __post_init__(self) -> None:
        if self.crop_pad < 0 or self.groups < 1:
            raise ValueError(f"AugmentConfig: crop_pad={self.crop_pad} must be at least 0, and groups={self.groups} 1")
        if not (0 <= self.color_jitter <= 1 and 0 <= self.brightness <= 1):
            raise ValueError(
                f"AugmentConfig: color_jitter={self.color_jitter} and brightness={self.brightness} must lie in [0, 1]"
            )


class Augmented:
    """The batches of `data`, (images,) or (images, context), uint8 (B, H, W, 3), augmented; the two of a pair alike.

    What happens is a function of the seed and the rows asked for, so the same batch asked for again, as when a run
    resumes, is the same; within a batch a row that comes twice is changed in two ways. Raises ImportError where
    torchvision cannot be used.
    """

    def __init__(self, data: Batches, config: AugmentConfig, seed: int = 0) -> None:
        self.data, self.config, self.seed = data, config, seed
        self.active = config.crop_pad > 0 or config.color_jitter > 0 or config.brightness > 0
        if self.active:
            import_torchvision()

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, rows: Int[np.ndarray, "B"]) -> tuple[Tensor, ...]:
        """As the data's, with other pixels."""
        columns = self.data.batch(rows)
        if not self.active:
            return columns
        rng = np.random.default_rng((self.seed, *np.asarray(rows).tolist()))
        changed = augment(torch.stack(columns, 1), self.config, rng)
        return tuple(column.contiguous() for column in changed.unbind(1))


def augment(
    images: UInt8[Tensor, "B k H W 3"], config: AugmentConfig, rng: np.random.Generator
) -> UInt8[Tensor, "B k H W 3"]:
    """The k pictures of each row changed alike, by draws of `rng`."""
    out = images.permute(0, 1, 4, 2, 3)
    if config.crop_pad:
        out = _moved(out, config.crop_pad, rng)
    if config.color_jitter or config.brightness:
        out = _recoloured(out, config, rng)
    return out.permute(0, 1, 3, 4, 2)


def _functional() -> Any:
    import_torchvision()
    from torchvision.transforms.v2 import functional

    return functional


def _moved(x: UInt8[Tensor, "B k 3 H W"], pad: int, rng: np.random.Generator) -> UInt8[Tensor, "B k 3 H W"]:
    """Padded by `pad` pixels and cropped back, each row somewhere else."""
    f = _functional()
    b, k, _, h, w = x.shape
    padded = f.pad(x.flatten(0, 1), [pad], padding_mode="edge").unflatten(0, (b, k))
    corners = rng.integers(0, 2 * pad + 1, (b, 2)).tolist()
    return torch.stack([f.crop(row, top, left, h, w) for row, (top, left) in zip(padded, corners, strict=True)])


def _recoloured(
    x: UInt8[Tensor, "B k 3 H W"], config: AugmentConfig, rng: np.random.Generator
) -> UInt8[Tensor, "B k 3 H W"]:
    """Brightness, contrast, saturation and hue, in this order, each group of rows by its own draw."""
    f = _functional()
    s, groups = config.color_jitter, min(config.groups, len(x))
    of = rng.permutation(len(x)) % groups
    factors = rng.uniform(1 - s, 1 + s, (groups, 3))
    factors[:, 0] *= rng.uniform(1 - config.brightness, 1 + config.brightness, groups)
    hues = rng.uniform(-s / 3, s / 3, groups)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for group, ((brightness, contrast, saturation), hue) in enumerate(zip(factors.tolist(), hues.tolist(), strict=True)):
        rows = torch.from_numpy(np.flatnonzero(of == group))
        # One tall picture of each row's k: the mean about which contrast changes is then the same for all of them.
        pictures = rearrange(x[rows], "n k c h w -> n c (k h) w")
        pictures = f.adjust_brightness(pictures, brightness)
        if s:
            pictures = f.adjust_contrast(pictures, contrast)
            pictures = f.adjust_saturation(pictures, saturation)
            pictures = f.adjust_hue(pictures, hue)
        out[rows] = rearrange(pictures, "n c (k h) w -> n k c h w", k=x.shape[1])
    return out
