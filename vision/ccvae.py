"""Context-conditioned VAE (CC-VAE): what changes within a trajectory apart from what does not.

CC-RIG (thesis ch. 3, eq. 7, in the corrected form of the errata; networks as in the facts). z_t comes through a bottleneck from (s_t, s_0), the
context z_c deterministically and freely from s_0. One decoder reads (z_t, z_c) and draws s_t, another reads z_c alone and draws s_0:

Loss = E_q[-log p(s_t | z_t, z_c)] + beta * KL(q(z_t | s_t, s_0) || N(0, I)) - log p(s_0 | z_c), reduced as in `vision.variational`.

The latent handed to the other rooms is (z_t's mean, z_c). Samples in a scene draw a new z_t and keep z_c.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from vision.images import to_float
from vision.likelihoods import reparameterise
from vision.networks import Up, check_size, down, one_or_each
from vision.variational import Bound, Variational, check_annealing, check_variational, make_decoder, make_encoder


@dataclass(frozen=True)
class CCVAEConfig:
    """Settings of a `CCVAE`. The paper's pushers, whose scenes differ in one colour, have latents=6, contexts=4 and beta from 1 to 50."""

    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 12."""
    latents: int = 4
    """Numbers of z_t."""
    contexts: int = 64
    """Numbers of z_c."""
    channels: int = 16
    """Of the first convolution; the second and third have two and four times as many."""
    hidden: int = 512
    """Units between the convolutions and the latent."""
    dropout: float = 0.0
    """Of what z_c is computed from. The paper's released code has 0.5; with the batch normalisation behind it, z_c then has another
    spread in evaluation than in training, which here made the context's error four times as large."""
    beta: float = 10.0
    """Weight of the KL term at the end of training, in the summed reduction: high enough that z_t has no room for the scene's colours."""
    beta_start: float = 0.0
    """Its weight at the beginning, from which it goes to beta geometrically during 70% of training; 0: beta from the beginning."""
    likelihood: str = "gaussian"
    """gaussian (of the given std) | bernoulli (each intensity as a probability)."""
    std: float = 0.1
    """Of the Gaussian likelihood, images being in [0, 1]."""
    encoder: str = "conv"
    """conv | keypoints (reads where features are, and finds small things beside large ones; see `vision.keypoints`)."""
    decoder: str = "conv"
    """conv (the encoder's mirror) | keypoints (its latents follow places nearly linearly)."""
    hold: float = 0.0
    """Share of training for which an encoder of keypoints stays as it began, while the decoder learns to draw from its places."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        check_size("CCVAEConfig", self.image_size)
        check_variational("CCVAEConfig", self, self.contexts)
        check_annealing("CCVAEConfig", self)
        if not 0 <= self.dropout < 1 or self.weight_decay < 0:
            raise ValueError("CCVAEConfig: dropout must lie in [0, 1) and weight_decay be at least 0")


class CCVAE(Variational):
    """A context-conditioned variational autoencoder; a `LatentModel` whose latent holds its own context."""

    needs_context = True

    def __init__(self, config: CCVAEConfig) -> None:
        super().__init__(config)
        c = config
        self.encoder = make_encoder(c, inputs=6)
        self.context_encoder = nn.Sequential(
            down(c.image_size, c.channels, c.hidden, c.hidden), nn.ReLU(), nn.Dropout(c.dropout), nn.Linear(c.hidden, c.contexts), nn.BatchNorm1d(c.contexts)
        )
        self.decoder = make_decoder(c, c.latents + c.contexts, placed=c.latents)
        # a decoder of keypoints draws what has a place, from z_t, in the colours of z_c; what stands still in the scene is drawn from z_c alone, and added
        self.still = Up(c.image_size, c.channels, c.contexts, c.hidden) if c.decoder == "keypoints" else None
        self.context_decoder = Up(c.image_size, c.channels, c.contexts, c.hidden)

    @property
    def latent_dim(self) -> int:
        """z = latents + contexts."""
        return self.config.latents + self.config.contexts  # type: ignore[no-any-return]

    def encode_context(self, context: UInt8[Tensor, "b H W 3"] | None, n: int) -> Float[Tensor, "n c"]:
        """z_c of the first pictures (one for all n, or one for each). Raises ValueError without one."""
        given = one_or_each("CCVAE", context, n)
        return self.context_encoder(self.standard(given)).float().expand(n, -1)  # type: ignore[no-any-return]

    def render(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """What the likelihood is given for a whole latent (z_t, z_c); the context is in it already."""
        out = self.decoder(z)
        return self.around_mean(out if self.still is None else out + self.still(z[:, self.config.latents :]))

    def bound(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None, z_c: Float[Tensor, "B c"] | None = None
    ) -> Bound:
        """As `Variational.bound`, for log p(s_t | s_0); `z_c` saves computing it twice."""
        mean, log_var = self.posterior(images, context)
        z_c = self.encode_context(context, len(images)) if z_c is None else z_c
        return self.bound_of(mean, log_var, torch.cat([reparameterise(mean, log_var), z_c], 1), images)

    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """(z_t's mean, z_c)."""
        return torch.cat([self.posterior(images, context)[0], self.encode_context(context, len(images))], 1)

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Eq. 7, beta as `beta()` says. Metrics: as `Variational.weighted`, and context (-log p(s_0 | z_c)), nats an image."""
        given = one_or_each("CCVAE", context, len(images))
        z_c = self.encode_context(given, len(images))
        loss, metrics = self.weighted(self.bound(images, given, z_c), images)
        first = self.likelihood.nll(self.around_mean(self.context_decoder(z_c)), to_float(given).expand(len(images), -1, -1, -1)).mean()
        total = loss + first
        return total, {**metrics, "loss": total.detach(), "context": first.detach()}

    def sample(
        self, n: int, context: UInt8[Tensor, "b H W 3"] | None = None, *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """n latents (z_t ~ N(0, I), z_c) of the scene whose first picture is given (or one each): the goals CC-RIG imagines."""
        return torch.cat([super().sample(n, generator=generator), self.encode_context(context, n)], 1)

    def log_prob(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, " B"]:
        """log N(z_t; 0, I): the context is given."""
        return super().log_prob(z[:, : self.config.latents])
