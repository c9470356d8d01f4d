"""Goal-conditioned prediction, PTP's comparison: the state halfway between two others is predicted, then the halves', without search or values.

Pertsch et al., "Long-Horizon Visual Planning with Goal-Conditioned Hierarchical Predictors" (2020), with the networks and losses of the subgoal generator.

Shapes: B batch, P problems, z flat latent, d the code u.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from planning.generator import NETWORKS, SubgoalCVAEConfig, to_grid, variational


class MidpointCVAE(nn.Module):
    """p(z_middle | z_0, z_goal); predicts the change from z_0. Its config is a SubgoalCVAEConfig."""

    CONFIG = SubgoalCVAEConfig

    def __init__(self, config: SubgoalCVAEConfig):
        super().__init__()
        self.config, self.latent_dim = config, config.latent_dim
        encoder, decoder = NETWORKS[config.network]
        channels = config.latent_shape[0]
        self.encoder = encoder(config, 3 * channels)
        self.decoder = decoder(config, 2 * channels)

    def generate(self, z: Float[Tensor, "B z"], goal: Float[Tensor, "B z"], u: Float[Tensor, "B d"]) -> Float[Tensor, "B z"]:
        """A latent halfway from z to goal."""
        change = self.decoder(torch.cat([to_grid(z, self.config), to_grid(goal, self.config)], dim=1), u)
        return z + self.config.latent_scale * change.flatten(1)

    def loss(
        self, z0: Float[Tensor, "B z"], middle: Float[Tensor, "B z"], goal: Float[Tensor, "B z"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Negative ELBO of triples in the order of time, and its parts."""
        c = self.config
        grids = [to_grid(z, c) for z in (middle, z0, goal)]
        mean, log_var = self.encoder(torch.cat(grids, dim=1)).chunk(2, dim=-1)
        u, kl = variational(mean, log_var, generator)
        predicted = self.generate(z0, goal, u)
        error = F.smooth_l1_loss(predicted / c.latent_scale, middle / c.latent_scale)
        loss = c.reconstruction_weight * error + c.kl_weight * kl
        metrics = {"loss": loss, "reconstruction": error, "kl": kl, "distance": (predicted - middle).norm(dim=-1).mean()}
        return loss, {name: value.detach() for name, value in metrics.items()}

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
