"""Implicit Q-learning, goal-conditioned (Kostrikov et al. 2021; seed 003, ch. 8, eqs. 47-49).

    V <- argmin E L2^tau(min Q'(s, a, g) - V(s, g))            an upper expectile over the data's actions (eq. 47)
    Q <- argmin E (r + gamma V(s', g) - Q(s, a, g))^2          no action outside the data is ever evaluated (eq. 48)
    pi <- argmax E exp(beta (Q' - V)) log pi(a | s, g)         "awr" extraction (eq. 49)
      or argmax E Q(s, pi(s, g), g) / |Q| - w |pi - a|^2       "ddpg_bc" extraction (Park et al. 2024)

Q' is the moving average of Q. As in the released code all three losses are taken at the same parameters, then stepped.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, CriticConfig
from agents.networks import Value
from agents.operations import exp_weights, expectile_loss, gaussian_log_prob, polyak, q_scale, td_target
from agents.policies import GaussianPolicy
from goals.batch import Batch


@dataclass
class IQLConfig(CriticConfig):
    """Hyper-parameters of IQL."""

    expectile: float = 0.7
    """tau of the value's expectile, in (0.5, 1): higher is greedier (0.9 for goal reaching that stitches)"""
    extraction: str = "awr"
    """awr | ddpg_bc"""
    temperature: float = 3.0
    """beta of awr: multiplies the advantage"""
    max_weight: float = 100.0
    """awr weights are clipped here, after the exp"""
    bc_weight: float = 0.4
    """of ddpg_bc: cloning against a Q normalised to mean |Q| = 1"""
    policy_std: float = 0.15
    """fixed std of the Gaussian policy; 0: learned, one for all states; -1: learned, a network of the state"""


class IQL(ActorCritic):
    """Implicit Q-learning, goal-conditioned. Raises ValueError for an unknown extraction or encoder."""

    card = Card(
        evaluates="an upper expectile over the data's actions",
        objective="KL(pi* || pi): regression weighted by exp(beta A); or Q of its action and squared error",
        behaviour="none",
        constraint="implicit; or cloning",
        source="Kostrikov et al. 2021, eq. 5 to 7 (seed 003, eq. 47 to 49); Park et al. 2024",
    )
    policy: GaussianPolicy
    bc_weight: Tensor

    def build(self) -> None:
        c = self.config
        extractions = {"awr": self.awr_loss, "ddpg_bc": self.ddpg_bc_loss}
        if c.extraction not in extractions:
            raise ValueError(f"unknown extraction {c.extraction!r}: choose {' or '.join(extractions)}")
        self.policy_loss = extractions[c.extraction]
        self.critic, self.target_critic = self.critics()
        self.value_network = Value(self.trunk(), c.hidden, c.layers, c.layer_norm)
        self.policy = self.gaussian(c.policy_std)
        self.register_buffer("bc_weight", torch.tensor(c.bc_weight))

    def optimise(self) -> None:
        for name, network in (("value", self.value_network), ("critic", self.critic), ("policy", self.policy)):
            self.add_optimizer(name, network, self.config.learning_rate)

    def set_bc_weight(self, weight: float) -> None:
        """The cloning weight of ddpg_bc from now on (lower it when practice begins)."""
        self.bc_weight.fill_(weight)

    def value_loss(self, b: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, " B"], dict[str, Tensor]]:  # eq. 47
        """Expectile regression of V on the target Q's minimum; also returns the advantage (detached)."""
        with torch.no_grad():
            q = self.target_critic(b.obs, b.goal, b.action).amin(0)
        v = self.value_network(b.obs, b.goal)
        loss = expectile_loss(q - v, self.config.expectile)
        return loss, q - v.detach(), {"value_loss": loss.detach(), "v": v.detach().mean()}

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:  # eq. 48
        """Mean squared Bellman error of both critics."""
        with torch.no_grad():
            target = td_target(
                b.reward, b.discount, self.value_network(b.next_obs, b.goal), self.config.gamma, self.config.target_clip
            )
        return self.regress(b, target)

    def awr_loss(
        self, b: Batch, advantage: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:  # eq. 49
        """Advantage-weighted regression."""
        weight = exp_weights(advantage, self.config.temperature, self.config.max_weight)
        mean, std = self.policy.distribution(b.obs, b.goal)
        loss = -(weight * gaussian_log_prob(b.action, mean, std)).mean()
        return loss, {
            "policy_loss": loss.detach(),
            "weight": weight.mean(),
            "mse": (mean - b.action).square().mean().detach(),
        }

    def ddpg_bc_loss(self, b: Batch, advantage: Float[Tensor, " B"]) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Deterministic policy gradient through the normalised Q, plus cloning (mean over action dimensions)."""
        mean = self.policy(b.obs, b.goal)
        q = self.critic(b.obs, b.goal, mean).amin(0)
        mse = (mean - b.action).square().mean()
        loss = -q.mean() * q_scale(q) + self.bc_weight * mse
        return loss, {"policy_loss": loss.detach(), "mse": mse.detach()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of V, Q and the policy, and the target's moving average; returns 0-d tensors."""
        self.step += 1
        b = self.prepare(batch)
        value_loss, advantage, value_metrics = self.value_loss(b)
        critic_loss, critic_metrics = self.critic_loss(b)
        policy_loss, policy_metrics = self.policy_loss(b, advantage)
        self.descend("value", value_loss)
        self.descend("policy", policy_loss)
        self.descend("critic", critic_loss)
        polyak(self.target_critic.parameters(), self.critic.parameters(), self.config.target_rate)
        return value_metrics | critic_metrics | policy_metrics | {"advantage": advantage.mean()}

    @torch.no_grad()
    def value(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, " B"]:
        """V(s, g): for rewards of -1 per step, minus the discounted number of steps to the goal."""
        return self.value_network(*self.scaled(obs, goal))
