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

from agents.agent import Agent
from agents.networks import Critic, GaussianPolicy, GridShape, Trunk, Value, make_trunk
from agents.operations import exp_weights, expectile_loss, polyak, q_scale, td_target
from goals.batch import Batch


@dataclass
class IQLConfig:
    """Hyper-parameters of IQL."""

    gamma: float = 0.99
    """discount per step"""
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
    target_rate: float = 5e-3
    """of the moving average Q'"""
    target_clip: bool = True
    """clamp targets to [-1 / (1 - gamma), 0]: right for rewards in [-1, 0] only"""
    learning_rate: float = 3e-4
    """of Adam, all networks"""
    hidden: int = 256
    """width of all layers"""
    layers: int = 2
    """hidden layers of Q and V"""
    policy_layers: int = 2
    """hidden layers of the policy"""
    policy_std: float = 0.15
    """fixed std of the Gaussian policy; 0: learned"""
    layer_norm: bool = True
    """LayerNorm in Q and V"""
    encoder: str = "mlp"
    """mlp | difference (goal - latent, and the hand) | conv (spatial latents)"""
    channels: int = 32
    """of the conv encoder's first layer"""
    max_grad_norm: float = 0.0
    """clip gradients to this norm; 0: not"""


class IQL(Agent):
    """Implicit Q-learning, goal-conditioned. Raises ValueError for an unknown extraction or encoder."""

    policy: GaussianPolicy
    bc_weight: Tensor

    def __init__(
        self,
        config: IQLConfig,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        grid_shape: GridShape | None = None,
        device: str | torch.device = "cpu",
    ):
        super().__init__(obs_dim, goal_dim, action_dim, config.max_grad_norm)
        extractions = {"awr": self.awr_loss, "ddpg_bc": self.ddpg_bc_loss}
        if config.extraction not in extractions:
            raise ValueError(f"unknown extraction {config.extraction!r}: choose {' or '.join(extractions)}")
        self.config, self.policy_loss = config, extractions[config.extraction]
        c = config

        def trunk() -> Trunk:
            return make_trunk(c.encoder, obs_dim, goal_dim, grid_shape, c.channels)

        self.critic = Critic(trunk(), action_dim, c.hidden, c.layers, c.layer_norm)
        self.target_critic = Critic(trunk(), action_dim, c.hidden, c.layers, c.layer_norm).requires_grad_(False)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.value_network = Value(trunk(), c.hidden, c.layers, c.layer_norm)
        self.policy = GaussianPolicy(trunk(), action_dim, c.hidden, c.policy_layers, c.policy_std)
        self.register_buffer("bc_weight", torch.tensor(c.bc_weight))
        self.to(device)
        for name, network in (("value", self.value_network), ("critic", self.critic), ("policy", self.policy)):
            self.add_optimizer(name, network, c.learning_rate)

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
        q = self.critic(b.obs, b.goal, b.action)  # (2, B)
        loss = (q - target).square().mean()
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}

    def awr_loss(
        self, b: Batch, advantage: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:  # eq. 49
        """Advantage-weighted regression."""
        weight = exp_weights(advantage, self.config.temperature, self.config.max_weight)
        mean = self.policy(b.obs, b.goal)
        loss = -(weight * self.policy.log_prob(mean, b.action)).mean()
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
