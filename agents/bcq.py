"""BCQ, goal-conditioned: batch-constrained Q-learning for continuous actions (Fujimoto et al. 2019, algorithm 1).

    p_b: a conditional VAE of the data's actions;  xi(s, a, g) in [-Phi, Phi]: a perturbation that learns
    y  = r + gamma max over n actions a' of p_b [ lambda min Q' + (1 - lambda) max Q' ](s', a' + xi'(s', a', g), g)
    xi <- argmax E Q_1(s, a + xi(s, a, g), g),  a ~ p_b
    pi(s, g) = of n actions of p_b, perturbed, the one that Q_1 likes best
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.agent import ActorCritic, Card, CriticConfig, with_target
from agents.networks import Critic, StackedMLP, Trunk
from agents.operations import polyak, soft_minimum, td_target
from agents.policies import ActionVAE
from goals.batch import Batch


@dataclass
class BCQConfig(CriticConfig):
    """Hyper-parameters of BCQ."""

    samples: int = 10
    """actions of the VAE in targets and when acting (n)"""
    perturbation: float = 0.05
    """the most that an action is moved (Phi)"""
    minimum_share: float = 0.75
    """lambda of the target's mixture of minimum and maximum"""
    learning_rate: float = 1e-3
    """of Adam, all networks"""
    layer_norm: bool = False
    """LayerNorm in Q"""


class Perturbation(nn.Module):
    """xi: small changes of actions."""

    def __init__(self, trunk: Trunk, action_dim: int, hidden: int, layers: int, largest: float):
        super().__init__()
        self.trunk, self.largest = trunk, largest
        self.head = StackedMLP(1, trunk.features, hidden, layers, action_dim, late=action_dim)

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], actions: Float[Tensor, "n B a"]) -> Float[Tensor, "n B a"]:
        """The actions moved, within [-1, 1]."""
        move = self.largest * torch.tanh(self.head.each(self.trunk(obs, goal), actions)[0])
        return (actions + move).clamp(-1.0, 1.0)


class BatchConstrainedPolicy(nn.Module):
    """The best of some likely actions. The agent's best guess draws them with noise that is always the same.

    It shares its networks with the agent, which owns and trains them.
    """

    noise: Tensor

    def __init__(self, behaviour: ActionVAE, perturbation: Perturbation, critic: Critic, samples: int):
        super().__init__()
        self.networks = (behaviour, perturbation, critic)  # a tuple: not registered twice
        self.register_buffer("noise", torch.randn(samples, 1, behaviour.latents))

    def best(self, obs: Tensor, goal: Tensor, noise: Float[Tensor, "n B z"]) -> Float[Tensor, "B a"]:
        """Of the actions made of this noise."""
        behaviour, perturbation, critic = self.networks
        actions = perturbation(obs, goal, behaviour.draw(obs, goal, noise))
        choice = critic.each(obs, goal, actions)[0].argmax(0)
        return actions[choice, torch.arange(len(choice), device=choice.device)]

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B a"]:
        return self.best(obs, goal, self.noise.expand(-1, len(obs), -1))

    def sample(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B a"]:
        """With other actions to choose from each time."""
        shape = (len(self.noise), len(obs), self.noise.shape[2])
        return self.best(obs, goal, torch.randn(shape, generator=generator, device=obs.device))


class BCQ(ActorCritic):
    """Batch-constrained Q-learning, goal-conditioned."""

    card = Card(
        evaluates="the best of the model's actions, moved a little",
        objective="Q of the moved action",
        behaviour="conditional VAE",
        constraint="support: only actions of the model, moved at most Phi",
        source="Fujimoto et al. 2019, algorithm 1",
    )

    def build(self) -> None:
        c = self.config
        self.critic, self.target_critic = self.critics()
        self.behaviour = ActionVAE(self.trunk(), self.trunk(), self.action_dim, c.hidden, c.policy_layers)
        self.perturbation, self.target_perturbation = with_target(
            lambda: Perturbation(self.trunk(), self.action_dim, c.hidden, c.policy_layers, c.perturbation)
        )
        self.policy = BatchConstrainedPolicy(self.behaviour, self.perturbation, self.critic, c.samples)

    def optimise(self) -> None:
        for name, network in (("critic", self.critic), ("behaviour", self.behaviour), ("perturbation", self.perturbation)):
            self.add_optimizer(name, network, self.config.learning_rate)
        self.targets = [*self.target_critic.parameters(), *self.target_perturbation.parameters()]
        self.sources = [*self.critic.parameters(), *self.perturbation.parameters()]

    def many(self, b: Batch, n: int) -> Float[Tensor, "n B z"]:
        """Standard normal noise for n latents of each row."""
        return self.noise_like(b.action.new_empty(n, len(b.action), self.behaviour.latents))

    def critic_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared Bellman error of both critics."""
        c = self.config
        with torch.no_grad():
            usual = self.behaviour.draw(b.next_obs, b.goal, self.many(b, c.samples))
            actions = self.target_perturbation(b.next_obs, b.goal, usual)
            next_q = soft_minimum(self.target_critic.each(b.next_obs, b.goal, actions), c.minimum_share)
            target = td_target(b.reward, b.discount, next_q, c.gamma, c.target_clip)
        return self.regress(b, target)

    def perturbation_loss(self, b: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """-Q_1 of a likely action, perturbed."""
        with torch.no_grad():
            usual = self.behaviour.draw(b.obs, b.goal, self.many(b, 1))
        loss = -self.critic(b.obs, b.goal, self.perturbation(b.obs, b.goal, usual)[0], members=1).mean()
        return loss, {"policy_loss": loss.detach()}

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of the VAE, Q and the perturbation, and the moving averages; returns 0-d tensors."""
        self.step += 1
        b = self.prepare(batch)
        behaviour_loss = self.behaviour.loss(b.obs, b.goal, b.action, self.many(b, 1)[0])
        self.descend("behaviour", behaviour_loss)
        critic_loss, critic_metrics = self.critic_loss(b)
        self.descend("critic", critic_loss)
        perturbation_loss, policy_metrics = self.perturbation_loss(b)
        self.descend("perturbation", perturbation_loss)
        polyak(self.targets, self.sources, self.config.target_rate)
        return {"behaviour_loss": behaviour_loss.detach()} | critic_metrics | policy_metrics
