"""CQL, goal-conditioned: SAC with a critic that is low on actions the data do not have (Kumar et al. 2020, CQL(H), eq. 4).

    Q <- argmin (1/2) E (y - Q)^2 + w E [ log sum_a exp Q(s, a, g) - Q(s, a_data, g) ]
    y, pi, alpha as in SAC (agents/sac.py), without the entropy in y

The log-sum-exp is estimated by importance sampling with actions from U(-1, 1), pi(. | s, g) and pi(. | s', g) (app. F).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, CriticConfig
from agents.operations import polyak, td_target
from agents.policies import Dual, SquashedGaussianPolicy
from goals.batch import Batch


@dataclass
class CQLConfig(CriticConfig):
    """Hyper-parameters of CQL."""

    conservative_weight: float = 5.0
    """w, in units of reward: a fifth of it where rewards are scaled by a fifth; aimless data need far less (.03 in tests/agents)"""
    samples: int = 10
    """actions of each kind in the log-sum-exp"""
    temperature: float = 0.1
    """alpha of SAC, at first"""
    target_entropy: float = 0.0
    """in nats, the least the policy keeps; 0: minus the action's dimensions"""
    cloning_updates: int = 0
    """updates at first in which the policy only clones (released code)"""
    layer_norm: bool = False
    """LayerNorm in Q"""


def importance_log_sum_exp(q: Float[Tensor, "E n B"], log_density: Float[Tensor, "n B"]) -> Float[Tensor, "E B"]:
    """log of the integral of exp Q over actions, from actions of known density: log mean exp(Q - log density)."""
    return torch.logsumexp(q - log_density, 1) - math.log(q.shape[1])


class CQL(ActorCritic):
    """Conservative Q-learning, goal-conditioned."""

    card = Card(
        evaluates="pi, low on actions outside the data",
        objective="KL(pi || exp(Q / alpha))",
        behaviour="none",
        constraint="on Q: a lower bound",
        source="Kumar et al. 2020, eq. 4 and app. F",
    )
    policy: SquashedGaussianPolicy

    def build(self) -> None:
        c = self.config
        self.critic, self.target_critic = self.critics()
        self.policy = SquashedGaussianPolicy(self.trunk(), self.action_dim, c.hidden, c.policy_layers)
        self.temperature = Dual(c.temperature)
        self.least_entropy = c.target_entropy or -float(self.action_dim)

    def optimise(self) -> None:
        for name, network in (("critic", self.critic), ("policy", self.policy), ("temperature", self.temperature)):
            self.add_optimizer(name, network, self.config.learning_rate)

    @torch.no_grad()
    def proposals(self, b: Batch) -> tuple[Float[Tensor, "m B a"], Float[Tensor, "m B"]]:
        """3 `samples` actions for each state and their log densities: uniform, of the policy here, of the policy in s'."""
        shape = (self.config.samples, *b.action.shape)
        uniform = 2.0 * torch.special.ndtr(self.noise_like(b.action.new_empty(shape))) - 1.0
        flat = torch.full(shape[:2], -self.action_dim * math.log(2.0), device=b.action.device)
        here = self.policy.draw(b.obs, b.goal, self.noise_like(uniform))
        there = self.policy.draw(b.next_obs, b.goal, self.noise_like(uniform))
        return torch.cat([uniform, here[0], there[0]]), torch.cat([flat, here[1], there[1]])

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Half the mean squared Bellman error and the conservative term, summed over both critics."""
        with torch.no_grad():
            action, _ = self.policy.draw(b.next_obs, b.goal, self.noise_like(b.action))
            next_q = self.target_critic(b.next_obs, b.goal, action).amin(0)
            target = td_target(b.reward, b.discount, next_q, self.config.gamma, self.config.target_clip)
        actions, log_density = self.proposals(b)
        q = self.critic(b.obs, b.goal, b.action)  # (2, B)
        gap = importance_log_sum_exp(self.critic.each(b.obs, b.goal, actions), log_density) - q
        loss = (0.5 * (q - target).square() + self.config.conservative_weight * gap).mean(1).sum()
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean(), "gap": gap.detach().mean()}

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, " B"], dict[str, Tensor]]:
        """Soft policy improvement, or at first cloning; also the log densities of its own actions."""
        action, log_prob = self.policy.draw(b.obs, b.goal, self.noise_like(b.action))
        if self.step <= self.config.cloning_updates:
            improvement = self.policy.cloning_loss(b.obs, b.goal, b.action)
        else:
            improvement = -self.critic(b.obs, b.goal, action).amin(0).mean()
        loss = self.temperature() * log_prob.mean() + improvement
        return loss, log_prob, {"policy_loss": loss.detach(), "entropy": -log_prob.detach().mean()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of Q, the policy and the temperature, and the target's moving average; returns 0-d tensors."""
        self.step += 1
        b = self.prepare(batch)
        critic_loss, critic_metrics = self.critic_loss(b)
        self.descend("critic", critic_loss)
        policy_loss, log_prob, policy_metrics = self.policy_loss(b)
        self.descend("policy", policy_loss)
        self.descend("temperature", self.temperature.loss(-log_prob - self.least_entropy))
        polyak(self.target_critic.parameters(), self.critic.parameters(), self.config.target_rate)
        return critic_metrics | policy_metrics | {"temperature": self.temperature()}
