"""One-step RL, goal-conditioned: a single step of policy improvement on the data's own Q (Brandfonbrener et al. 2021).

    y  = r + gamma Q'(s', a'_data, g)                                   SARSA: the next action of the data
    A  = min Q(s, a, g) - min Q(s, E pi(s, g), g)
    pi <- argmax E min(exp(beta A), 100) log pi(a | s, g)               exponentiated advantage extraction

Only values of the data's behaviour are learned: nothing is stitched together (IQL's thesis chapter, fig. 39). The last transition of an
episode has no next action and does not enter y.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, CriticConfig
from agents.operations import exp_weights, gaussian_log_prob, polyak, td_target
from agents.policies import GaussianPolicy
from goals.batch import Snippet


@dataclass
class OneStepConfig(CriticConfig):
    """Hyper-parameters of one-step RL."""

    temperature: float = 3.0
    """beta: multiplies the advantage"""
    max_weight: float = 100.0
    """weights are clipped here"""
    policy_std: float = 0.15
    """fixed std of the Gaussian policy; 0: learned, one for all states; -1: learned, a network of the state"""


class OneStep(ActorCritic):
    """One-step policy improvement on a SARSA critic, goal-conditioned. Its updates take snippets of two."""

    card = Card(
        evaluates="the data's behaviour, by SARSA",
        objective="KL(pi* || pi): regression weighted by exp(beta A)",
        behaviour="none",
        constraint="implicit",
        source="Brandfonbrener et al. 2021",
    )
    policy: GaussianPolicy
    length = 2

    def build(self) -> None:
        self.critic, self.target_critic = self.critics()
        self.policy = self.gaussian(self.config.policy_std)

    def optimise(self) -> None:
        self.add_optimizer("critic", self.critic, self.config.learning_rate)
        self.add_optimizer("policy", self.policy, self.config.learning_rate)

    def critic_loss(self, b: Snippet) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared SARSA error of both critics, of transitions that another follows or that end."""
        first = b.first()
        with torch.no_grad():
            next_q = self.target_critic(first.next_obs, b.goal, b.action[:, 1]).amin(0)
            target = td_target(first.reward, first.discount, next_q, self.config.gamma, self.config.target_clip)
            known = (b.valid[:, 1] | (first.discount == 0.0)).float()
        q = self.critic(first.obs, b.goal, first.action)  # (2, B)
        loss = ((q - target).square() * known).sum(1).mean() / known.sum().clamp(min=1.0)
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}

    def policy_loss(self, b: Snippet) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Advantage-weighted regression."""
        c, first = self.config, b.first()
        mean, std = self.policy.distribution(first.obs, b.goal)
        with torch.no_grad():
            q, v = (self.critic(first.obs, b.goal, action).amin(0) for action in (first.action, mean))
        weight = exp_weights(q - v, c.temperature, c.max_weight)
        loss = -(weight * gaussian_log_prob(first.action, mean, std)).mean()
        return loss, {"policy_loss": loss.detach(), "weight": weight.mean()}

    def update(self, batch: Snippet) -> dict[str, Tensor]:
        """One gradient step of Q and of the policy, and the target's moving average; returns 0-d tensors."""
        self.step += 1
        b = self.prepare_snippet(batch)
        critic_loss, critic_metrics = self.critic_loss(b)
        policy_loss, policy_metrics = self.policy_loss(b)
        self.descend("critic", critic_loss)
        self.descend("policy", policy_loss)
        polyak(self.target_critic.parameters(), self.critic.parameters(), self.config.target_rate)
        return critic_metrics | policy_metrics
