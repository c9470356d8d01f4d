"""TD3 + behaviour cloning, goal-conditioned (Fujimoto et al. 2018; Fujimoto & Gu 2021).

    y  = r + gamma min Q'(s', clip(pi'(s', g) + clip(noise)), g)                  target smoothing, twin critics
    Q <- argmin E (y - Q_i(s, a, g))^2
    pi <- argmax E Q_1(s, pi(s, g), g) / mean |Q_1| - w |pi(s, g) - a|^2            every `policy_delay` steps (eq. 5)

w is `bc_weight` (the paper's 1 / alpha): large offline, lowered for practice with `set_bc_weight`; w = 0 is TD3.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent
from agents.networks import Critic, DeterministicPolicy, GridShape, Trunk, make_trunk
from agents.operations import polyak, q_scale, td_target
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


class TD3BC(Agent):
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
        super().__init__(obs_dim, goal_dim, action_dim, config.max_grad_norm)
        self.config = c = config

        def trunk() -> Trunk:
            return make_trunk(c.encoder, obs_dim, goal_dim, grid_shape, c.channels)

        self.critic = Critic(trunk(), action_dim, c.hidden, c.layers, c.layer_norm)
        self.target_critic = Critic(trunk(), action_dim, c.hidden, c.layers, c.layer_norm).requires_grad_(False)
        self.policy = DeterministicPolicy(trunk(), action_dim, c.hidden, c.policy_layers)
        self.target_policy = DeterministicPolicy(trunk(), action_dim, c.hidden, c.policy_layers).requires_grad_(False)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_policy.load_state_dict(self.policy.state_dict())
        self.register_buffer("bc_weight", torch.tensor(c.bc_weight))
        self.to(device)
        self.add_optimizer("critic", self.critic, c.learning_rate)
        self.add_optimizer("policy", self.policy, c.learning_rate)

    def set_bc_weight(self, weight: float) -> None:
        """The cloning weight from now on (lower it when practice begins). Part of the checkpoint."""
        self.bc_weight.fill_(weight)

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared Bellman error of both critics."""
        with torch.no_grad():
            next_action = self.target_policy(b.next_obs, b.goal)
            noise = (self.noise_like(next_action) * self.config.target_noise).clamp_(
                -self.config.noise_clip, self.config.noise_clip
            )
            next_q = self.target_critic(b.next_obs, b.goal, (next_action + noise).clamp_(-1.0, 1.0)).amin(0)
            target = td_target(b.reward, b.discount, next_q, self.config.gamma, self.config.target_clip)
        q = self.critic(b.obs, b.goal, b.action)  # (2, B)
        loss = (q - target).square().mean()
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:  # eq. 5
        """Deterministic policy gradient through the normalised first critic, plus cloning."""
        action = self.policy(b.obs, b.goal)
        q = self.critic(b.obs, b.goal, action, members=1)[0]
        mse = (action - b.action).square().mean()
        loss = -q.mean() * q_scale(q) + self.bc_weight * mse
        return loss, {"policy_loss": loss.detach(), "mse": mse.detach()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One critic step and, every `policy_delay` steps, a policy step and the moving averages; returns 0-d tensors.

        The policy's metrics are there on its steps only.
        """
        self.step += 1
        b = self.prepare(batch)
        loss, metrics = self.critic_loss(b)
        self.descend("critic", loss)
        if self.step % self.config.policy_delay == 0:
            loss, policy_metrics = self.policy_loss(b)
            self.descend("policy", loss)
            metrics |= policy_metrics
            polyak(self.target_critic.parameters(), self.critic.parameters(), self.config.target_rate)
            polyak(self.target_policy.parameters(), self.policy.parameters(), self.config.target_rate)
        return metrics

    @property
    def exploration_std(self) -> float:
        """Set by the config; the policy is deterministic."""
        return self.config.exploration_noise

    @torch.no_grad()
    def value(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, " B"]:
        """min Q(s, pi(s, g), g)."""
        obs, goal = self.scaled(obs, goal)
        return self.critic(obs, goal, self.policy(obs, goal)).amin(0)
