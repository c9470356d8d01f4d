"""TD3 + behaviour cloning, goal-conditioned (Fujimoto et al. 2018; Fujimoto & Gu 2021).

    pi <- argmax E Q_1(s, pi(s, g), g) / mean |Q_1| - w |pi(s, g) - a|^2            every `policy_delay` steps (eq. 5)

and all else as in TD3 (agents/td3.py). w is `bc_weight` (the paper's 1 / alpha): large offline, lowered for practice with
`set_bc_weight`; w = 0 is TD3 with a normalised critic.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.networks import GridShape
from agents.operations import q_scale
from agents.td3 import TD3
from goals.batch import Batch


@dataclass
class TD3BCConfig:
    """Hyper-parameters of TD3+BC."""

    gamma: float = 0.99
    """discount per step"""
    bc_weight: float = 0.4
    """cloning (mean over action dimensions) against a Q normalised to mean |Q| = 1"""
    policy_delay: int = 2
    """critic steps per policy step"""
    target_noise: float = 0.2
    """std of the target smoothing"""
    noise_clip: float = 0.5
    """bound of the target smoothing"""
    exploration_noise: float = 0.2
    """std of the noise on actions when exploring"""
    target_rate: float = 5e-3
    """of the moving averages"""
    target_clip: bool = True
    """clamp targets to [-1 / (1 - gamma), 0]: right for rewards in [-1, 0] only"""
    learning_rate: float = 3e-4
    """of Adam, all networks"""
    hidden: int = 256
    """width of all layers"""
    layers: int = 2
    """hidden layers of Q"""
    policy_layers: int = 2
    """hidden layers of the policy"""
    layer_norm: bool = True
    """LayerNorm in Q"""
    encoder: str = "mlp"
    """mlp | difference (goal - latent, and the hand) | conv (spatial latents)"""
    channels: int = 32
    """of the conv encoder's first layer"""
    max_grad_norm: float = 0.0
    """clip gradients to this norm; 0: not"""


class TD3BC(TD3):
    """TD3 + behaviour cloning, goal-conditioned."""

    bc_weight: Tensor

    def __init__(
        self,
        config: TD3BCConfig,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        grid_shape: GridShape | None = None,
        device: str | torch.device = "cpu",
    ):
        super().__init__(config, obs_dim, goal_dim, action_dim, grid_shape, device)
        self.register_buffer("bc_weight", torch.tensor(config.bc_weight, device=device))

    def set_bc_weight(self, weight: float) -> None:
        """The cloning weight from now on (lower it when practice begins). Part of the checkpoint."""
        self.bc_weight.fill_(weight)

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:  # eq. 5
        """Deterministic policy gradient through the normalised first critic, plus cloning."""
        action = self.policy(b.obs, b.goal)
        q = self.critic(b.obs, b.goal, action, members=1)[0]
        mse = (action - b.action).square().mean()
        loss = -q.mean() * q_scale(q) + self.bc_weight * mse
        return loss, {"policy_loss": loss.detach(), "mse": mse.detach()}
