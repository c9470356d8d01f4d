"""What models whose latents are grids of codes share (VQ-VAE, FSQ): networks, foreground weights, images to grids and back.

The networks are those of van den Oord et al. 2017 at the sizes of VAL (seed 003): strided convolutions down to the grid, a 3x3,
residual blocks. How a grid of vectors becomes codes, and the loss, are each model's own.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vision.images import to_float
from vision.networks import check_pictures

Sampler = Callable[[int, Tensor | None, Generator | None], Tensor]


@runtime_checkable
class GridConfig(Protocol):
    """The settings that the networks need; properties, because configs are frozen."""

    @property
    def image_size(self) -> int: ...
    @property
    def grid(self) -> int: ...
    @property
    def codes(self) -> int: ...
    @property
    def code_dim(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def residual_blocks(self) -> int: ...
    @property
    def residual_hidden(self) -> int: ...
    @property
    def stem(self) -> int: ...
    @property
    def local(self) -> bool: ...
    @property
    def center(self) -> bool: ...
    @property
    def foreground_weight(self) -> float: ...
    @property
    def foreground_threshold(self) -> float: ...


def check_grid(owner: str, c: GridConfig) -> None:
    """Raise ValueError, saying what fits, for sizes that do not fit each other."""
    ratio = c.image_size // c.grid if c.grid > 0 else 0
    if c.grid < 2 or ratio * c.grid != c.image_size or ratio < 2 or ratio & (ratio - 1):
        raise ValueError(
            f"{owner}: image_size={c.image_size} must be grid={c.grid} (at least 2) times a power of two; "
            "choose for instance image_size=48 with grid=12 or grid=6"
        )
    if c.stem not in (2, 4, 8) or c.stem > ratio:
        raise ValueError(f"{owner}: stem={c.stem} must be 2, 4 or 8 and at most image_size/grid={ratio}")
    if not 2 <= c.codes <= 32768:
        raise ValueError(f"{owner}: codes={c.codes} must lie in 2..32768 (codes are stored as int16)")
    if min(c.code_dim, c.hidden, c.residual_hidden) < 1 or c.residual_blocks < 0:
        raise ValueError(f"{owner}: code_dim, hidden and residual_hidden must be at least 1, residual_blocks 0")
    if c.hidden % (ratio // c.stem):
        raise ValueError(f"{owner}: hidden={c.hidden} must be divisible by {ratio // c.stem}")


def times_used(index: Int[Tensor, "n"], codes: int) -> Float[Tensor, " k"]:
    """How often each code occurs: `bincount`, which on a GPU makes the host wait for the largest one."""
    return torch.zeros(codes, device=index.device).index_add_(0, index, torch.ones(len(index), device=index.device))


class ResidualBlock(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))); `kernel` other than 3 replaces the 3x3."""

    def __init__(self, width: int, hidden: int, kernel: int = 3) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, hidden, kernel, padding=kernel // 2)
        self.mix = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        """Same shape in and out."""
        return x + self.mix(F.relu(self.spatial(F.relu(x))))


def build_encoder(c: GridConfig) -> nn.Sequential:
    """Strided convolutions down to the grid, a 3x3, residual blocks, and a 1x1 to `code_dim` channels; `local`: none of whose kernels overlap."""
    halvings = (c.image_size // c.grid // c.stem).bit_length() - 1
    width = c.hidden >> halvings
    over, kernel = (1, 1) if c.local else (2, 3)  # strided kernels in strides; the others
    layers: list[nn.Module] = [nn.Conv2d(3, width, over * c.stem, c.stem, (over - 1) * c.stem // 2), nn.ReLU()]
    for _ in range(halvings):
        layers += [nn.Conv2d(width, 2 * width, over * 2, 2, over - 1), nn.ReLU()]
        width *= 2
    layers += [nn.Conv2d(width, width, kernel, padding=kernel // 2)]
    layers += [ResidualBlock(width, c.residual_hidden, kernel) for _ in range(c.residual_blocks)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, c.code_dim, 1))


def build_decoder(c: GridConfig) -> nn.Sequential:
    """The encoder's mirror. The last upsampling is a 3x3 convolution and a pixel shuffle (a sub-pixel convolution, of
    which the strided transposed convolution is the special case with masked taps): it is faster at full resolution."""
    halvings = (c.image_size // c.grid // c.stem).bit_length() - 1
    width = c.hidden
    layers: list[nn.Module] = [nn.Conv2d(c.code_dim, width, 3, padding=1)]
    layers += [ResidualBlock(width, c.residual_hidden) for _ in range(c.residual_blocks)]
    layers += [nn.ReLU()]
    for _ in range(halvings):
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.ReLU()]
        width //= 2
    return nn.Sequential(*layers, nn.Conv2d(width, 3 * c.stem**2, 3, padding=1), nn.PixelShuffle(c.stem))


def pixel_weights(
    x: Float[Tensor, "B 3 H W"], background: Float[Tensor, "*b 3 H W"], weight: float, threshold: float
) -> Float[Tensor, "B 1 H W"]:
    """1 + weight where the most different channel of a pixel differs from the background by more than the threshold, else 1."""
    differs: Bool[Tensor, "B 1 H W"] = (x - background).abs().amax(1, keepdim=True) > threshold
    return 1 + weight * differs


class GridAutoencoder(nn.Module):
    """Images to grids of code vectors and back: a `CodeModel` but for `codes`, `quantize` and `loss`, which the model adds, and its
    `codebook`. Its prior is another network, see `vision.prior.AffordancePrior`."""

    needs_context = False
    config: GridConfig
    codebook: Tensor
    mean_image: Tensor
    prepared: Tensor

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.config = c = config
        self.encoder = build_encoder(c)
        self.decoder = build_decoder(c)
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean_image", torch.zeros(3, c.image_size, c.image_size))
        self.register_buffer("prepared", torch.zeros((), dtype=torch.bool))
        self.sampler: Sampler | None = None  # `AffordancePrior.attach` sets it

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """(code_dim, grid, grid), the shape of which a flat latent is the flattening."""
        return self.config.code_dim, self.config.grid, self.config.grid

    @property
    def code_vectors(self) -> Float[Tensor, "k d"]:
        """The vector of every code, (codes, code_dim)."""
        return self.codebook

    @property
    def latent_dim(self) -> int:
        """z = code_dim * grid * grid."""
        return self.config.code_dim * self.config.grid**2

    @abstractmethod
    def codes(self, images: UInt8[Tensor, "B H W 3"]) -> Int[Tensor, "B g g"]:
        """The code of every cell, in [0, codes)."""

    def features(self, images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B c g g"]:
        """The encoder's output before quantization. Raises ValueError when the images are not `image_size` square."""
        check_pictures(type(self).__name__, images, self.config.image_size)
        x = to_float(images)
        return self.encoder(x - self.mean_image if self.config.center else x)  # type: ignore[no-any-return]

    def lookup(self, codes: Int[Tensor, "..."]) -> Float[Tensor, "... z"]:
        """Flat quantized latents of codes shaped `(..., g*g)` or `(..., g, g)`, any integer type."""
        g = self.config.grid
        cells = codes if codes.shape[-1] == g * g else codes.flatten(-2)
        if cells.shape[-1] != g * g:
            raise ValueError(
                f"{type(self).__name__}.lookup: expected codes (..., {g * g}) or (..., {g}, {g}), got {tuple(codes.shape)}"
            )
        return F.embedding(cells.long(), self.codebook).transpose(-1, -2).flatten(-2)

    def encode(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> Float[Tensor, "B z"]:
        """Flat quantized latents; this model needs no context."""
        return self.lookup(self.codes(images))

    def reconstruct(self, z: Float[Tensor, "B z"]) -> Float[Tensor, "B 3 H W"]:
        """The decoder's linear output, not clamped: what the loss sees."""
        out = self.decoder(z.view(-1, *self.grid_shape).contiguous(memory_format=torch.channels_last))
        return out + self.mean_image if self.config.center else out  # type: ignore[no-any-return]

    def decode(
        self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> Float[Tensor, "B 3 H W"]:
        """Images in [0, 1]; this model needs no context."""
        return self.reconstruct(z).float().clamp(0, 1)

    def sample(
        self, n: int, context: UInt8[Tensor, "b H W 3"] | None = None, *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """n latents of the prior attached to this model. Raises ValueError where there is none."""
        if self.sampler is None:
            raise ValueError(
                f"{type(self).__name__}.sample: no prior is attached to this model; load the folder of a train run that has one "
                "(prior_steps above 0)"
            )
        return self.sampler(n, context, generator)

    def picture_error(
        self, cells: Float[Tensor, "n c"], images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The weighted mean squared error of the pictures decoded from (B * g * g) code vectors, and the unweighted one, detached.

        Foreground is what differs from the context, else from the mean image."""
        c = self.config
        latent = rearrange(cells, "(b h w) c -> b (c h w)", h=c.grid, w=c.grid)
        target = to_float(images)
        square = (self.reconstruct(latent).float() - target).square()
        if not c.foreground_weight:
            return square.mean(), square.detach().mean()
        background = self.mean_image if context is None else to_float(context)
        weights = pixel_weights(target, background, c.foreground_weight, c.foreground_threshold)
        return (square * weights).mean(), square.detach().mean()

    @torch.no_grad()
    def prepare(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> None:
        """Look at a sample of the data once, before training: the mean image.

        A model that has been prepared stays as it is: going on with new data must not move what it learned.
        """
        if not bool(self.prepared):
            self.mean_image.copy_(to_float(images).mean(0))
            self.prepared.fill_(True)
