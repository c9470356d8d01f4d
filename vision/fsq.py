"""FSQ: images as grids of codes, by rounding a few bounded numbers instead of searching a codebook.

Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple" (section 3.1 and appendix A.1). Each of d channels is bounded to
L_i levels and rounded, with a straight-through gradient; the codebook is implied: all prod(L_i) combinations, divided by L_i // 2 so
that they lie in [-1, 1]. No codebook is learned, so no commitment, no dead codes.

Loss = mean over the batch, pixels and channels of the (foreground-weighted) squared error.
The latent handed to the other rooms is the *quantized* grid, flattened in the order (code_dim, row, column), as in `vision.vqvae`.
"""

import math
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vision.grids import GridAutoencoder, check_grid, times_used

MARGIN = 1e-3
"""The outermost levels are reached a little before the bound, so that they can be rounded to."""


@dataclass(frozen=True)
class FSQConfig:
    """Settings of an `FSQ`; the default levels are the paper's for about 2^8 codes (table 1)."""

    image_size: int = 48
    """Side of the square images, in pixels."""
    grid: int = 12
    """Side of the code grid; `image_size / grid` must be a power of two, at least `stem`."""
    levels: list[int] = field(default_factory=lambda: [8, 6, 5])
    """Values that each channel can take, at least 3 (the paper advises 5 or more); their product is the number of codes."""
    hidden: int = 128
    """Channels at the resolution of the grid; each doubling of resolution halves them."""
    residual_blocks: int = 3
    residual_hidden: int = 64
    stem: int = 2
    """Stride of the first and last layer: 2 as in the paper's VQ-VAE; 4 is faster on a CPU."""
    local: bool = False
    """Each code is of its own patch of the picture alone, see `VQVAEConfig`."""
    center: bool = False
    """Encode the difference from the data's mean image, and add the mean image to the decoded one."""
    foreground_weight: float = 0.0
    """Pixels that differ from the context image (else the mean image) weigh 1 + this in the reconstruction."""
    foreground_threshold: float = 0.1
    """How much the most different channel must differ, in [0, 1], for a pixel to be foreground."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3:
            raise ValueError(f"FSQConfig: levels={self.levels} needs at least one number, each at least 3; for instance [8, 6, 5]")
        check_grid("FSQConfig", self)

    @property
    def codes(self) -> int:
        """Size of the implied codebook."""
        return math.prod(self.levels)

    @property
    def code_dim(self) -> int:
        """Numbers of a code vector."""
        return len(self.levels)


def bound(x: Float[Tensor, "*b d"], levels: Float[Tensor, "d"]) -> Float[Tensor, "*b d"]:
    """f(x) of section 3.1: numbers that round to exactly L integers, from -(L // 2) to (L - 1) // 2.

    For even L the range is moved down by half a level, and x so that 0 stays 0.
    """
    half = (levels - 1) * (1 + MARGIN) / 2
    offset = 0.5 * (levels % 2 == 0)
    return torch.tanh(x + torch.atanh(offset / half)) * half - offset


def round_straight(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Rounded, with the gradient of the identity."""
    return x + (x.round() - x).detach()


def grid_of_levels(levels: list[int]) -> Float[Tensor, "k d"]:
    """The implied codebook: row i holds the digits of i in the mixed radix of the levels, the first fastest, in [-1, 1]."""
    index = torch.arange(math.prod(levels), device="cpu")
    columns = []
    for n in levels:
        columns.append((index % n - n // 2) / (n // 2))
        index = index // n
    return torch.stack(columns, 1).float()


class FSQ(GridAutoencoder):
    """A finite-scalar-quantized autoencoder; a `CodeModel`."""

    config: FSQConfig
    levels: Tensor
    halves: Tensor
    radix: Tensor

    def __init__(self, config: FSQConfig) -> None:
        super().__init__(config)
        levels = config.levels
        self.register_buffer("codebook", grid_of_levels(levels))
        self.register_buffer("levels", torch.tensor([float(n) for n in levels]))
        self.register_buffer("halves", torch.tensor([float(n // 2) for n in levels]))
        self.register_buffer("radix", torch.tensor([math.prod(levels[:i]) for i in range(len(levels))]))

    def integers(self, h: Float[Tensor, "B c g g"]) -> Float[Tensor, "n c"]:
        """Each cell's whole numbers, from -(L // 2) to (L - 1) // 2, through which gradients flow."""
        return round_straight(bound(rearrange(h, "b c h w -> (b h w) c").float(), self.levels))

    def index(self, integers: Float[Tensor, "n c"]) -> Int[Tensor, "n"]:
        """The code of each cell's whole numbers."""
        return ((integers + self.halves).round().long() * self.radix).sum(1)

    def codes(self, images: UInt8[Tensor, "B H W 3"]) -> Int[Tensor, "B g g"]:
        """The code of every cell, in [0, codes)."""
        g = self.config.grid
        return self.index(self.integers(self.features(images))).view(-1, g, g)

    def quantize(self, z: Float[Tensor, "B z"]) -> Int[Tensor, "B g g"]:
        """The nearest code of every cell of any flat latent (for instance a generator's prediction)."""
        g = self.config.grid
        x = rearrange(z, "b (c n) -> (b n) c", n=g * g).float() * self.halves
        return self.index(torch.maximum(torch.minimum(x.round(), self.levels - 1 - self.halves), -self.halves)).view(-1, g, g)

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The squared error. Metrics: loss, mse (unweighted), perplexity (codes in use, 1..codes)."""
        integers = self.integers(self.features(images))
        loss, mse = self.picture_error(integers / self.halves, images, context)
        share = times_used(self.index(integers.detach()), self.config.codes) / len(integers)
        return loss, {"loss": loss.detach(), "mse": mse, "perplexity": torch.exp(torch.special.entr(share).sum())}
