"""BEAR, goal-conditioned: bootstrapping error accumulation reduction (Kumar et al. 2019).

    p_b: a conditional VAE of the data's actions
    y  = r + gamma max_{a' ~ pi, n of them} [ lambda min Q'(s', a', g) + (1 - lambda) max Q'(s', a', g) ]
    pi <- argmax E min Q(s, a, g)   with   MMD(p_b(. | s, g), pi(. | s, g)) <= eps   (the multiplier is learned)

`divergence` kl in place of mmd: KL(pi || a cloned Gaussian) <= eps in nats, estimated by the same samples (seed 004's second form).
To act: of n actions of pi, the one that Q_1 likes best (as released).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import ActorCritic, Card, CriticConfig
from agents.operations import mmd_squared, polyak, soft_minimum, td_target
from agents.policies import ActionVAE, Dual, SquashedGaussianPolicy
from goals.batch import Batch


@dataclass
class BEARConfig(CriticConfig):
    """Hyper-parameters of BEAR."""

    divergence: str = "mmd"
    """mmd (to a conditional VAE) | kl (to a cloned Gaussian)"""
    kernel: str = "laplacian"
    """of mmd: laplacian | gaussian"""
    kernel_width: float = 20.0
    """of mmd"""
    epsilon: float = 0.05
    """the most divergence allowed (kl: nats, 1 is usual)"""
    multiplier: float = 1.0
    """of the constraint, at first"""
    multiplier_rate: float = 1e-3
    """learning rate of the multiplier's logarithm"""
    samples: int = 10
    """actions of the policy in targets and when acting"""
    divergence_samples: int = 5
    """actions of each model in the divergence"""
    minimum_share: float = 0.75
    """lambda of the target's mixture of minimum and maximum"""
    cloning_updates: int = 0
    """updates at first in which the policy meets the constraint and ignores Q"""
    layer_norm: bool = False
    """LayerNorm in Q"""


class BEAR(ActorCritic):
    """BEAR, goal-conditioned. Raises ValueError for an unknown divergence or kernel."""

    card = Card(
        evaluates="pi, the best of some actions",
        objective="Q of its action under a constraint",
        behaviour="conditional VAE (mmd) or cloned Gaussian (kl)",
        constraint="explicit: support (MMD) or KL, with a learned multiplier",
        source="Kumar et al. 2019, algorithm 1",
    )
    policy: SquashedGaussianPolicy

    def build(self) -> None:
        c = self.config
        if c.divergence not in ("mmd", "kl") or c.kernel not in ("laplacian", "gaussian"):
            raise ValueError(f"BEAR: divergence {c.divergence!r} must be mmd or kl, kernel {c.kernel!r} laplacian or gaussian")
        self.critic, self.target_critic = self.critics()
        self.policy = SquashedGaussianPolicy(self.trunk(), self.action_dim, c.hidden, c.policy_layers)
        self.behaviour: ActionVAE | SquashedGaussianPolicy
        if c.divergence == "mmd":
            self.behaviour = ActionVAE(self.trunk(), self.trunk(), self.action_dim, c.hidden, c.policy_layers)
        else:
            self.behaviour = SquashedGaussianPolicy(self.trunk(), self.action_dim, c.hidden, c.policy_layers)
        self.multiplier = Dual(c.multiplier)

    def optimise(self) -> None:
        c = self.config
        for name, network in (("critic", self.critic), ("policy", self.policy), ("behaviour", self.behaviour)):
            self.add_optimizer(name, network, c.learning_rate)
        self.add_optimizer("multiplier", self.multiplier, c.multiplier_rate)

    def many(self, b: Batch, n: int, dims: int | None = None) -> Float[Tensor, "n B d"]:
        """Standard normal noise for n draws of each row."""
        return self.noise_like(b.action.new_empty(n, len(b.action), dims or self.action_dim))

    def behaviour_loss(self, b: Batch) -> Float[Tensor, ""]:
        """Of the model of the data's actions."""
        if isinstance(self.behaviour, ActionVAE):
            return self.behaviour.loss(b.obs, b.goal, b.action, self.many(b, 1, self.behaviour.latents)[0])
        return self.behaviour.cloning_loss(b.obs, b.goal, b.action)

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared Bellman error of both critics."""
        c = self.config
        with torch.no_grad():
            actions, _ = self.policy.draw(b.next_obs, b.goal, self.many(b, c.samples))
            next_q = soft_minimum(self.target_critic.each(b.next_obs, b.goal, actions), c.minimum_share)
            target = td_target(b.reward, b.discount, next_q, c.gamma, c.target_clip)
        return self.regress(b, target)

    def policy_loss(self, b: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""], dict[str, Tensor]]:
        """-Q (mean of the draws' minima) and the constraint; also the divergence (of mmd, the root of its mean square over states)."""
        c = self.config
        actions, log_prob = self.policy.draw(b.obs, b.goal, self.many(b, c.divergence_samples))
        if isinstance(self.behaviour, ActionVAE):
            with torch.no_grad():
                usual = self.behaviour.draw(b.obs, b.goal, self.many(b, c.divergence_samples, self.behaviour.latents))
            square = mmd_squared(usual, actions, c.kernel, c.kernel_width).mean()
            divergence = (square.clamp(min=0.0) + 1e-6).sqrt()  # its slope at 0 stays finite
        else:
            divergence = (log_prob - self.behaviour.log_prob(b.obs, b.goal, actions)).mean()
        loss = self.multiplier() * divergence
        if self.step > c.cloning_updates:
            loss = loss - self.critic.each(b.obs, b.goal, actions).amin(0).mean()
        return loss, divergence, {"policy_loss": loss.detach(), "divergence": divergence.detach()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of the behaviour model, Q, the policy and the multiplier, and the moving average; returns 0-d tensors."""
        self.step += 1
        b = self.prepare(batch)
        behaviour_loss = self.behaviour_loss(b)
        self.descend("behaviour", behaviour_loss)
        critic_loss, critic_metrics = self.critic_loss(b)
        self.descend("critic", critic_loss)
        policy_loss, divergence, policy_metrics = self.policy_loss(b)
        self.descend("policy", policy_loss)
        self.descend("multiplier", self.multiplier.loss(self.config.epsilon - divergence))
        polyak(self.target_critic.parameters(), self.critic.parameters(), self.config.target_rate)
        found = {"behaviour_loss": behaviour_loss.detach(), "multiplier": self.multiplier()}
        return found | critic_metrics | policy_metrics
