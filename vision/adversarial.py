"""What adversarially learned models share (BiGAN, conditional BiGAN): the game, its networks, and the prior N(0, I).

Donahue et al. 2017, "Adversarial Feature Learning" (eq. 3), and Dumoulin et al. 2017, "Adversarially Learned Inference": a discriminator
D tells (x, E(x)) from (G(z), z); encoder E and generator G, together, make it err. At the optimum E inverts G (theorem 2).

Both losses are computed in one pass and summed, each with gradients for its owner alone: D sees detached pairs, and E and G are judged by
D with its parameters detached. E and G minimise the non-saturating form (labels swapped; Donahue, section 3.4).

What makes it learn in a few minutes: every player sees and draws pictures minus the data's mean picture, in units of the spread around it;
D and E see, and G draws, the picture at the coarsest resolution also past their convolutions (skips, Karras et al. 2020, section 4.1), which
is where a scene's ground is. Against a D that wins: R1, a penalty on D's gradient at pairs (x, E(x)) (Mescheder et al. 2018, eq. 9), noise on
the pictures that D sees (Sonderby et al. 2017), Adam without momentum (Karras et al. 2018). Against collapse, of the encoder too: E must find
z in G(z) (the latent's cycle of Li et al. 2017, "ALICE", and Chen et al. 2016, "InfoGAN"). `encode` and `decode` use running averages of
E's and G's weights (Yazici et al. 2019).
"""

import copy
from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vision.images import to_float
from vision.networks import Standard, channels_last, check_pictures

HALVINGS = 3
CELL = 2**HALVINGS  # pixels of a side of the picture to one cell of the coarsest map


def check_adversarial(owner: str, c: Any, *sizes: int) -> None:
    """Raise ValueError for settings that no adversarial model can have."""
    if c.image_size < CELL or c.image_size % CELL:
        near = max(1, round(c.image_size / CELL)) * CELL
        raise ValueError(f"{owner}: image_size={c.image_size} must be a multiple of {CELL} ({HALVINGS} halvings), for instance {near}")
    if min(c.latents, c.channels, c.hidden, *sizes) < 1 or min(c.noise, c.penalty, c.invert, c.weight_decay) < 0:
        raise ValueError(f"{owner}: every size (latents, channels, hidden) must be at least 1, noise, penalty, invert and weight_decay at least 0")
    if not 0 <= c.average < 1:
        raise ValueError(f"{owner}: average={c.average} must lie in [0, 1), for instance 0.99; 0 is the weights themselves")
    if c.channels % 4:
        raise ValueError(f"{owner}: channels={c.channels} must be a multiple of 4 (the groups of its normalisation), for instance 16")
    if len(c.betas) != 2 or not all(0 <= b < 1 for b in c.betas):
        raise ValueError(f"{owner}: betas={c.betas} must be two numbers in [0, 1), for instance [0.5, 0.999]")


def halve(channels: int, inputs: int) -> nn.Sequential:
    """Pictures (B, inputs, S, S) to maps (B, 4 channels, S/8, S/8); every second layer is a map of half the size."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, channels), (channels, 2 * channels), (2 * channels, 4 * channels)):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


def beside(x: Float[Tensor, "B 3 H W"], context: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "B 6 H W"]:
    """Each picture's difference from its context (one for all, or one for each), and the context: what changed is plain to see."""
    return torch.cat([x - context, context.expand(len(x), -1, -1, -1)], 1)


class Look(nn.Module):
    """Pictures to `hidden` numbers: maps of features, beside them the picture itself at their resolution."""

    def __init__(self, image_size: int, channels: int, hidden: int, inputs: int) -> None:
        super().__init__()
        self.halve = channels_last(halve(channels, inputs))
        self.gather = nn.Linear((4 * channels + inputs) * (image_size // CELL) ** 2, hidden)

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B h"]:
        """Not yet rectified."""
        return self.gather(torch.cat([self.halve(x), F.avg_pool2d(x, CELL)], 1).flatten(1))  # type: ignore[no-any-return]


def encoder(image_size: int, channels: int, outputs: int, hidden: int, inputs: int) -> nn.Sequential:
    """Pictures to `outputs` numbers."""
    return nn.Sequential(Look(image_size, channels, hidden, inputs), nn.LeakyReLU(0.2), nn.Linear(hidden, outputs))


class Drawer(nn.Module):
    """G: a latent, and maps of the context at each resolution where there is one, to `outputs` channels (B, outputs, S, S)."""

    def __init__(self, image_size: int, channels: int, latents: int, outputs: int = 3, context: tuple[int, int, int] = (0, 0, 0)) -> None:
        super().__init__()
        c, side = channels, image_size // CELL
        self.start = nn.Sequential(nn.Linear(latents, 4 * c * side**2), nn.Unflatten(1, (4 * c, side, side)))
        self.colours = nn.Conv2d(4 * c, outputs, 1)
        self.stages = nn.ModuleList()
        for before, after, given in ((4 * c, 4 * c, context[2]), (4 * c, 2 * c, context[1]), (2 * c, c, context[0])):
            self.stages.append(nn.Sequential(nn.Conv2d(before + given, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()))
        self.end = nn.Sequential(nn.Conv2d(c, 4 * outputs, 3, padding=1), nn.PixelShuffle(2))  # full resolution is dear
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Float[Tensor, "B z"], context: list[Tensor] | None = None) -> Float[Tensor, "B c H W"]:
        """The picture of each latent; `context` holds maps from fine to coarse."""
        x = self.start(z)
        coarse = F.interpolate(self.colours(x), scale_factor=CELL, mode="bilinear")
        for i, stage in enumerate(self.stages):
            x = x if i == 0 else F.interpolate(x, scale_factor=2)
            x = stage(x if context is None else torch.cat([x, context[-1 - i].expand(len(x), -1, -1, -1)], 1))
        return (coarse + self.end(x)).float()  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """D(x, z), or D(x, z, s_0) with the context stacked on the channels of x: one logit, above 0 for pairs (x, E(x))."""

    def __init__(self, image_size: int, channels: int, latents: int, hidden: int, inputs: int) -> None:
        super().__init__()
        self.look = Look(image_size, channels, hidden, inputs)
        self.latent = nn.Sequential(nn.Linear(latents, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden))
        self.judge = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(2 * hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def forward(self, x: Float[Tensor, "B c H W"], z: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """A logit for each pair."""
        return self.judge(torch.cat([self.look(x), self.latent(z)], 1)).squeeze(1)  # type: ignore[no-any-return]


class Adversarial(nn.Module):
    """A model with `infer(images, context)` and `draw(z, context)`; its config has `image_size`, `latents`, `noise`, `penalty`, `invert`,
    `average`, `learning_rate`, `betas`."""

    select_best = False  # the loss of one player says nothing about how good the model is
    players: nn.ModuleDict
    averaged: nn.ModuleDict
    discriminator: nn.Module

    def __init__(self, config: Any, players: dict[str, nn.Module], discriminator: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.standard = Standard(config.image_size)
        self.players = nn.ModuleDict(players)
        self.averaged = copy.deepcopy(self.players).requires_grad_(False)
        self.discriminator = discriminator

    @property
    def latent_dim(self) -> int:
        """z."""
        return self.config.latents  # type: ignore[no-any-return]

    def prepare(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> None:
        """Begin at the data's mean picture and spread."""
        self.standard.prepare(images)

    @torch.no_grad()
    def after_step(self) -> None:
        """The averages follow E's and G's weights."""
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.players.parameters()), 1 - self.config.average)

    @abstractmethod
    def infer(self, players: nn.ModuleDict, x: Float[Tensor, "B 3 H W"], context: Float[Tensor, "b 3 H W"] | None) -> Float[Tensor, "B z"]:
        """E(x), or E(x, s_0), of standardised pictures."""

    @abstractmethod
    def draw(self, players: nn.ModuleDict, z: Float[Tensor, "B z"], context: Float[Tensor, "b 3 H W"] | None) -> Float[Tensor, "B 3 H W"]:
        """G(z), or G(z, s_0), a standardised picture."""

    @abstractmethod
    def given(self, context: UInt8[Tensor, "b H W 3"] | None, n: int) -> Float[Tensor, "b 3 H W"] | None:
        """The standardised context, where the model uses one."""

    def shown(self, x: Float[Tensor, "B 3 H W"], context: Float[Tensor, "b 3 H W"] | None) -> Float[Tensor, "B c H W"]:
        """What D sees of a picture: the picture with noise, and below it the context where the model has one."""
        x = x + self.config.noise * torch.randn(x.shape, device=x.device) if self.training else x
        return x if context is None else beside(x, context)

    def losses(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], dict[str, Tensor]]:
        """(D's loss, with gradients for D alone; E's and G's, with gradients for them alone; metrics)."""
        z = torch.randn(len(images), self.latent_dim, device=images.device)
        x, given = self.standard(images), self.given(context, len(images))
        inferred, drawn = self.infer(self.players, x, given), self.draw(self.players, z, given)
        real, fake = self.shown(x, given), self.shown(drawn, given)
        truth, lie = self.judge(real, inferred.detach(), fake.detach(), z)
        of_d = F.softplus(-truth).mean() + F.softplus(lie).mean()
        if self.training and self.config.penalty:
            of_d = of_d + 0.5 * self.config.penalty * self.steepness(real, inferred)
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        to_fool, to_pass = self.judge(real, inferred, fake, z, frozen)
        of_eg = F.softplus(to_fool).mean() + F.softplus(-to_pass).mean()
        missed = (self.infer(self.players, drawn, given) - z).square().mean()
        of_eg = of_eg + self.config.invert * missed
        right = 0.5 * ((truth > 0).float().mean() + (lie < 0).float().mean())
        metrics = {"discriminator": of_d.detach(), "generator": of_eg.detach(), "accuracy": right.detach(), "missed": missed.detach()}
        return of_d, of_eg, metrics

    def judge(
        self, x: Tensor, z_of_x: Tensor, drawn: Tensor, z: Tensor, parameters: dict[str, Tensor] | None = None
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """D of the pairs (x, E(x)) and of (G(z), z), with other parameters in place of its own where given."""
        of = self.discriminator if parameters is None else lambda *pair: functional_call(self.discriminator, parameters, pair)
        return of(x, z_of_x).float(), of(drawn, z).float()

    def steepness(self, x: Float[Tensor, "B c H W"], z: Float[Tensor, "B z"]) -> Float[Tensor, ""]:
        """Mean squared norm of D's gradient at pairs (x, E(x)), over a quarter of the batch: it is dear, and an average will do."""
        some = max(1, len(x) // 4)
        at = x[:some].detach().requires_grad_(), z[:some].detach().requires_grad_()
        of_x, of_z = torch.autograd.grad(self.discriminator(*at).sum(), at, create_graph=True)
        return of_x.square().sum((1, 2, 3)).mean() + of_z.square().sum(1).mean()

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Both losses, summed. Metrics: loss, discriminator, generator (E's and G's), accuracy (of D; 0.5 where it is fooled), missed
        (squared error of E(G(z)), a number of z), mse (of G(E(x)), which nothing here minimises, on an eighth of the batch)."""
        of_d, of_eg, metrics = self.losses(images, context)
        loss = of_d + of_eg
        some = max(1, len(images) // 8)
        images, context = images[:some], context if context is None or len(context) == 1 else context[:some]
        with torch.no_grad():
            mse = (self.decode(self.encode(images, context), context) - to_float(images)).square().mean()
        return loss, {"loss": loss.detach(), **metrics, "mse": mse}

    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """The inferred latent."""
        check_pictures(type(self).__name__, images, self.config.image_size)
        return self.infer(self.averaged, self.standard(images), self.given(context, len(images))).float()

    def decode(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """Images in [0, 1]."""
        x = self.draw(self.averaged, z, self.given(context, len(z)))
        return (x * self.standard.spread + self.standard.mean).clamp(0, 1)

    def sample(
        self, n: int, context: UInt8[Tensor, "b H W 3"] | None = None, *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """n latents of the prior N(0, I)."""
        return torch.randn(n, self.latent_dim, generator=generator, device=self.standard.mean.device)
