"""AWAC, goal-conditioned: advantage-weighted actor-critic (Nair et al. 2020; seed 003, ch. 4; VAL's agent).

    y  = r + gamma min Q'(s', a', g),  a' ~ pi(. | s', g)
    A  = min Q(s, a, g) - min Q(s, a_pi, g),  a_pi a sample of pi or its mean
    pi <- argmax E w(A) log pi(a | s, g),  w = B softmax(A / lambda) over the batch, or min(exp(A / lambda), max_weight)

The weighted regression is the projection argmin KL(pi* || pi) of the improved policy pi* ~ pi_data exp(A / lambda).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, CriticConfig
from agents.operations import exp_weights, gaussian_log_prob, polyak, softmax_weights, td_target
from agents.policies import GaussianPolicy
from goals.batch import Batch


@dataclass
class AWACConfig(CriticConfig):
    """Hyper-parameters of AWAC."""

    weights: str = "softmax"
    """softmax (over the batch, the released code) | exp (clipped, the paper)"""
    temperature: float = 0.3
    """lambda: *divides* the advantage"""
    max_weight: float = 100.0
    """exp weights are clipped here"""
    advantage_clip: float = 0.0
    """advantages are clamped to +- this; 0: not (VAL 2, hand .5)"""
    baseline: str = "mean"
    """a_pi of the advantage: mean | sample"""
    q_clamp: bool = True
    """clamp Q <= 0 in targets and advantages: right for rewards <= 0 only"""
    weight_decay: float = 1e-4
    """L2 of the policy"""
    policy_layers: int = 4
    """hidden layers of the policy"""
    policy_std: float = 0.0
    """fixed std of the Gaussian policy; 0: learned, one for all states; -1: learned, a network of the state"""


def make_weights(config: AWACConfig) -> Callable[[Tensor], Tensor]:
    """advantage (B,) -> weights (B,). Raises ValueError for an unknown name."""
    if config.weights == "softmax":
        return lambda advantage: softmax_weights(advantage, 1.0 / config.temperature)
    if config.weights == "exp":
        return lambda advantage: exp_weights(advantage, 1.0 / config.temperature, config.max_weight)
    raise ValueError(f"unknown weights {config.weights!r}: choose softmax or exp")


class AWAC(ActorCritic):
    """Advantage-weighted actor-critic, goal-conditioned. Raises ValueError for unknown weights, baseline or encoder."""

    card = Card(
        evaluates="pi",
        objective="KL(pi* || pi): regression weighted by exp(A / lambda)",
        behaviour="none",
        constraint="implicit",
        source="Nair et al. 2020 (seed 004), eq. 3 and 4",
    )
    policy: GaussianPolicy

    def build(self) -> None:
        c = self.config
        baselines: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": lambda mean, std: mean, "sample": self.sample}
        if c.baseline not in baselines:
            raise ValueError(f"unknown baseline {c.baseline!r}: choose {' or '.join(baselines)}")
        self.weigh, self.baseline_action = make_weights(c), baselines[c.baseline]
        self.critic, self.target_critic = self.critics()
        self.policy = self.gaussian(c.policy_std)
        self.q_max = 0.0 if c.q_clamp else torch.inf

    def optimise(self) -> None:
        self.add_optimizer("critic", self.critic, self.config.learning_rate)
        self.add_optimizer("policy", self.policy, self.config.learning_rate, self.config.weight_decay)

    def sample(self, mean: Float[Tensor, "B a"], std: Float[Tensor, "*#B a"]) -> Float[Tensor, "B a"]:
        """A sample of the policy, clamped to [-1, 1]."""
        return (mean + std * self.noise_like(mean)).clamp(-1.0, 1.0)

    def critic_loss(self, b: Batch, q: Float[Tensor, "E B"]) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared Bellman error of both critics, whose values of the batch are q."""
        with torch.no_grad():
            next_action = self.sample(*self.policy.distribution(b.next_obs, b.goal))
            next_q = self.target_critic(b.next_obs, b.goal, next_action).amin(0).clamp(max=self.q_max)
            target = td_target(b.reward, b.discount, next_q, self.config.gamma, self.config.target_clip)
        return self.bellman_error(q, target)

    def advantage(self, q: Float[Tensor, "E B"], v: Float[Tensor, "E B"]) -> Float[Tensor, " B"]:
        """min Q(s, a, g) - min Q(s, a_pi, g), clamped if the config says so."""
        q, v = q.amin(0).clamp(max=self.q_max), v.amin(0).clamp(max=self.q_max)
        clip = self.config.advantage_clip
        return (q - v).clamp(-clip, clip) if clip > 0.0 else q - v

    def policy_loss(
        self, b: Batch, q: Float[Tensor, "E B"], q_of: Callable[[Tensor], Tensor]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Advantage-weighted regression; q of the batch's actions, q_of any others."""
        mean, std = self.policy.distribution(b.obs, b.goal)
        with torch.no_grad():
            advantage = self.advantage(q, q_of(self.baseline_action(mean, std)))
        weight = self.weigh(advantage)
        loss = -(weight * gaussian_log_prob(b.action, mean, std)).mean()
        return loss, {
            "policy_loss": loss.detach(),
            "advantage": advantage.mean(),
            "weight_max": weight.max(),
            "std": std.detach().mean(),
            "mse": (mean - b.action).square().mean().detach(),
        }

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of Q and of the policy, and the target's moving average; returns 0-d tensors."""
        self.step += 1
        b = self.prepare(batch)
        first = self.critic.first(b.obs, b.goal)  # most of Q's cost, paid once for the batch's actions and the policy's
        q = self.critic.of(first, b.action)
        critic_loss, critic_metrics = self.critic_loss(b, q)
        policy_loss, policy_metrics = self.policy_loss(b, q, partial(self.critic.of, first))
        self.descend("critic", critic_loss)
        self.descend("policy", policy_loss)
        polyak(self.target_critic.parameters(), self.critic.parameters(), self.config.target_rate)
        return critic_metrics | policy_metrics
