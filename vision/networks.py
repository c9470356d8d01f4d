"""The convolutional trunks that the models with flat latents share (RIG, CC-RIG): kernels 5, 3, 3 and strides 3, 2, 2."""

import math
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vision.images import to_float

KERNELS, STRIDES = (5, 3, 3), (3, 2, 2)
Network = TypeVar("Network", bound=nn.Module)
REDUCTION = math.prod(STRIDES)  # pixels of a side of the picture to one cell of the last feature map


def check_size(owner: str, image_size: int) -> None:
    """Raise ValueError, naming sizes that fit, for a picture that the strides do not divide."""
    if image_size < REDUCTION or image_size % REDUCTION:
        near = max(1, round(image_size / REDUCTION)) * REDUCTION
        raise ValueError(f"{owner}: image_size={image_size} must be a multiple of {REDUCTION} (strides {STRIDES}), for instance {near}")


def check_pictures(owner: str, images: Tensor, image_size: int) -> None:
    """Raise ValueError unless the pictures are `image_size` square."""
    if tuple(images.shape[1:3]) != (image_size, image_size):
        raise ValueError(f"{owner}: expected {image_size}x{image_size} images, got {tuple(images.shape[1:3])}; resize them first")


def one_or_each(owner: str, context: UInt8[Tensor, "b H W 3"] | None, n: int) -> UInt8[Tensor, "b H W 3"]:
    """The context pictures, if there is one for all n or one for each. Raises ValueError where there is none, or another number."""
    if context is None:
        raise ValueError(f"{owner} needs the first picture of each one's trajectory as `context`; loose pictures have none: use another model")
    if len(context) not in (1, n):
        raise ValueError(f"{owner}: {n} of them but {len(context)} contexts; give one for each, or one for all")
    return context


class Standard(nn.Module):
    """Pictures minus the data's mean picture, in units of the spread around it. Networks that begin there learn the colours of a
    scene several times as fast: else their first thousand steps go into the mean. The identity until `prepare`."""

    mean: Tensor
    spread: Tensor
    prepared: Tensor

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, image_size, image_size))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("prepared", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def prepare(self, images: UInt8[Tensor, "B H W 3"]) -> None:
        """Take mean and spread from these, once: going on with other data must not move what was learned."""
        if not bool(self.prepared):
            x = to_float(images)
            self.mean.copy_(x.mean(0))
            self.spread.copy_((x - self.mean).square().mean().sqrt().clamp_min(1e-3))
            self.prepared.fill_(True)

    def forward(self, images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
        """What an encoder sees."""
        return (to_float(images) - self.mean) / self.spread

    def stack(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"]) -> Float[Tensor, "B 6 H W"]:
        """Each picture and its context (one for all, or one for each) as one of six channels."""
        return torch.cat([self(images), self(context).expand(len(images), -1, -1, -1)], 1)


def widths(channels: int) -> tuple[int, int, int]:
    """Of the three convolutions."""
    return channels, 2 * channels, 4 * channels


def down(image_size: int, channels: int, outputs: int, hidden: int, inputs: int = 3) -> nn.Sequential:
    """Pictures (B, inputs, S, S) to (B, outputs): three convolutions, a hidden layer, a linear one."""
    layers, flat = convolutions(image_size, channels, inputs)
    return channels_last(nn.Sequential(*layers, nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, outputs)))


def convolutions(image_size: int, channels: int, inputs: int) -> tuple[list[nn.Module], int]:
    """The three convolutions with their ReLUs and the flattening behind them, and how many numbers come out."""
    layers: list[nn.Module] = []
    before = inputs
    for after, kernel, stride in zip(widths(channels), KERNELS, STRIDES, strict=True):
        layers += [nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2), nn.ReLU()]
        before = after
    return [*layers, nn.Flatten()], before * (image_size // REDUCTION) ** 2


class Up(nn.Module):
    """(B, inputs) to pictures (B, 3, S, S), linear: the mirror of `down`, every feature map of which is also scaled and shifted by the
    inputs (FiLM, Perez et al. 2018): a small thing's colour need not be learned anew for each of its places.

    Args: as `down`'s; `inputs` numbers for each picture.
    """

    def __init__(self, image_size: int, channels: int, inputs: int, hidden: int) -> None:
        super().__init__()
        side, (a, b, c) = image_size // REDUCTION, widths(channels)
        self.start = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, c * side**2), nn.Unflatten(1, (c, side, side)))
        self.modulation = nn.ModuleList(nn.Linear(inputs, 2 * width) for width in (c, b, a))
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(before, after, kernel, stride, (kernel - 1) // 2, output_padding=stride - 1)
            for before, after, kernel, stride in zip((c, b, a), (b, a, 3), KERNELS[::-1], STRIDES[::-1], strict=True)
        )
        for weights in self.modulation.parameters():
            nn.init.zeros_(weights)  # begins as no modulation
        channels_last(self)

    def forward(self, z: Float[Tensor, "B z"]) -> Float[Tensor, "B 3 H W"]:
        """What the likelihood is given, around the mean picture."""
        h = self.start(z)
        for modulation, layer in zip(self.modulation, self.layers, strict=True):
            scale, shift = modulation(z)[:, :, None, None].chunk(2, 1)
            h = layer(torch.relu(h * (1 + scale) + shift))
        return h  # type: ignore[no-any-return]


def channels_last(network: Network) -> Network:
    """Weights in the memory layout in which convolutions are fastest."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
