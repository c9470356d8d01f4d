"""SAC, goal-conditioned: soft actor-critic with a learned temperature (Haarnoja et al. 2018), and cloning beside it.

    y  = r + gamma (min Q'(s', a', g) - alpha log pi(a' | s', g)),  a' ~ pi(. | s', g)
    pi <- argmin E alpha log pi(a | s, g) - min Q(s, a, g) - w log pi(a_data | s, g)
    alpha: entropy of pi >= `target_entropy`

`bc_weight` w above 0 is "SAC + BC" of AWAC's comparisons (seed 004, sec. 5); SACfD is SAC with demonstrations in every batch
(`goals.relabel.MixedSampler`), which is data, not another agent.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, CriticConfig
from agents.operations import polyak, td_target
from agents.policies import Dual, SquashedGaussianPolicy
from goals.batch import Batch


@dataclass
class SACConfig(CriticConfig):
    """Hyper-parameters of SAC."""

    temperature: float = 0.1
    """alpha: its first value, or its only one"""
    learn_temperature: bool = True
    """alpha follows the entropy"""
    target_entropy: float = 0.0
    """in nats, the least the policy keeps; 0: minus the action's dimensions"""
    bc_weight: float = 0.0
    """w of cloning the batch's actions"""
    target_clip: bool = False
    """clamp targets to [-1 / (1 - gamma), 0]: entropy can leave that range"""
    layer_norm: bool = False
    """LayerNorm in Q"""


class SAC(ActorCritic):
    """Soft actor-critic, goal-conditioned."""

    card = Card(
        evaluates="pi, with its entropy",
        objective="KL(pi || exp(Q / alpha)); with bc_weight also cloning",
        behaviour="none",
        constraint="none; with bc_weight cloning",
        source="Haarnoja et al. 2018, algorithm 1",
    )
    policy: SquashedGaussianPolicy
    bc_weight: Tensor

    def build(self) -> None:
        c = self.config
        self.critic, self.target_critic = self.critics()
        self.policy = SquashedGaussianPolicy(self.trunk(), self.action_dim, c.hidden, c.policy_layers)
        self.temperature = Dual(c.temperature).requires_grad_(c.learn_temperature)
        self.register_buffer("bc_weight", torch.tensor(c.bc_weight))
        self.least_entropy = c.target_entropy or -float(self.action_dim)

    def optimise(self) -> None:
        self.add_optimizer("critic", self.critic, self.config.learning_rate)
        self.add_optimizer("policy", self.policy, self.config.learning_rate)
        if self.config.learn_temperature:
            self.add_optimizer("temperature", self.temperature, self.config.learning_rate)

    def set_bc_weight(self, weight: float) -> None:
        """The cloning weight from now on. Part of the checkpoint."""
        self.bc_weight.fill_(weight)

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared soft Bellman error of both critics."""
        with torch.no_grad():
            action, log_prob = self.policy.draw(b.next_obs, b.goal, self.noise_like(b.action))
            soft = self.target_critic(b.next_obs, b.goal, action).amin(0) - self.temperature() * log_prob
            target = td_target(b.reward, b.discount, soft, self.config.gamma, self.config.target_clip)
        return self.regress(b, target)

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, " B"], dict[str, Tensor]]:
        """Soft policy improvement and cloning; also the log densities of its own actions."""
        action, log_prob = self.policy.draw(b.obs, b.goal, self.noise_like(b.action))
        loss = (self.temperature() * log_prob - self.critic(b.obs, b.goal, action).amin(0)).mean()
        if self.config.bc_weight:
            loss = loss + self.bc_weight * self.policy.cloning_loss(b.obs, b.goal, b.action)
        return loss, log_prob, {"policy_loss": loss.detach(), "entropy": -log_prob.detach().mean()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of Q, the policy and the temperature, and the target's moving average; returns 0-d tensors."""
        self.step += 1
        b = self.prepare(batch)
        critic_loss, critic_metrics = self.critic_loss(b)
        self.descend("critic", critic_loss)
        policy_loss, log_prob, policy_metrics = self.policy_loss(b)
        self.descend("policy", policy_loss)
        if self.config.learn_temperature:
            self.descend("temperature", self.temperature.loss(-log_prob - self.least_entropy))
        polyak(self.target_critic.parameters(), self.critic.parameters(), self.config.target_rate)
        return critic_metrics | policy_metrics | {"temperature": self.temperature()}
