"""TD3 + behaviour cloning, goal-conditioned (Fujimoto et al. 2018; Fujimoto & Gu 2021).

    pi <- argmax E Q_1(s, pi(s, g), g) / mean |Q_1| - w |pi(s, g) - a|^2            every `policy_delay` steps (eq. 5)

and all else as in TD3 (agents/td3.py). w is `bc_weight` (the paper's 1 / alpha): large offline, lowered for practice with
`set_bc_weight`; w = 0 is TD3 with a normalised critic.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Card, CriticConfig
from agents.operations import q_scale
from agents.td3 import TD3
from goals.batch import Batch


@dataclass
class TD3BCConfig(CriticConfig):
    """Hyper-parameters of TD3+BC."""

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


class TD3BC(TD3):
    """TD3 + behaviour cloning, goal-conditioned."""

    card = Card(
        evaluates="pi (deterministic, smoothed)",
        objective="Q of its action and squared error",
        behaviour="none",
        constraint="explicit: cloning",
        source="Fujimoto and Gu 2021, eq. 5",
    )
    bc_weight: Tensor

    def build(self) -> None:
        super().build()
        self.register_buffer("bc_weight", torch.tensor(self.config.bc_weight))

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
