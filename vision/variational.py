"""What variational models with the prior N(0, I) share: the bound, its weighted loss, the prior.

Loss = E_q[-log p(x | z)] + beta * KL(q(z | x) || N(0, I)) (Kingma and Welling 2014, eq. 3; Higgins et al. 2017, eq. 4), summed over
pixels, channels and latent numbers, averaged over the batch (errata: beta has no meaning without the reduction).
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from vision.images import to_float
from vision.keypoints import KeypointDecoder, KeypointEncoder
from vision.likelihoods import gaussian_kl, make_likelihood, reparameterise, standard_normal_log_prob
from vision.networks import Standard, Up, check_pictures, down, one_or_each

LOG_VAR = (-12.0, 6.0)  # a posterior's log variance is kept in this range: exp stays finite in any precision
NETWORKS = ("conv", "keypoints")
RAMP = 0.7  # of training, after which beta has arrived


class Bound(NamedTuple):
    """The terms of the bound for each image, and the image decoded from the sampled latent."""

    nll: Float[Tensor, " B"]
    kl: Float[Tensor, " B"]
    decoded: Float[Tensor, "B 3 H W"]


def gaussian(statistics: Float[Tensor, "B two_z"]) -> tuple[Float[Tensor, "B z"], Float[Tensor, "B z"]]:
    """Mean and log variance from an encoder's output."""
    mean, log_var = statistics.float().chunk(2, 1)
    return mean, log_var.clamp(*LOG_VAR)


class Variational(nn.Module):
    """A model with an `encoder` and `render(z, context)`, the likelihood's argument; its config has `image_size`, `latents`,
    `beta`, `likelihood` and `std`."""

    needs_context: bool
    encoder: nn.Module

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.progress = 0.0  # of training, in [0, 1]; `vision.train.fit` sets it
        self.annealing = True  # False: further training keeps the final beta, and holds nothing
        self.likelihood = make_likelihood(config.likelihood, config.std)
        self.standard = Standard(config.image_size)

    def prepare(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> None:
        """Begin at the data's mean picture and spread, and an encoder of keypoints at what varies most among their places."""
        if bool(self.standard.prepared):
            return
        self.standard.prepare(images)
        if isinstance(self.encoder, KeypointEncoder):
            self.encoder.prepare(self.seen(images, context))

    def around_mean(self, out: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """A decoder's output, which is a difference from the mean picture, as the likelihood's argument."""
        return out.float() + self.likelihood.output(self.standard.mean)

    def seen(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None) -> Float[Tensor, "B i S S"]:
        """Pictures as the encoder sees them: alone, or with a context that the model needs. Raises ValueError without one it needs."""
        check_pictures(type(self).__name__, images, self.config.image_size)
        if not self.needs_context:
            return self.standard(images)  # type: ignore[no-any-return]
        return self.standard.stack(images, one_or_each(type(self).__name__, context, len(images)))

    def posterior(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, "B z"], Float[Tensor, "B z"]]:
        """Mean and log variance of q(z | x). Raises ValueError for pictures of another size, or without a context it needs."""
        x = self.seen(images, context)
        holding = self.training and self.annealing and self.progress < getattr(self.config, "hold", 0.0)
        return gaussian(self.encoder.held(x) if holding else self.encoder(x))  # type: ignore[operator, union-attr]

    @abstractmethod
    def render(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """What the likelihood is given for a latent."""

    @property
    def latent_dim(self) -> int:
        """z."""
        return self.config.latents  # type: ignore[no-any-return]

    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """The posterior's mean."""
        return self.posterior(images, context)[0]

    def decode(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """The mean image, in [0, 1]."""
        return self.likelihood.mean(self.render(z, context)).clamp(0, 1)

    def bound(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Bound:
        """The terms of the bound, with one z of the posterior for each image."""
        mean, log_var = self.posterior(images, context)
        return self.bound_of(mean, log_var, reparameterise(mean, log_var), images, context)

    def bound_of(
        self, mean: Tensor, log_var: Tensor, z: Float[Tensor, "B z"], images: UInt8[Tensor, "B H W 3"], context: Tensor | None = None
    ) -> Bound:
        """The bound's terms for a posterior and what was drawn from it."""
        out = self.render(z, context)
        return Bound(self.likelihood.nll(out, to_float(images)), gaussian_kl(mean, log_var), self.likelihood.mean(out))

    def beta(self) -> float:
        """The KL term's weight now: in training it goes from `beta_start`, where that is not 0, to `beta` geometrically, and stays there for the last
        30%. Under a small weight all things in a picture are found; a large one from the beginning leaves out the less visible ones."""
        c = self.config
        start = getattr(c, "beta_start", 0.0)
        if not (start and self.training and self.annealing):
            return c.beta  # type: ignore[no-any-return]
        return start * (c.beta / start) ** min(1.0, self.progress / RAMP)  # type: ignore[no-any-return]

    def weighted(
        self, bound: Bound, images: UInt8[Tensor, "B H W 3"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """-ELBO with its KL term times beta, averaged over the batch. Metrics: loss; reconstruction (-log p) and kl, nats an image;
        mse in [0, 1] images."""
        reconstruction, kl = bound.nll.mean(), bound.kl.mean()
        loss = reconstruction + self.beta() * kl
        mse = (bound.decoded.detach() - to_float(images)).square().mean()
        return loss, {"loss": loss.detach(), "reconstruction": reconstruction.detach(), "kl": kl.detach(), "mse": mse}

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """See `weighted`."""
        return self.weighted(self.bound(images, context), images)

    @torch.no_grad()
    def elbo(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, " B"]:
        """The lower bound (beta = 1) of log p(x), or of log p(x | s_0), in nats; one sample of z."""
        nll, kl, _ = self.bound(images, context)
        return -nll - kl

    def sample(
        self, n: int, context: UInt8[Tensor, "b H W 3"] | None = None, *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """n latents of the prior N(0, I)."""
        return torch.randn(n, self.config.latents, generator=generator, device=next(self.parameters()).device)

    def log_prob(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, " B"]:
        """log N(z; 0, I)."""
        return standard_normal_log_prob(z)


def check_variational(owner: str, config: Any, *sizes: int) -> None:
    """Raise ValueError for settings that no variational model can have."""
    make_likelihood(config.likelihood, config.std)
    if min(config.latents, config.channels, config.hidden, *sizes) < 1 or config.beta < 0:
        raise ValueError(f"{owner}: every size (latents, channels, hidden, ...) must be at least 1, and beta at least 0")


def check_annealing(owner: str, config: Any) -> None:
    """Raise ValueError for networks, `beta_start` or `hold` that cannot be."""
    if config.beta_start < 0 or (config.beta_start and not config.beta):
        raise ValueError(f"{owner}: beta_start={config.beta_start:g} must be at least 0 (0: beta from the beginning), and needs a beta above 0 to go to")
    for name, value in (("encoder", config.encoder), ("decoder", config.decoder)):
        if value not in NETWORKS:
            raise ValueError(f"{owner}: unknown {name} {value!r}; choose {' or '.join(NETWORKS)}")
    if not 0 <= config.hold < 1 or (config.hold and config.encoder != "keypoints"):
        raise ValueError(f"{owner}: hold={config.hold:g} must be a share of training below 1, and above 0 only with encoder=keypoints")


def make_encoder(config: Any, inputs: int = 3) -> nn.Module:
    """Pictures (B, inputs, S, S) to the statistics (B, 2 * latents): the encoder that a config names."""
    c = config
    if c.encoder == "keypoints":
        return KeypointEncoder(c.image_size, c.channels, c.latents, c.hidden, inputs)
    return down(c.image_size, c.channels, 2 * c.latents, c.hidden, inputs)


def make_decoder(config: Any, inputs: int, placed: int | None = None) -> Up | KeypointDecoder:
    """The decoder that a config names; `placed` is for one of keypoints only."""
    c = config
    if c.decoder == "keypoints":
        return KeypointDecoder(c.image_size, c.channels, inputs, placed)
    return Up(c.image_size, c.channels, inputs, c.hidden)
