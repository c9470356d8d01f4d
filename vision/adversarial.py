"""What adversarially learned models share (BiGAN, conditional BiGAN): the game, its networks, and the prior N(0, I).

Donahue et al. 2017, "Adversarial Feature Learning" (eq. 3), and Dumoulin et al. 2017, "Adversarially Learned Inference": a discriminator
D tells (x, E(x)) from (G(z), z); encoder E and generator G, together, make it err. At the optimum E inverts G (theorem 2).

Both losses are computed in one pass and summed, each with gradients for its owner alone: D sees detached pairs, and E and G are judged by
D with its parameters detached. E and G minimise the non-saturating form (labels swapped; Donahue, section 3.4). Against collapse: R1, a
penalty on D's gradient at pairs (x, E(x)) (Mescheder et al. 2018, eq. 9), and noise on the pictures that D sees (Sonderby et al. 2017).
"""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vision.images import to_float
from vision.networks import channels_last

HALVINGS = 3
CELL = 2**HALVINGS  # pixels of a side of the picture to one cell of the coarsest map


def check_adversarial(owner: str, c: Any, *sizes: int) -> None:
    """Raise ValueError for settings that no adversarial model can have."""
    if c.image_size < CELL or c.image_size % CELL:
        near = max(1, round(c.image_size / CELL)) * CELL
        raise ValueError(f"{owner}: image_size={c.image_size} must be a multiple of {CELL} ({HALVINGS} halvings), for instance {near}")
    if min(c.latents, c.channels, c.hidden, *sizes) < 1 or min(c.noise, c.penalty, c.weight_decay) < 0:
        raise ValueError(f"{owner}: every size (latents, channels, hidden) must be at least 1, noise, penalty and weight_decay at least 0")
    if c.channels % 4:
        raise ValueError(f"{owner}: channels={c.channels} must be a multiple of 4 (the groups of its normalisation), for instance 16")
    if len(c.betas) != 2 or not all(0 <= b < 1 for b in c.betas):
        raise ValueError(f"{owner}: betas={c.betas} must be two numbers in [0, 1), for instance [0.5, 0.999]")


def halve(channels: int, inputs: int) -> nn.Sequential:
    """Pictures (B, inputs, S, S) to maps (B, 4 channels, S/8, S/8)."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, channels), (channels, 2 * channels), (2 * channels, 4 * channels)):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


def encoder(image_size: int, channels: int, outputs: int, hidden: int, inputs: int) -> nn.Sequential:
    """Pictures to `outputs` numbers."""
    flat = 4 * channels * (image_size // CELL) ** 2
    return channels_last(
        nn.Sequential(halve(channels, inputs), nn.Flatten(), nn.Linear(flat, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, outputs))
    )


class Drawer(nn.Module):
    """G: a latent, and a map of the context where there is one, to pictures (B, 3, S, S) in (0, 1)."""

    def __init__(self, image_size: int, channels: int, latents: int, context_channels: int = 0) -> None:
        super().__init__()
        c, side = channels, image_size // CELL
        self.start = nn.Sequential(nn.Linear(latents, 4 * c * side**2), nn.Unflatten(1, (4 * c, side, side)))
        layers: list[nn.Module] = [nn.Conv2d(4 * c + context_channels, 4 * c, 3, padding=1)]
        for before, after in ((4 * c, 2 * c), (2 * c, c)):
            layers += [nn.GroupNorm(4, before), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
        layers += [nn.GroupNorm(4, c), nn.ReLU(), nn.Conv2d(c, 12, 3, padding=1), nn.PixelShuffle(2)]  # full resolution is dear
        self.draw = nn.Sequential(*layers)
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Float[Tensor, "B z"], context: Float[Tensor, "B c h w"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """The picture of each latent."""
        start = self.start(z)
        return torch.sigmoid(self.draw(start if context is None else torch.cat([start, context], 1)).float())


class Discriminator(nn.Module):
    """D(x, z), or D(x, z, s_0) with the context stacked on the channels of x: one logit, above 0 for pairs (x, E(x))."""

    def __init__(self, image_size: int, channels: int, latents: int, hidden: int, inputs: int) -> None:
        super().__init__()
        flat = 4 * channels * (image_size // CELL) ** 2
        self.look = nn.Sequential(halve(channels, inputs), nn.Flatten(), nn.Linear(flat, hidden))
        self.latent = nn.Sequential(nn.Linear(latents, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden))
        self.judge = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(2 * hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def forward(self, x: Float[Tensor, "B c H W"], z: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """A logit for each pair."""
        return self.judge(torch.cat([self.look(x), self.latent(z)], 1)).squeeze(1)  # type: ignore[no-any-return]


class Adversarial(nn.Module):
    """A model with `infer(images, context)` and `draw(z, context)`; its config has `latents`, `noise`, `penalty`, `learning_rate`, `betas`."""

    select_best = False  # the loss of one player says nothing about how good the model is
    discriminator: nn.Module

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def latent_dim(self) -> int:
        """z."""
        return self.config.latents  # type: ignore[no-any-return]

    @abstractmethod
    def infer(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """E(x), or E(x, s_0)."""

    @abstractmethod
    def draw(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """G(z), or G(z, s_0), in (0, 1)."""

    def shown(self, x: Float[Tensor, "B 3 H W"], context: UInt8[Tensor, "b H W 3"] | None) -> Float[Tensor, "B c H W"]:
        """What D sees of a picture: the picture with noise, and below it the context where the model has one."""
        return x + self.config.noise * torch.randn(x.shape, device=x.device) if self.training else x

    def losses(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], dict[str, Tensor]]:
        """(D's loss, with gradients for D alone; E's and G's, with gradients for them alone; metrics)."""
        z = torch.randn(len(images), self.latent_dim, device=images.device)
        x, inferred, drawn = to_float(images), self.infer(images, context), self.draw(z, context)
        real, fake = self.shown(x, context), self.shown(drawn, context)
        truth, lie = self.judge(real, inferred.detach(), fake.detach(), z)
        of_d = F.softplus(-truth).mean() + F.softplus(lie).mean()
        if self.training and self.config.penalty:
            of_d = of_d + 0.5 * self.config.penalty * self.steepness(real, inferred)
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        to_fool, to_pass = self.judge(real, inferred, fake, z, frozen)
        of_eg = F.softplus(to_fool).mean() + F.softplus(-to_pass).mean()
        right = 0.5 * ((truth > 0).float().mean() + (lie < 0).float().mean())
        metrics = {"discriminator": of_d.detach(), "generator": of_eg.detach(), "accuracy": right.detach()}
        return of_d, of_eg, metrics

    def judge(
        self, x: Tensor, z_of_x: Tensor, drawn: Tensor, z: Tensor, parameters: dict[str, Tensor] | None = None
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """D of the pairs (x, E(x)) and of (G(z), z), in one pass, with other parameters in place of its own where given."""
        pairs = torch.cat([x, drawn]), torch.cat([z_of_x, z])
        logits = self.discriminator(*pairs) if parameters is None else functional_call(self.discriminator, parameters, pairs)
        first, second = logits.float().chunk(2)
        return first, second

    def steepness(self, x: Float[Tensor, "B c H W"], z: Float[Tensor, "B z"]) -> Float[Tensor, ""]:
        """Mean squared norm of D's gradient at pairs (x, E(x)), over a quarter of the batch: it is dear, and an average will do."""
        some = max(1, len(x) // 4)
        at = x[:some].detach().requires_grad_(), z[:some].detach().requires_grad_()
        of_x, of_z = torch.autograd.grad(self.discriminator(*at).sum(), at, create_graph=True)
        return of_x.square().sum((1, 2, 3)).mean() + of_z.square().sum(1).mean()

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Both losses, summed. Metrics: loss, discriminator, generator (E's and G's), accuracy (of D; 0.5 where it is fooled), mse (of
        G(E(x)), which nothing here minimises)."""
        of_d, of_eg, metrics = self.losses(images, context)
        loss = of_d + of_eg
        with torch.no_grad():
            mse = (self.decode(self.encode(images, context), context) - to_float(images)).square().mean()
        return loss, {"loss": loss.detach(), **metrics, "mse": mse}

    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """The inferred latent."""
        return self.infer(images, context).float()

    def decode(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """Images in [0, 1]."""
        return self.draw(z, context)

    def sample(
        self, n: int, context: UInt8[Tensor, "b H W 3"] | None = None, *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """n latents of the prior N(0, I)."""
        return torch.randn(n, self.latent_dim, generator=generator, device=next(self.parameters()).device)
