"""AWR, goal-conditioned: advantage-weighted regression (Peng et al. 2019, algorithm 1).

    R  = TD(lambda) returns of the data, which a V of the data's behaviour completes
    V  <- argmin E (R - V(s, g))^2
    pi <- argmax E min(exp((R - V(s, g)) / beta), 20) log pi(a | s, g)

No action outside the data is evaluated, and no Q is learned: the value is that of whoever made the data.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent, AgentConfig, Card
from agents.networks import Value
from agents.operations import exp_weights, gaussian_log_prob, lambda_returns
from agents.policies import GaussianPolicy
from goals.batch import Snippet


@dataclass
class AWRConfig(AgentConfig):
    """Hyper-parameters of AWR."""

    gamma: float = 0.99
    """discount per step"""
    decay: float = 0.95
    """lambda of TD(lambda)"""
    returns_length: int = 16
    """transitions that a return sees before V completes it"""
    temperature: float = 1.0
    """beta: *divides* the advantage (the paper .05, of advantages divided by their spread)"""
    normalise: bool = True
    """advantages are divided by their standard deviation in the batch"""
    max_weight: float = 20.0
    """weights are clipped here"""
    policy_std: float = 0.15
    """fixed std of the Gaussian policy; 0: learned, one for all states; -1: learned, a network of the state"""
    layers: int = 2
    """hidden layers of V"""
    layer_norm: bool = True
    """LayerNorm in V"""


class AWR(Agent):
    """Advantage-weighted regression, goal-conditioned. Its updates take snippets."""

    card = Card(
        evaluates="the data's behaviour, by TD(lambda)",
        objective="KL(pi* || pi): regression weighted by exp(A / beta)",
        behaviour="none",
        constraint="implicit",
        source="Peng et al. 2019, algorithm 1",
    )
    policy: GaussianPolicy

    def build(self) -> None:
        c = self.config
        self.length = c.returns_length
        self.value_network = Value(self.trunk(), c.hidden, c.layers, c.layer_norm)
        self.policy = self.gaussian(c.policy_std)

    def optimise(self) -> None:
        self.add_optimizer("value", self.value_network, self.config.learning_rate)
        self.add_optimizer("policy", self.policy, self.config.learning_rate)

    @torch.no_grad()
    def returns(self, b: Snippet) -> Float[Tensor, " B"]:
        """TD(lambda) returns of the first transitions."""
        size, length = b.reward.shape
        goal = b.goal[:, None].expand(-1, length, -1).flatten(0, 1)
        next_value = self.value_network(b.obs[:, 1:].flatten(0, 1), goal).view(size, length)
        return lambda_returns(b.reward, b.discount, next_value, b.valid, self.config.gamma, self.config.decay)[:, 0]

    def update(self, batch: Snippet) -> dict[str, Tensor]:
        """One gradient step of V and of the policy; returns 0-d tensors."""
        self.step += 1
        b, c = self.prepare_snippet(batch), self.config
        target = self.returns(b)
        v = self.value_network(b.obs[:, 0], b.goal)
        advantage = (target - v).detach()
        scale = advantage.std().clamp(min=1e-6) if c.normalise else 1.0
        weight = exp_weights(advantage / scale, 1.0 / c.temperature, c.max_weight)
        value_loss = (target - v).square().mean()
        mean, std = self.policy.distribution(b.obs[:, 0], b.goal)
        policy_loss = -(weight * gaussian_log_prob(b.action[:, 0], mean, std)).mean()
        self.descend("value", value_loss)
        self.descend("policy", policy_loss)
        return {
            "value_loss": value_loss.detach(),
            "policy_loss": policy_loss.detach(),
            "weight": weight.mean(),
            "v": v.detach().mean(),
        }

    @torch.no_grad()
    def value(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, " B"]:
        """V(s, g), of the data's behaviour."""
        return self.value_network(*self.scaled(obs, goal))
