"""Goal-conditioned prediction, PTP's comparison: the state halfway between two others is predicted, then the halves', without search or values.

Pertsch et al., "Long-Horizon Visual Planning with Goal-Conditioned Hierarchical Predictors" (2020), with the networks and losses of the subgoal generator.

Shapes: B batch, P problems, z flat latent, d the code u.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from planning.generator import SubgoalCVAEConfig, negative_elbo, parts, to_grid, variational


class MidpointCVAE(nn.Module):
    """p(z_middle | z_0, z_goal); predicts the change from z_0. Its config is a SubgoalCVAEConfig."""

    CONFIG = SubgoalCVAEConfig

    def __init__(self, config: SubgoalCVAEConfig, codebook: Float[Tensor, "K c"] | None = None):
        super().__init__()
        self.config, self.latent_dim = config, config.latent_dim
        encoder, decoder, self.head = parts(config, codebook)
        channels = config.latent_shape[0]
        self.encoder = encoder(config, 3 * channels)
        self.decoder = decoder(config, 2 * channels, self.head.channels)

    def generate(self, z: Float[Tensor, "B z"], goal: Float[Tensor, "B z"], u: Float[Tensor, "B d"]) -> Float[Tensor, "B z"]:
        """A latent halfway from z to goal."""
        latent: Tensor = self.head(self.decoder(self._ends(z, goal), u), z)
        return latent

    def _ends(self, z: Tensor, goal: Tensor) -> Tensor:
        return torch.cat([to_grid(z, self.config), to_grid(goal, self.config)], dim=1)

    def loss(
        self, z0: Float[Tensor, "B z"], middle: Float[Tensor, "B z"], goal: Float[Tensor, "B z"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Negative ELBO of triples in the order of time, and its parts."""
        c = self.config
        grids = [to_grid(z, c) for z in (middle, z0, goal)]
        mean, log_var = self.encoder(torch.cat(grids, dim=1)).chunk(2, dim=-1)
        u, kl = variational(mean, log_var, generator)
        error, predicted, metrics = self.head.loss(self.decoder(self._ends(z0, goal), u), z0, middle)
        return negative_elbo(error, kl, predicted, middle, c, metrics)

    @torch.no_grad()
    def plan(
        self, z: Float[Tensor, "P z"], goal: Float[Tensor, "P z"], depth: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "P subgoals z"]:
        """2^depth subgoals from z to goal, the last being the goal: the middle, then the middles of both halves, and so on, codes drawn from N(0, I).

        Raises ValueError for depth < 0.
        """
        if depth < 0:
            raise ValueError(f"depth must be at least 0, not {depth}")
        chain = torch.stack([z, goal], 1)  # (P, 2, z)
        for _ in range(depth):
            before, after = chain[:, :-1].flatten(0, 1), chain[:, 1:].flatten(0, 1)
            u = torch.randn(len(before), self.latent_dim, generator=generator, device=z.device, dtype=z.dtype)
            middles = self.generate(before, after, u).unflatten(0, (len(z), -1))
            woven = torch.stack([chain[:, :-1], middles], 2).flatten(1, 2)
            chain = torch.cat([woven, goal[:, None]], 1)
        return chain[:, 1:]
