"""Pictures into what networks take, and back."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_float(images: UInt8[Tensor, "B H W c"]) -> Float[Tensor, "B c H W"]:
    """uint8 pictures as float32 in [0, 1], channels first in shape. The memory stays channels last, as the pictures lie
    and as convolutions are fastest."""
    return images.permute(0, 3, 1, 2).float().mul_(1 / 255)


def to_uint8(images: Float[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B H W 3"]:
    """Float images in [0, 1] (values outside are clipped) as contiguous uint8 pictures, rounded."""
    return images.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
