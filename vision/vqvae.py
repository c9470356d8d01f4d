"""VQ-VAE: images as grids of discrete codes.

van den Oord et al. 2017, "Neural Discrete Representation Learning" (eq. 3 and appendix A.1 for the moving-average
codebook); sizes as in VAL (seed 003): 48x48 images, a 12x12 grid, 512 codes of 5 dimensions, a 720-d flat latent.

Loss = mean over the batch of the (weighted) squared error + codebook term + commitment * commitment term.
The latent handed to the other rooms is the *quantized* grid, flattened in the order (code_dim, row, column).
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vision.collectives import all_sum, from_first, processes
from vision.grids import GridAutoencoder, check_grid, times_used

PROBATION = 0.1
"""The average use a new or restarted code begins with (1 is uniform): an unused one is found dead after
log(restart_below / PROBATION) / log(ema_decay) steps, 120 with the defaults, and a used one soon outweighs its start."""


@dataclass(frozen=True)
class VQVAEConfig:
    """Settings of a `VQVAE`; the defaults are the paper's, in [0, 1] images and without a moving-average codebook."""

    image_size: int = 48
    """Side of the square images, in pixels."""
    grid: int = 12
    """Side of the code grid; `image_size / grid` must be a power of two, at least `stem`."""
    codes: int = 512
    """Size of the codebook; at most 32768, so that codes fit int16."""
    code_dim: int = 5
    """Length of a code vector."""
    hidden: int = 128
    """Channels at the resolution of the grid; each doubling of resolution halves them, so high resolution is thin."""
    residual_blocks: int = 3
    residual_hidden: int = 64
    stem: int = 2
    """Stride of the first and last layer: 2 as in the paper; 4 is about 1.7x as fast on a CPU."""
    local: bool = False
    """Each code is of its own patch of the picture and nothing beside it, so that a change in the scene changes the codes where it is and no others."""
    commitment: float = 0.25
    """Weight of the commitment term (errata: 0.25)."""
    ema: bool = False
    """Move the codebook as an exponential average of what is assigned to it, instead of by gradient."""
    ema_decay: float = 0.99
    """Decay of the averages of usage and of the moving-average codebook, in [0, 1)."""
    restart_dead: bool = False
    """Put codes that have fallen out of use on vectors of the current batch."""
    restart_below: float = 0.03
    """A code is dead when its average use is below this fraction of uniform use."""
    data_init: bool = False
    """Begin with a codebook of vectors encoded from data (see `prepare`) instead of U(-1/codes, 1/codes)."""
    center: bool = False
    """Encode the difference from the data's mean image, and add the mean image to the decoded one."""
    foreground_weight: float = 0.0
    """Pixels that differ from the context image (else the mean image) weigh 1 + this in the reconstruction."""
    foreground_threshold: float = 0.1
    """How much the most different channel must differ, in [0, 1], for a pixel to be foreground."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_grid("VQVAEConfig", self)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"VQVAEConfig: ema_decay={self.ema_decay} must lie in [0, 1)")


def nearest_codes(x: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """Index of the nearest codebook row, argmin_k |x - e_k|^2 = argmin_k |e_k|^2 - 2 x.e_k: one `addmm` and an argmin,
    in float32 whatever the autocast (a distance in bfloat16 picks other codes)."""
    with torch.autocast(x.device.type, enabled=False):
        e = codebook.float()
        return torch.addmm(e.square().sum(1), x.float(), e.T, alpha=-2.0).argmin(1)


def ema_codebook(usage: Float[Tensor, "k"], total: Float[Tensor, "k d"], epsilon: float = 1e-5) -> Float[Tensor, "k d"]:
    """The codebook of averaged usage N_k and sums m_k: m_k / N_k, N_k smoothed as (N_k + e) / (N + K e) * N (A.1)."""
    n = usage.sum()
    smoothed = (usage + epsilon) / (n + usage.numel() * epsilon) * n
    return total / smoothed[:, None]


class VQVAE(GridAutoencoder):
    """A vector-quantized autoencoder; a `CodeModel`."""

    config: VQVAEConfig
    usage: Tensor
    total: Tensor
    steps: Tensor

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__(config)
        c = config
        codebook = torch.empty(c.codes, c.code_dim).uniform_(-1 / c.codes, 1 / c.codes)
        self.codebook = nn.Parameter(codebook, requires_grad=not c.ema)
        self.register_buffer("usage", torch.full((c.codes,), PROBATION))  # average use of each code; 1 is uniform use
        self.register_buffer("total", PROBATION * codebook)  # average sum of the vectors assigned, in the same unit
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._assigned: tuple[Tensor, Tensor] | None = None

    def codes(self, images: UInt8[Tensor, "B H W 3"]) -> Int[Tensor, "B g g"]:
        """The code of every cell, in [0, codes)."""
        h = self.features(images)
        g = self.config.grid
        return nearest_codes(rearrange(h, "b c h w -> (b h w) c"), self.codebook).view(-1, g, g)

    def quantize(self, z: Float[Tensor, "B z"]) -> Int[Tensor, "B g g"]:
        """The nearest code of every cell of any flat latent (for instance a generator's prediction)."""
        g = self.config.grid
        return nearest_codes(rearrange(z, "b (c n) -> (b n) c", n=g * g), self.codebook).view(-1, g, g)

    # -- learning --------------------------------------------------------------------------------------------------

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Reconstruction + codebook + commitment (eq. 3), each a mean over the batch, pixels (or cells) and channels.

        In training mode it also remembers the assignment, which `after_step` uses. Metrics: loss, mse (unweighted mean
        squared error), commitment (before its weight), perplexity (codes in use, 1..codes).
        """
        c = self.config
        h = self.features(images)
        x = rearrange(h, "b c h w -> (b h w) c").float()
        index = nearest_codes(x.detach(), self.codebook)
        e = F.embedding(index, self.codebook)
        straight = x + (e - x).detach()
        reconstruction, mse = self.picture_error(straight, images, context)
        commitment = F.mse_loss(x, e.detach())
        loss = reconstruction + c.commitment * commitment
        if not c.ema:
            loss = loss + F.mse_loss(e, x.detach())
        if self.training:
            self._assigned = (x.detach(), index)
        share = times_used(index, c.codes) / index.numel()
        metrics = {
            "loss": loss.detach(),
            "mse": mse,
            "commitment": commitment.detach(),
            "perplexity": torch.exp(torch.special.entr(share).sum()),
        }
        return loss, metrics

    @torch.no_grad()
    def after_step(self) -> None:
        """Move what the optimiser does not: averages of usage, the moving-average codebook, dead codes.

        Call it after the optimiser's step (`vision.train` does); it uses the assignment of the last training `loss`.
        Restarts choose batch vectors by arithmetic on the step, so a resumed run repeats them. In a data-parallel run
        the averages are over the batches of all processes, and restarts take vectors of the first one's.
        """
        if self._assigned is None or not (self.config.ema or self.config.restart_dead):
            return
        c, (x, index) = self.config, self._assigned
        self._assigned = None
        unit = c.codes / (len(index) * processes())
        counts = all_sum(times_used(index, c.codes) * unit)
        self.usage.lerp_(counts, 1 - c.ema_decay)
        if c.ema:
            sums = all_sum(torch.zeros_like(self.total).index_add_(0, index, x) * unit)
            self.total.lerp_(sums, 1 - c.ema_decay)
            self.codebook.copy_(ema_codebook(self.usage, self.total))
        if c.restart_dead:
            dead = self.usage < c.restart_below
            pick = (torch.arange(c.codes, device=x.device) * 7919 + self.steps * 104729) % len(x)
            fresh = from_first(x[pick])
            self.codebook.copy_(torch.where(dead[:, None], fresh, self.codebook))
            self.total.copy_(torch.where(dead[:, None], PROBATION * fresh, self.total))
            self.usage.copy_(torch.where(dead, PROBATION, self.usage))
        self.steps.add_(1)

    @torch.no_grad()
    def prepare(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> None:
        """Look at a sample of the data once, before training: the mean image, and with `data_init` the codebook.

        A model that has been prepared stays as it is: going on with new data must not move what it learned.
        """
        if bool(self.prepared):
            return
        c = self.config
        super().prepare(images)
        if c.data_init:
            x = rearrange(self.features(images), "b c h w -> (b h w) c")
            pick = torch.linspace(0, len(x) - 1, c.codes, device=x.device).long()
            spread = x.std(0).mean() * 1e-3  # tells equal vectors apart, so that each code can win some
            ramp = torch.arange(c.codes * c.code_dim, device=x.device).view(c.codes, c.code_dim)
            self.codebook.copy_(x[pick] + spread * torch.sin(ramp.float()))
            self.total.copy_(PROBATION * self.codebook)
