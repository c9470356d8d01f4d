"""Subgoal generator: a conditional VAE p(z_{t+delta} | z_t) over the latent of a vision model.

PTP (Fang et al., "Planning to Practice", 2022), sec. IV-A, with the numbers of the released code (facts.md): the encoder
sees [h0 - h1, h0]; the decoder is a small U-Net with the code u at its bottleneck; loss = 1000 * SmoothL1 (mean) + 0.1 * KL
(sum over u); the prediction is not quantized in the loss. Here the decoder predicts the *change* from h0, so an untrained
generator stays where it is. Chained training conditions on the model's own previous prediction, quantized and detached.

Shapes: B batch, z flat latent = channels * rows * columns ("c h w" order), d the code u of the CVAE.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from planning.heads import HEADS, Metrics

Quantize = Callable[[Float[Tensor, "B z"]], Float[Tensor, "B z"]]
Generate = Callable[[Float[Tensor, "B z"], Float[Tensor, "B d"]], Float[Tensor, "B z"]]


@dataclass
class SubgoalCVAEConfig:
    """`latent_shape` is the vision model's (channels, rows, columns), or (z, 1, 1) for a latent without a grid."""

    latent_shape: tuple[int, int, int] = (5, 12, 12)
    network: str = (
        "unet"  # "unet" (the grid must halve at least once) or "mlp" (any shape, and the faster to plan with)
    )
    latent_dim: int = 8  # d, numbers in the code u
    channels: int = 64  # channels of the U-Net's finest level; each coarser level doubles them
    hidden: int = 512  # width of fully connected layers
    latent_scale: float = 1.0  # typical size of a latent number: the network and the losses see z / latent_scale
    likelihood: str = "smooth_l1"  # of a prediction: "smooth_l1" (numbers) or "codes" (of the vision model's codebook)
    reconstruction_weight: float = 1000.0  # on the mean SmoothL1; codes have their log likelihood
    kl_weight: float = 0.1  # on the KL summed over u, averaged over the batch
    learning_rate: float = 3e-4


class SubgoalCVAE(nn.Module):
    """Proposes what may be seen some steps later: `generate(z, u)` with u ~ N(0, I)."""

    CONFIG = SubgoalCVAEConfig

    def __init__(self, config: SubgoalCVAEConfig, codebook: Float[Tensor, "K c"] | None = None):
        """`codebook` is for likelihood="codes". Raises ValueError for an unknown network or likelihood, or a U-Net on a grid that cannot be halved."""
        super().__init__()
        self.config = config
        self.latent_dim = config.latent_dim
        encoder, decoder, self.head = parts(config, codebook)
        self.encoder = encoder(config)
        self.decoder = decoder(config, outputs=self.head.channels)
        self.quantize: Quantize | None = None  # of its own predictions, where it learns from chains
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def posterior(
        self, z0: Float[Tensor, "B z"], z1: Float[Tensor, "B z"]
    ) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B d"]]:
        """Mean and log variance of q(u | z0, z1)."""
        h0, h1 = to_grid(z0, self.config), to_grid(z1, self.config)
        mean, log_var = self.encoder(torch.cat([h0 - h1, h0], dim=1)).chunk(2, dim=-1)
        return mean, log_var

    def generate(self, z: Float[Tensor, "B z"], u: Float[Tensor, "B d"]) -> Float[Tensor, "B z"]:
        """The latent that code u leads to from z; numbers are continuous (snap them with the vision model's `quantize` if wanted)."""
        latent: Tensor = self.head(self.decoder(to_grid(z, self.config), u), z)
        return latent

    def begin(self, z: Float[Tensor, "P z"]) -> tuple[Callable[[Int[Tensor, "#B"], Float[Tensor, "B d"]], Float[Tensor, "B z"]], Generate]:
        """(rows of z, codes) -> `generate(z[rows], u)`, for few states and many codes, and `generate` for the links that follow; rows are one for each code, or a single one.

        What does not depend on u is computed once, which is most of a U-Net, and so is what is to be done to weights; they must not change while the functions are in use.
        """
        halves = self.decoder.halves()
        seen = self.decoder.read(to_grid(z, self.config), halves)

        def first(rows: Tensor, u: Tensor) -> Tensor:
            latent: Tensor = self.head(self.decoder.write([x[rows] for x in seen], u, halves), z[rows].expand(len(u), -1))
            return latent

        def later(z: Tensor, u: Tensor) -> Tensor:
            latent: Tensor = self.head(self.decoder.write(self.decoder.read(to_grid(z, self.config), halves), u, halves), z)
            return latent

        return first, later

    def loss(
        self, z0: Float[Tensor, "B z"], z1: Float[Tensor, "B z"], *later: Float[Tensor, "B z"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Negative ELBO of pairs (z_t, z_{t+delta}) and its parts, or of a chain of several (`chained_loss`, by the generator's `quantize`); metrics are detached 0-d tensors."""
        return self.chained_loss(torch.stack([z0, z1, *later]), self.quantize, generator)

    def chained_loss(
        self,
        chain: Float[Tensor, "links B z"],
        quantize: Quantize | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Mean loss along a chain of rows (`subgoal_chains`): each link starts from the previous link's own prediction.

        The prediction is detached, and quantized when `quantize` is given, so the model learns to start from the subgoals it
        will meet while planning. Two rows (links = 2) make it equal to `loss`.
        """
        current, losses = chain[0], []
        metrics: dict[str, Tensor] = {}
        for target in chain[1:]:
            loss, predicted, metrics = self._step(current, target, generator)
            losses.append(loss)
            current = predicted.detach() if quantize is None else quantize(predicted.detach())
        total = torch.stack(losses).mean()
        return total, {**metrics, "loss": total.detach()}

    def _step(
        self, z0: Float[Tensor, "B z"], z1: Float[Tensor, "B z"], generator: torch.Generator | None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "B z"], dict[str, Float[Tensor, ""]]]:
        u, kl = variational(*self.posterior(z0, z1), generator)
        error, predicted, metrics = self.head.loss(self.decoder(to_grid(z0, self.config), u), z0, z1)
        loss, metrics = negative_elbo(error, kl, predicted, z1, self.config, metrics)
        return loss, predicted, metrics


def to_grid(z: Float[Tensor, "B z"], config: SubgoalCVAEConfig) -> Float[Tensor, "B c h w"]:
    """A flat latent as the networks see it."""
    c, h, w = config.latent_shape
    return rearrange(z / config.latent_scale, "b (c h w) -> b c h w", c=c, h=h, w=w).contiguous(memory_format=torch.channels_last)


def variational(
    mean: Float[Tensor, "B d"], log_var: Float[Tensor, "B d"], generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "B d"], Float[Tensor, ""]]:
    """A draw of the posterior, whose log variance is kept in [-10, 10], and its KL from N(0, I), summed over the code and averaged over the batch."""
    log_var = log_var.clamp(-10.0, 10.0)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    kl = 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var).sum(-1).mean()
    return mean + (0.5 * log_var).exp() * noise, kl


def negative_elbo(
    error: Float[Tensor, ""], kl: Float[Tensor, ""], predicted: Float[Tensor, "B z"], target: Float[Tensor, "B z"], config: SubgoalCVAEConfig, metrics: Metrics
) -> tuple[Float[Tensor, ""], Metrics]:
    """The loss of a generator from its head's error, and its metrics, detached."""
    loss = error + config.kl_weight * kl
    metrics = {"loss": loss, **metrics, "kl": kl, "distance": (predicted - target).norm(dim=-1).mean()}
    return loss, {name: value.detach() for name, value in metrics.items()}


def parts(config: SubgoalCVAEConfig, codebook: Float[Tensor, "K c"] | None) -> tuple[Any, Any, Any]:
    """Classes of a generator's encoder and decoder, and its head. Raises ValueError for an unknown network or likelihood."""
    if config.network not in NETWORKS:
        raise ValueError(f"network must be one of {sorted(NETWORKS)}, got {config.network!r}")
    if config.likelihood not in HEADS:
        raise ValueError(f"likelihood must be one of {sorted(HEADS)}, got {config.likelihood!r}")
    return *NETWORKS[config.network], HEADS[config.likelihood](config, codebook)


class ConvEncoder(nn.Module):
    """(B, inputs, h, w) -> (B, 2d): two strided 3x3 convolutions (32, 64) and one hidden layer. inputs: 2c unless given."""

    def __init__(self, config: SubgoalCVAEConfig, inputs: int = 0):
        super().__init__()
        c, h, w = config.latent_shape
        quarter = ((h + 3) // 4) * ((w + 3) // 4)
        self.layers = nn.Sequential(
            nn.Conv2d(inputs or 2 * c, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * quarter, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, 2 * config.latent_dim),
        )

    def forward(self, x: Float[Tensor, "B i h w"]) -> Float[Tensor, "B two_d"]:
        """Mean and log variance, side by side."""
        return self.layers(x)


class UNetDecoder(nn.Module):
    """(B, inputs, h, w) and u (B, d) -> (B, outputs, h, w); 12 -> 6 -> 3 and back, u mixed in at the bottleneck. inputs, outputs: c unless given."""

    def __init__(self, config: SubgoalCVAEConfig, inputs: int = 0, outputs: int = 0):
        super().__init__()
        c, h, w = config.latent_shape
        inputs = inputs or c
        levels = _halvings(h, w)
        if levels == 0:
            raise ValueError(f"a U-Net needs an even grid of at least 4x4, got {h}x{w}; use network='mlp'")
        widths = [config.channels * 2**i for i in range(levels)]
        self.down = nn.ModuleList()
        for before, width in zip([inputs, *widths[:-1]], widths, strict=True):
            self.down.append(nn.Sequential(_conv(before, width), nn.ReLU(inplace=True), _conv(width, width, stride=2), nn.ReLU(inplace=True)))
        self.bottom_shape = (widths[-1], h >> levels, w >> levels)
        bottom = self.bottom_shape[0] * self.bottom_shape[1] * self.bottom_shape[2]
        self.code = nn.Sequential(nn.Linear(config.latent_dim, config.hidden), nn.ReLU())
        self.bottleneck = nn.Sequential(nn.Linear(bottom + config.hidden, bottom), nn.ReLU())
        self.skips = [*widths[::-1], inputs]  # channels of what the way up and the last layer see beside x
        self.up = nn.ModuleList()
        for width, after in zip(widths[::-1], [*widths[-2::-1], widths[0]], strict=True):
            self.up.append(nn.Sequential(_conv(2 * width, after), nn.ReLU()))
        self.out = nn.Conv2d(widths[0] + inputs, outputs or c, 1)
        _zero(self.out)

    def forward(self, h0: Float[Tensor, "B i h w"], u: Float[Tensor, "B d"]) -> Float[Tensor, "B o h w"]:
        """What a head reads."""
        halves = self.halves()
        return self.write(self.read(h0, halves), u, halves)

    # Every layer after the code has two inputs, x and a skip, and is a sum of both: the skips' terms, with the biases, do not depend on u.
    def halves(self) -> list["Half"]:
        """Weights of x and of the skip, and biases: of the bottleneck, the way up and the last layer. The bottleneck's are for pixels in the order of memory, "h w c"."""
        c, h, w = self.bottom_shape
        weight, bias = _first(self.bottleneck)
        of_pixels, of_code = (rearrange(x, "(c h w) i -> (h w c) i", c=c, h=h) for x in (weight[:, : c * h * w], weight[:, c * h * w :]))
        bottom = Half(of_code, rearrange(of_pixels, "o (c h w) -> o (h w c)", c=c, h=h), rearrange(bias, "(c h w) -> (h w c)", c=c, h=h))
        rest = zip([*map(_first, self.up), _first([self.out])], self.skips, strict=True)
        halves = [bottom, *(Half(weight[:, :-skip], weight[:, -skip:], bias) for (weight, bias), skip in rest)]
        return [half.ready() for half in halves]

    def read(self, h0: Float[Tensor, "B i h w"], halves: list["Half"]) -> list[Float[Tensor, "B ..."]]:
        """The terms of h0 in the bottleneck, the way up and the last layer."""
        x, skips = h0, []
        for down in self.down:
            x = down(x)
            skips.append(x)
        bottom, *ups, out = halves
        terms = [F.linear(x.permute(0, 2, 3, 1).flatten(1), bottom.skip, bottom.bias)]
        terms += [F.conv2d(skip, up.skip, up.bias, padding=1) for up, skip in zip(ups, reversed(skips), strict=True)]
        return [*terms, F.conv2d(h0, out.skip, out.bias)]

    def write(self, terms: list[Float[Tensor, "#B ..."]], u: Float[Tensor, "B d"], halves: list["Half"]) -> Float[Tensor, "B o h w"]:
        """What a head reads, from `read`'s terms (one of each code's, or one for all)."""
        _, h, w = self.bottom_shape
        bottom, *ups, out = halves
        first, *rest, last = terms
        x = rearrange(F.linear(self.code(u), bottom.x).add_(first).relu_(), "b (h w c) -> b c h w", h=h, w=w)
        for i, (up, term) in enumerate(zip(ups, rest, strict=True)):
            x = F.conv2d(_doubled(x) if i else x, up.x, padding=1).add_(term).relu_()
        return last + _doubled(F.conv2d(x, out.x))  # one pixel at a time, so before it is doubled


class Half(NamedTuple):
    """The parameters of a layer whose input is x beside a skip."""

    x: Tensor
    skip: Tensor
    bias: Tensor

    def ready(self) -> "Half":
        """In memory as they are needed, and under autocast of its type: once for many calls, where the layers themselves would do it in each."""
        kind = self.x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.x.dtype
        return Half(*(p.to(dtype).contiguous(memory_format=torch.channels_last if p.ndim == 4 else torch.contiguous_format) for p in self))


class MLPEncoder(nn.Module):
    """(B, inputs, h, w) -> (B, 2d) with two hidden layers. inputs: 2c unless given."""

    def __init__(self, config: SubgoalCVAEConfig, inputs: int = 0):
        super().__init__()
        self.layers = _mlp(_size(config, inputs or 2 * config.latent_shape[0]), config.hidden, 2 * config.latent_dim)

    def forward(self, x: Float[Tensor, "B i h w"]) -> Float[Tensor, "B two_d"]:
        """Mean and log variance, side by side."""
        return self.layers(x.flatten(1))


class MLPDecoder(nn.Module):
    """(B, inputs, h, w) and u (B, d) -> (B, outputs, h, w), with two hidden layers. inputs, outputs: c unless given."""

    def __init__(self, config: SubgoalCVAEConfig, inputs: int = 0, outputs: int = 0):
        super().__init__()
        c, h, w = config.latent_shape
        self.shape, self.latent_dim = (outputs or c, h, w), config.latent_dim
        self.layers = _mlp(_size(config, inputs or c) + config.latent_dim, config.hidden, _size(config, outputs or c))
        _zero(self.layers[-1])

    def forward(self, h0: Float[Tensor, "B i h w"], u: Float[Tensor, "B d"]) -> Float[Tensor, "B o h w"]:
        """What a head reads."""
        halves = self.halves()
        return self.write(self.read(h0, halves), u, halves)

    def halves(self) -> list["Half"]:
        """The first layer's weights of u and of h0, and its bias."""
        weight, bias = _first(self.layers)
        return [Half(weight[:, -self.latent_dim :], weight[:, : -self.latent_dim], bias).ready()]

    def read(self, h0: Float[Tensor, "B i h w"], halves: list["Half"]) -> list[Float[Tensor, "B f"]]:
        """The term of h0 in the first layer."""
        return [F.linear(h0.flatten(1), halves[0].skip, halves[0].bias)]

    def write(self, terms: list[Float[Tensor, "#B f"]], u: Float[Tensor, "B d"], halves: list["Half"]) -> Float[Tensor, "B o h w"]:
        """What a head reads, from `read`'s term (one of each code's, or one for all)."""
        return self.layers[1:](F.linear(u, halves[0].x).add_(terms[0])).unflatten(1, self.shape)


NETWORKS = {"unet": (ConvEncoder, UNetDecoder), "mlp": (MLPEncoder, MLPDecoder)}


def _halvings(h: int, w: int) -> int:
    """How often a grid halves exactly, at most twice, staying at least 2 wide: 12 -> 2, 6 -> 1, 5 -> 0."""
    count = 0
    while count < 2 and h % 2 == 0 and w % 2 == 0 and min(h, w) >= 4:
        h, w, count = h // 2, w // 2, count + 1
    return count


def _size(config: SubgoalCVAEConfig, channels: int) -> int:
    _, h, w = config.latent_shape
    return channels * h * w


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1)


def _mlp(before: int, hidden: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(before, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, after)
    )


def _first(layers: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of the first of several layers."""
    return layers[0].weight, layers[0].bias


def _doubled(x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c two_h two_w"]:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _zero(layer: nn.Module) -> None:
    """Start at no change: zero weights and bias (gradients still reach them)."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
