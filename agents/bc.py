"""Goal-conditioned behaviour cloning: the policy that repeats what reached the goal in the data (GCSL with future goals).

max_pi  E_{(s, a, g) ~ relabeled data}  log pi(a | s, g)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent
from agents.networks import GaussianPolicy, GridShape, make_trunk
from goals.batch import Batch


@dataclass
class BCConfig:
    """Hyper-parameters of behaviour cloning."""

    learning_rate: float = 3e-4
    """of Adam"""
    hidden: int = 256
    """width of the policy's layers"""
    policy_layers: int = 2
    """hidden layers of the policy"""
    policy_std: float = 0.15
    """fixed std of the Gaussian policy; 0: learned"""
    encoder: str = "mlp"
    """mlp | difference (goal - latent, and the hand) | conv (spatial latents)"""
    channels: int = 32
    """of the conv encoder's first layer"""
    max_grad_norm: float = 0.0
    """clip gradients to this norm; 0: not"""


class BC(Agent):
    """Goal-conditioned behaviour cloning. It has no value function."""

    policy: GaussianPolicy

    def __init__(
        self,
        config: BCConfig,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        grid_shape: GridShape | None = None,
        device: str | torch.device = "cpu",
    ):
        super().__init__(obs_dim, goal_dim, action_dim, config.max_grad_norm)
        self.config = config
        trunk = make_trunk(config.encoder, obs_dim, goal_dim, grid_shape, config.channels)
        self.policy = GaussianPolicy(trunk, action_dim, config.hidden, config.policy_layers, config.policy_std)
        self.to(device)
        self.add_optimizer("policy", self.policy, config.learning_rate)

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """-log pi(a | s, g)."""
        mean = self.policy(b.obs, b.goal)
        loss = -self.policy.log_prob(mean, b.action).mean()
        return loss, {"policy_loss": loss.detach(), "mse": (mean - b.action).square().mean().detach()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step; returns 0-d tensors."""
        self.step += 1
        loss, metrics = self.policy_loss(self.prepare(batch))
        self.descend("policy", loss)
        return metrics
