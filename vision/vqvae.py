"""VQ-VAE: images as grids of discrete codes.

van den Oord et al. 2017, "Neural Discrete Representation Learning" (eq. 3 and appendix A.1 for the moving-average
codebook); sizes as in VAL (seed 003): 48x48 images, a 12x12 grid, 512 codes of 5 dimensions, a 720-d flat latent.

Loss = mean over the batch of the (weighted) squared error + codebook term + commitment * commitment term.
The latent handed to the other rooms is the *quantized* grid, flattened in the order (code_dim, row, column).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vision.collectives import all_sum, from_first, processes
from vision.images import to_float

Sampler = Callable[[int, Tensor | None, Generator | None], Tensor]

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
        ratio = self.image_size // self.grid if self.grid > 0 else 0
        if self.grid < 2 or ratio * self.grid != self.image_size or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(
                f"VQVAEConfig: image_size={self.image_size} must be grid={self.grid} (at least 2) times a power of two; "
                "choose for instance image_size=48 with grid=12 or grid=6"
            )
        if self.stem not in (2, 4, 8) or self.stem > ratio:
            raise ValueError(f"VQVAEConfig: stem={self.stem} must be 2, 4 or 8 and at most image_size/grid={ratio}")
        if not 2 <= self.codes <= 32768:
            raise ValueError(f"VQVAEConfig: codes={self.codes} must lie in 2..32768 (codes are stored as int16)")
        if min(self.code_dim, self.hidden, self.residual_hidden) < 1 or self.residual_blocks < 0:
            raise ValueError("VQVAEConfig: code_dim, hidden and residual_hidden must be at least 1, residual_blocks 0")
        if self.hidden % (ratio // self.stem):
            raise ValueError(f"VQVAEConfig: hidden={self.hidden} must be divisible by {ratio // self.stem}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"VQVAEConfig: ema_decay={self.ema_decay} must lie in [0, 1)")


class ResidualBlock(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x))))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, hidden, 3, padding=1)
        self.mix = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        """Same shape in and out."""
        return x + self.mix(F.relu(self.spatial(F.relu(x))))


def build_encoder(c: VQVAEConfig) -> nn.Sequential:
    """Strided convolutions down to the grid, a 3x3, residual blocks, and a 1x1 to `code_dim` channels."""
    halvings = (c.image_size // c.grid // c.stem).bit_length() - 1
    width = c.hidden >> halvings
    layers: list[nn.Module] = [nn.Conv2d(3, width, 2 * c.stem, c.stem, c.stem // 2), nn.ReLU()]
    for _ in range(halvings):
        layers += [nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU()]
        width *= 2
    layers += [nn.Conv2d(width, width, 3, padding=1)]
    layers += [ResidualBlock(width, c.residual_hidden) for _ in range(c.residual_blocks)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, c.code_dim, 1))


def build_decoder(c: VQVAEConfig) -> nn.Sequential:
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


class VQVAE(nn.Module):
    """A vector-quantized autoencoder; a `CodeModel`. Its prior is another network, see `vision.prior.AffordancePrior`."""

    needs_context = False
    usage: Tensor
    total: Tensor
    steps: Tensor
    mean_image: Tensor
    prepared: Tensor

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = c = config
        self.encoder = build_encoder(c)
        self.decoder = build_decoder(c)
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]
        codebook = torch.empty(c.codes, c.code_dim).uniform_(-1 / c.codes, 1 / c.codes)
        self.codebook = nn.Parameter(codebook, requires_grad=not c.ema)
        self.register_buffer("usage", torch.full((c.codes,), PROBATION))  # average use of each code; 1 is uniform use
        self.register_buffer("total", PROBATION * codebook)  # average sum of the vectors assigned, in the same unit
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean_image", torch.zeros(3, c.image_size, c.image_size))
        self.register_buffer("prepared", torch.zeros((), dtype=torch.bool))
        self._assigned: tuple[Tensor, Tensor] | None = None
        self.sampler: Sampler | None = None  # `AffordancePrior.attach` sets it

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """(code_dim, grid, grid), the shape of which a flat latent is the flattening."""
        return self.config.code_dim, self.config.grid, self.config.grid

    @property
    def latent_dim(self) -> int:
        """z = code_dim * grid * grid."""
        return self.config.code_dim * self.config.grid**2

    # -- images, codes, latents ------------------------------------------------------------------------------------

    def features(self, images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B c g g"]:
        """The encoder's output before quantization. Raises ValueError when the images are not `image_size` square."""
        side = self.config.image_size
        if tuple(images.shape[1:3]) != (side, side):
            raise ValueError(f"VQVAE: expected {side}x{side} images, got {tuple(images.shape[1:3])}; resize them first")
        x = to_float(images)
        return self.encoder(x - self.mean_image if self.config.center else x)

    def codes(self, images: UInt8[Tensor, "B H W 3"]) -> Int[Tensor, "B g g"]:
        """The code of every cell, in [0, codes)."""
        h = self.features(images)
        g = self.config.grid
        return nearest_codes(rearrange(h, "b c h w -> (b h w) c"), self.codebook).view(-1, g, g)

    def lookup(self, codes: Int[Tensor, "..."]) -> Float[Tensor, "... z"]:
        """Flat quantized latents of codes shaped `(..., g*g)` or `(..., g, g)`, any integer type."""
        g = self.config.grid
        cells = codes if codes.shape[-1] == g * g else codes.flatten(-2)
        if cells.shape[-1] != g * g:
            raise ValueError(
                f"VQVAE.lookup: expected codes (..., {g * g}) or (..., {g}, {g}), got {tuple(codes.shape)}"
            )
        return F.embedding(cells.long(), self.codebook).transpose(-1, -2).flatten(-2)

    def quantize(self, z: Float[Tensor, "B z"]) -> Int[Tensor, "B g g"]:
        """The nearest code of every cell of any flat latent (for instance a generator's prediction)."""
        g = self.config.grid
        return nearest_codes(rearrange(z, "b (c n) -> (b n) c", n=g * g), self.codebook).view(-1, g, g)

    def encode(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "B H W 3"] | None = None
    ) -> Float[Tensor, "B z"]:
        """Flat quantized latents; this model needs no context."""
        return self.lookup(self.codes(images))

    def reconstruct(self, z: Float[Tensor, "B z"]) -> Float[Tensor, "B 3 H W"]:
        """The decoder's linear output, not clamped: what the loss sees."""
        out = self.decoder(z.view(-1, *self.grid_shape).contiguous(memory_format=torch.channels_last))
        return out + self.mean_image if self.config.center else out

    def decode(
        self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "B H W 3"] | None = None
    ) -> Float[Tensor, "B 3 H W"]:
        """Images in [0, 1]; this model needs no context."""
        return self.reconstruct(z).float().clamp(0, 1)

    def sample(
        self, n: int, context: UInt8[Tensor, "b H W 3"] | None = None, *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """n latents of the prior attached to this model. Raises ValueError where there is none."""
        if self.sampler is None:
            raise ValueError(
                "VQVAE.sample: no prior is attached to this model; load the folder of a train run that has one (prior_steps above 0)"
            )
        return self.sampler(n, context, generator)

    # -- learning --------------------------------------------------------------------------------------------------

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "B H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Reconstruction + codebook + commitment (eq. 3), each a mean over the batch, pixels (or cells) and channels.

        In training mode it also remembers the assignment, which `after_step` uses. Metrics: loss, reconstruction
        (unweighted mean squared error), commitment (before its weight), perplexity (codes in use, 1..codes).
        """
        c = self.config
        h = self.features(images)
        x = rearrange(h, "b c h w -> (b h w) c").float()
        index = nearest_codes(x.detach(), self.codebook)
        e = F.embedding(index, self.codebook)
        straight = x + (e - x).detach()
        latent = rearrange(straight, "(b h w) c -> b (c h w)", h=c.grid, w=c.grid)
        target = to_float(images)
        square = (self.reconstruct(latent).float() - target).square()
        weighted = square * self._pixel_weights(target, context) if c.foreground_weight else square
        reconstruction = weighted.mean()
        commitment = F.mse_loss(x, e.detach())
        loss = reconstruction + c.commitment * commitment
        if not c.ema:
            loss = loss + F.mse_loss(e, x.detach())
        if self.training:
            self._assigned = (x.detach(), index)
        share = torch.bincount(index, minlength=c.codes) / index.numel()
        metrics = {
            "loss": loss.detach(),
            "reconstruction": square.detach().mean(),
            "commitment": commitment.detach(),
            "perplexity": torch.exp(torch.special.entr(share).sum()),
        }
        return loss, metrics

    def _pixel_weights(
        self, x: Float[Tensor, "B 3 H W"], context: UInt8[Tensor, "B H W 3"] | None
    ) -> Float[Tensor, "B 1 H W"]:
        """1 + foreground_weight where a pixel differs from the scene's first image, else from the mean image."""
        background = self.mean_image if context is None else to_float(context)
        change = (x - background).abs().amax(1, keepdim=True)
        differs: Bool[Tensor, "B 1 H W"] = change > self.config.foreground_threshold
        return 1 + self.config.foreground_weight * differs

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
        counts = all_sum(torch.bincount(index, minlength=c.codes).float() * unit)
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
    def prepare(self, images: UInt8[Tensor, "B H W 3"]) -> None:
        """Look at a sample of the data once, before training: the mean image, and with `data_init` the codebook.

        A model that has been prepared stays as it is: going on with new data must not move what it learned.
        """
        if bool(self.prepared):
            return
        c = self.config
        self.mean_image.copy_(to_float(images).mean(0))
        if c.data_init:
            x = rearrange(self.features(images), "b c h w -> (b h w) c")
            pick = torch.linspace(0, len(x) - 1, c.codes, device=x.device).long()
            spread = x.std(0).mean() * 1e-3  # tells equal vectors apart, so that each code can win some
            ramp = torch.arange(c.codes * c.code_dim, device=x.device).view(c.codes, c.code_dim)
            self.codebook.copy_(x[pick] + spread * torch.sin(ramp.float()))
            self.total.copy_(PROBATION * self.codebook)
        self.prepared.fill_(True)
