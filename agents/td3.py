"""TD3, goal-conditioned: twin delayed deep deterministic policy gradient (Fujimoto et al. 2018; the agent of RIG and CC-RIG).

    y  = r + gamma min Q'(s', clip(pi'(s', g) + clip(noise)), g)      target smoothing, twin critics (alg. 1)
    Q <- argmin E (y - Q_i(s, a, g))^2
    pi <- argmax E Q_1(s, pi(s, g), g)                                every `policy_delay` steps, then the moving averages

Made for practice: experience is collected with `act(explore=True)` or with a process of `agents.exploration`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, with_target
from agents.operations import polyak, td_target
from agents.policies import DeterministicPolicy
from goals.batch import Batch


@dataclass
class TD3Config:
    """Hyper-parameters of TD3: RIG's, with batches of 128 and up to 4 updates per step of the environment (facts, Agents)."""

    gamma: float = 0.99
    """discount per step"""
    policy_delay: int = 2
    """critic steps per policy step"""
    target_noise: float = 0.2
    """std of the target smoothing"""
    noise_clip: float = 0.5
    """bound of the target smoothing"""
    exploration_noise: float = 0.2
    """std of the white noise of `act(explore=True)`"""
    target_rate: float = 1e-2
    """of the moving averages, which move with the policy"""
    target_clip: bool = False
    """clamp targets to [-1 / (1 - gamma), 0]: right for rewards in [-1, 0] only"""
    learning_rate: float = 1e-3
    """of Adam, all networks"""
    hidden: tuple[int, ...] = (400, 300)
    """widths of the hidden layers of Q and policy"""
    layer_norm: bool = False
    """LayerNorm in Q"""
    encoder: str = "mlp"
    """mlp | difference (goal - latent, and the hand) | conv (spatial latents) | attention (places in them where goal and latent differ) | pixels (pictures as latents)"""
    channels: int = 16
    """of the conv, attention and pixels encoders' first layer"""
    max_grad_norm: float = 0.0
    """clip gradients to this norm; 0: not"""
    average_rate: float = 0.0
    """of a moving average of the policy's weights, which acts in its place; 0: the policy acts itself"""

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must name the width of at least one layer, got {self.hidden}")

    @property
    def layers(self) -> int:
        """Hidden layers of Q."""
        return len(self.hidden)

    @property
    def policy_layers(self) -> int:
        """Hidden layers of the policy."""
        return len(self.hidden)


class TD3(ActorCritic):
    """Twin delayed DDPG, goal-conditioned.

    Its config is a TD3Config, or another with its fields and `layers`, `policy_layers`.
    """

    card = Card(
        evaluates="pi (deterministic, smoothed)",
        objective="Q of its action",
        behaviour="none",
        constraint="none",
        source="Fujimoto et al. 2018, algorithm 1",
    )
    policy: DeterministicPolicy

    def build(self) -> None:
        c = self.config
        self.rhythm = c.policy_delay
        self.critic, self.target_critic = self.critics()
        self.policy, self.target_policy = with_target(
            lambda: DeterministicPolicy(self.trunk(), self.action_dim, c.hidden, c.policy_layers, c.exploration_noise)
        )

    def optimise(self) -> None:
        self.add_optimizer("critic", self.critic, self.config.learning_rate)
        self.add_optimizer("policy", self.policy, self.config.learning_rate)
        self.targets = [*self.target_critic.parameters(), *self.target_policy.parameters()]
        self.sources = [*self.critic.parameters(), *self.policy.parameters()]

    @torch.no_grad()
    def target(self, b: Batch) -> Float[Tensor, " B"]:
        """y, with the smoothing noise clipped to +-`noise_clip` and the smoothed action to [-1, 1]."""
        next_action = self.target_policy(b.next_obs, b.goal)
        noise = (self.noise_like(next_action) * self.config.target_noise).clamp_(
            -self.config.noise_clip, self.config.noise_clip
        )
        next_q = self.target_critic(b.next_obs, b.goal, (next_action + noise).clamp_(-1.0, 1.0)).amin(0)
        return td_target(b.reward, b.discount, next_q, self.config.gamma, self.config.target_clip)

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared Bellman error of both critics."""
        target = self.target(b)
        return self.regress(b, target)

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """-Q_1 of the policy's action: the deterministic policy gradient."""
        action = self.policy(b.obs, b.goal)
        loss = -self.critic(b.obs, b.goal, action, members=1).mean()
        return loss, {"policy_loss": loss.detach()}

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
            polyak(self.targets, self.sources, self.config.target_rate)
        return metrics
