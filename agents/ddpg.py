"""DDPG, goal-conditioned: deep deterministic policy gradient (Lillicrap et al. 2016).

    y  = r + gamma Q'(s', pi'(s', g), g)
    Q <- argmin E (y - Q(s, a, g))^2
    pi <- argmax E Q(s, pi(s, g), g)

One critic, no smoothing and no delay: what TD3 (agents/td3.py) adds to it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, CriticConfig, with_target
from agents.operations import polyak, td_target
from agents.policies import DeterministicPolicy
from goals.batch import Batch


@dataclass
class DDPGConfig(CriticConfig):
    """Hyper-parameters of DDPG."""

    exploration_noise: float = 0.1
    """std of the white noise of `act(explore=True)`"""
    learning_rate: float = 1e-3
    """of Adam, both networks"""
    layer_norm: bool = False
    """LayerNorm in Q"""


class DDPG(ActorCritic):
    """Deep deterministic policy gradient, goal-conditioned."""

    card = Card(
        evaluates="pi (deterministic)",
        objective="Q of its action",
        behaviour="none",
        constraint="none",
        source="Lillicrap et al. 2016, algorithm 1",
    )
    policy: DeterministicPolicy

    def build(self) -> None:
        c = self.config
        self.critic, self.target_critic = self.critics(members=1)
        self.policy, self.target_policy = with_target(
            lambda: DeterministicPolicy(self.trunk(), self.action_dim, c.hidden, c.policy_layers, c.exploration_noise)
        )

    def optimise(self) -> None:
        self.add_optimizer("critic", self.critic, self.config.learning_rate)
        self.add_optimizer("policy", self.policy, self.config.learning_rate)
        self.targets = [*self.target_critic.parameters(), *self.target_policy.parameters()]
        self.sources = [*self.critic.parameters(), *self.policy.parameters()]

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared Bellman error."""
        with torch.no_grad():
            next_q = self.target_critic(b.next_obs, b.goal, self.target_policy(b.next_obs, b.goal))[0]
            target = td_target(b.reward, b.discount, next_q, self.config.gamma, self.config.target_clip)
        return self.regress(b, target)

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """-Q of the policy's action: the deterministic policy gradient."""
        loss = -self.critic(b.obs, b.goal, self.policy(b.obs, b.goal)).mean()
        return loss, {"policy_loss": loss.detach()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of Q and of the policy, and the moving averages; returns 0-d tensors."""
        self.step += 1
        b = self.prepare(batch)
        critic_loss, critic_metrics = self.critic_loss(b)
        self.descend("critic", critic_loss)
        policy_loss, policy_metrics = self.policy_loss(b)
        self.descend("policy", policy_loss)
        polyak(self.targets, self.sources, self.config.target_rate)
        return critic_metrics | policy_metrics
