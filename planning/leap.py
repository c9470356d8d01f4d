"""LEAP's subgoals, PTP's comparison: an unconditional VAE of latents, in whose codes subgoals are searched without asking whether one can follow the other.

Nasiriany et al., "Planning with Goal-Conditioned Policies" (2019). Only the value function ties a chain together: give `StateVAE.generate` to a `SubgoalPlanner` in place of
a conditional generator's, so that the search is the same.

Shapes: B batch, z flat latent, d the code u.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from planning.generator import SubgoalCVAEConfig, negative_elbo, parts, to_grid, variational


class StateVAE(nn.Module):
    """A VAE p(z) of single latents, with the networks and losses of the subgoal generator. Its config is a SubgoalCVAEConfig."""

    CONFIG = SubgoalCVAEConfig

    def __init__(self, config: SubgoalCVAEConfig, codebook: Float[Tensor, "K c"] | None = None):
        super().__init__()
        self.config, self.latent_dim = config, config.latent_dim
        encoder, _, self.head = parts(config, codebook)
        self.encoder = encoder(config)
        self.shape = (self.head.channels, *config.latent_shape[1:])
        size = self.shape[0] * self.shape[1] * self.shape[2]
        self.decoder = nn.Sequential(
            nn.Linear(config.latent_dim, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.hidden), nn.ReLU(), nn.Linear(config.hidden, size)
        )

    def generate(self, z: Float[Tensor, "B z"], u: Float[Tensor, "B d"]) -> Float[Tensor, "B z"]:
        """The latent of code u, whatever z is."""
        latent: Tensor = self.head(self.decoder(u).unflatten(1, self.shape), None)
        return latent

    def loss(
        self, z0: Float[Tensor, "B z"], z1: Float[Tensor, "B z"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Negative ELBO of z1 and its parts; z0 is not used (batches of pairs serve both kinds of generator)."""
        c = self.config
        h = to_grid(z1, c)
        mean, log_var = self.encoder(torch.cat([h, h], dim=1)).chunk(2, dim=-1)
        u, kl = variational(mean, log_var, generator)
        error, predicted, metrics = self.head.loss(self.decoder(u).unflatten(1, self.shape), None, z1)
        return negative_elbo(error, kl, predicted, z1, c, metrics)
