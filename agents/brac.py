"""BRAC, goal-conditioned: behaviour-regularised actor-critic (Wu et al. 2019), with the KL divergence to a cloned policy.

    pi_b <- argmax E log pi_b(a_data | s, g)                                        the behaviour model
    D(s) = log pi(a' | s, g) - log pi_b(a' | s, g),  a' ~ pi(. | s, g)              one sample of KL(pi || pi_b)
    y  = r + gamma (min Q'(s', a', g) - [value penalty] w D(s'))
    pi <- argmax E min Q(s, a', g) - w D(s)

`penalty` policy regularises the policy alone, value the targets too (BRAC-p and BRAC-v). For `cloning_updates` pi_b alone learns.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, CriticConfig
from agents.operations import polyak, td_target
from agents.policies import SquashedGaussianPolicy
from goals.batch import Batch


@dataclass
class BRACConfig(CriticConfig):
    """Hyper-parameters of BRAC."""

    penalty: str = "value"
    """value (in targets too) | policy"""
    divergence_weight: float = 1.0
    """w of the divergence"""
    cloning_updates: int = 0
    """updates at first in which the behaviour model alone learns"""
    target_clip: bool = False
    """clamp targets to [-1 / (1 - gamma), 0]: a value penalty leaves that range"""
    layer_norm: bool = False
    """LayerNorm in Q"""


class BRAC(ActorCritic):
    """Behaviour-regularised actor-critic, goal-conditioned. Raises ValueError for an unknown penalty."""

    card = Card(
        evaluates="pi, with its divergence (penalty=value)",
        objective="Q of its action and a divergence",
        behaviour="cloned Gaussian",
        constraint="explicit: KL penalty",
        source="Wu et al. 2019",
    )
    policy: SquashedGaussianPolicy

    def build(self) -> None:
        c = self.config
        if c.penalty not in ("value", "policy"):
            raise ValueError(f"unknown penalty {c.penalty!r}: choose value or policy")
        self.critic, self.target_critic = self.critics()
        self.policy, self.behaviour = (
            SquashedGaussianPolicy(self.trunk(), self.action_dim, c.hidden, c.policy_layers) for _ in range(2)
        )

    def optimise(self) -> None:
        for name, network in (("critic", self.critic), ("policy", self.policy), ("behaviour", self.behaviour)):
            self.add_optimizer(name, network, self.config.learning_rate)

    def drawn(self, obs: Tensor, goal: Tensor, noise: Tensor) -> tuple[Float[Tensor, "B a"], Float[Tensor, " B"]]:
        """An action of the policy for each state, and D there."""
        action, log_prob = self.policy.draw(obs, goal, noise)
        return action, log_prob - self.behaviour.log_prob(obs, goal, action)

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared Bellman error of both critics."""
        with torch.no_grad():
            action, divergence = self.drawn(b.next_obs, b.goal, self.noise_like(b.action))
            next_q = self.target_critic(b.next_obs, b.goal, action).amin(0)
            if self.config.penalty == "value":
                next_q = next_q - self.config.divergence_weight * divergence
            target = td_target(b.reward, b.discount, next_q, self.config.gamma, self.config.target_clip)
        return self.regress(b, target)

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """-min Q and the divergence."""
        action, divergence = self.drawn(b.obs, b.goal, self.noise_like(b.action))
        loss = (self.config.divergence_weight * divergence - self.critic(b.obs, b.goal, action).amin(0)).mean()
        return loss, {"policy_loss": loss.detach(), "divergence": divergence.detach().mean()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of the behaviour model and, after `cloning_updates`, of Q and the policy; returns 0-d tensors."""
        self.step += 1
        b = self.prepare(batch)
        cloning = self.behaviour.cloning_loss(b.obs, b.goal, b.action)
        self.descend("behaviour", cloning)
        metrics = {"behaviour_loss": cloning.detach()}
        if self.step <= self.config.cloning_updates:
            return metrics
        critic_loss, critic_metrics = self.critic_loss(b)
        self.descend("critic", critic_loss)
        policy_loss, policy_metrics = self.policy_loss(b)
        self.descend("policy", policy_loss)
        polyak(self.target_critic.parameters(), self.critic.parameters(), self.config.target_rate)
        return metrics | critic_metrics | policy_metrics
