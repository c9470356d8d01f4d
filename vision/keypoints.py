"""Networks of flat latent models that know about places: an encoder that reads where features are, a decoder that draws at places.

A bottleneck of few numbers that has found the most visible thing of a scene (a hand) fills with it, and the smaller ones (pucks) are left out
for good. Two things prevent that. The encoder's convolutions are beside it read by a spatial softmax (Finn et al. 2016), so that even
before any training its numbers say roughly where everything is; while it is held as it began (`hold` of the configs), the decoder learns
to draw from that, which is mere regression. And the decoder begins with Gaussian heat maps at places that are linear in the latents
(Jakab et al. 2018), so that latents come to follow places linearly.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vision.networks import STRIDES, channels_last, convolutions, widths

HELD_LOG_VAR = -4.0  # of the posterior while the encoder is held and its means have variance 1, and where it begins after


def spatial_softmax(maps: Float[Tensor, "B f h w"], temperature: Float[Tensor, ""]) -> Float[Tensor, "B two_f"]:
    """The expected position of each map's activation: all x, then all y, from -1 (the first pixel's middle) to 1 (the last one's)."""
    b, f, h, w = maps.shape
    p = torch.softmax(maps.float().flatten(2) / temperature, -1).view(b, f, h, w)
    across, downward = (torch.linspace(-1, 1, n, device=maps.device) for n in (w, h))
    return torch.cat([p.sum(2) @ across, p.sum(3) @ downward], 1)


class KeypointEncoder(nn.Module):
    """Pictures (B, inputs, S, S) to the statistics (B, 2 * latents) of a posterior, means first.

    Three convolutions as in `networks.down`. The places of the features of maps after the first of them enter the hidden layer, and also
    the output directly, which at the beginning is nothing else. The means are standardised over the batch (BN-VAE, Zhu et al. 2020): no
    latent falls silent, and what is encoded has the spread of the prior.
    """

    def __init__(self, image_size: int, channels: int, latents: int, hidden: int, inputs: int = 3) -> None:
        super().__init__()
        a, b, _ = widths(channels)
        layers, flat = convolutions(image_size, channels, inputs)
        self.first, self.rest = nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:])
        self.maps = nn.Conv2d(a, b, 3, 1, 1)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.3)))
        self.standard = nn.BatchNorm1d(2 * b, affine=False)
        last = nn.Linear(hidden, 2 * latents)
        self.hidden = nn.Sequential(nn.Linear(flat + 2 * b, hidden), nn.ReLU(), last)
        self.direct = nn.Linear(2 * b, 2 * latents)
        self.unit = nn.BatchNorm1d(latents, affine=False)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            self.direct.bias[latents:] += HELD_LOG_VAR
        channels_last(self)

    def forward(self, x: Float[Tensor, "B i S S"]) -> Float[Tensor, "B two_z"]:
        """Means and log variances."""
        features = self.first(x)
        places = self.standard(self.places(features))
        out = self.hidden(torch.cat([self.rest(features), places], 1)) + self.direct(places)
        mean, log_var = out.chunk(2, 1)
        return torch.cat([self.unit(mean), log_var], 1)

    def places(self, features: Float[Tensor, "B c h w"]) -> Float[Tensor, "B f"]:
        """Where the features made of the first maps are."""
        return spatial_softmax(self.maps(features), self.log_temperature.exp())

    @torch.no_grad()
    def prepare(self, x: Float[Tensor, "B i S S"]) -> None:
        """Begin with the principal components of the places in these pictures as means: numbers that follow hands and pucks nearly linearly
        before anything is learned. With fewer pictures than latents, the rest stays random."""
        places = self.places(self.first(x))
        spread, mean = torch.std_mean(places, 0)
        _, size, axes = torch.linalg.svd((places - mean) / spread.clamp_min(1e-6), full_matrices=False)
        n = min(len(self.unit.running_mean), len(axes))  # type: ignore[arg-type]
        self.direct.weight[:n] = axes[:n] * (math.sqrt(len(x)) / size[:n, None].clamp_min(1e-6))
        self.direct.bias[:n] = 0

    @torch.no_grad()
    def held(self, x: Float[Tensor, "B i S S"]) -> Float[Tensor, "B two_z"]:
        """As `forward`, without a gradient, and with the constant variance of a held encoder."""
        mean = self(x).chunk(2, 1)[0]
        return torch.cat([mean, torch.full_like(mean, HELD_LOG_VAR)], 1)


class KeypointDecoder(nn.Module):
    """(B, inputs) to pictures (B, 3, S, S), linear: heat maps over (S/3)^2 cells of 3 by 3 pixels, Gaussian bumps whose middles are linear in the
    latents, are mixed, beside the coordinates of the cells, by a small network that looks at neighbours. The last features are scaled and
    shifted by the inputs, as those of `Up`.

    Args: image_size, channels as `networks.down`'s; `inputs` numbers for each picture, the first `placed` of which (default: all) say where
    the bumps are: the others, which say how things look, only scale and shift, and so cannot say where things are.
    """

    BUMPS = 32
    line: Tensor
    places: Tensor

    def __init__(self, image_size: int, channels: int, inputs: int, placed: int | None = None) -> None:
        super().__init__()
        self.placed = placed or inputs
        line = torch.linspace(-1, 1, image_size // STRIDES[0])
        self.register_buffer("line", line)
        self.register_buffer("places", torch.stack(torch.meshgrid(line, line, indexing="ij"))[None])
        _, fine, wide = widths(channels)
        self.middles = nn.Linear(self.placed, 2 * self.BUMPS)
        self.log_widths = nn.Parameter(torch.linspace(0.12, 0.5, self.BUMPS).log())
        self.bumps, self.where = nn.Conv2d(self.BUMPS, wide, 1), nn.Conv2d(2, wide, 1, bias=False)
        self.shapes = nn.Sequential(nn.ReLU(), nn.Conv2d(wide, fine, 1), nn.ReLU(), nn.Conv2d(fine, fine, 3, 1, 1))
        self.modulation = nn.Linear(inputs, 2 * fine)
        self.paint = nn.Sequential(nn.ReLU(), nn.Conv2d(fine, 3 * STRIDES[0] ** 2, 1), nn.PixelShuffle(STRIDES[0]))
        with torch.no_grad():
            self.middles.weight.normal_(0, 1 / math.sqrt(self.placed))  # latents of variance 1 spread the bumps over the picture
            self.middles.bias.uniform_(-0.5, 0.5)
        for weights in self.modulation.parameters():
            nn.init.zeros_(weights)  # begins as no modulation
        channels_last(self)

    def heat(self, z: Float[Tensor, "B p"]) -> Float[Tensor, "B k h w"]:
        """The heat maps, in (0, 1], row by row from the top left."""
        across, downward = self.middles(z).chunk(2, 1)
        width = self.log_widths.exp()[None, :, None]
        column, row = (torch.exp(-0.5 * ((self.line - at[..., None]) / width).square()) for at in (across, downward))
        return row[..., :, None] * column[..., None, :]

    def forward(self, z: Float[Tensor, "B z"]) -> Float[Tensor, "B 3 H W"]:
        """What the likelihood is given, around the mean picture."""
        scale, shift = self.modulation(z)[:, :, None, None].chunk(2, 1)
        shapes = self.shapes(self.bumps(self.heat(z[:, : self.placed])) + self.where(self.places))
        return self.paint(shapes * (1 + scale) + shift)  # type: ignore[no-any-return]
