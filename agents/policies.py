"""What acts: policies over (observation, goal), a model of the data's actions, and the multipliers of their constraints."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.networks import StackedMLP, Trunk, mlp
from agents.operations import squashed_log_prob, unsquash


def policy_head(trunk: Trunk, hidden: int | Sequence[int], layers: int, outputs: int) -> nn.Sequential:
    """An MLP behind a trunk, whose last layer starts small, so that no tanh behind it saturates at first."""
    head = mlp(trunk.features, hidden, layers, outputs)
    with torch.no_grad():
        for parameter in head[-1].parameters():
            parameter.mul_(0.1)
    return head


class DeterministicPolicy(nn.Module):
    """tanh(MLP): actions in (-1, 1).

    Args: trunk; action_dim; hidden, layers of the MLP; noise: std of the white noise of `sample`.
    """

    def __init__(self, trunk: Trunk, action_dim: int, hidden: int | Sequence[int], layers: int, noise: float = 0.0):
        super().__init__()
        self.trunk, self.noise, self.action_dim = trunk, noise, action_dim
        self.head = policy_head(trunk, hidden, layers, action_dim)

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B a"]:
        return torch.tanh(self.head(self.trunk(obs, goal)).float())

    def noisy(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], noise: Float[Tensor, "B a"]) -> Float[Tensor, "B a"]:
        """Actions with noise made of standard normal noise, clamped to [-1, 1]."""
        return (self(obs, goal) + self.noise * noise).clamp(-1.0, 1.0)  # type: ignore[no-any-return]

    def sample(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B a"]:
        """Actions with Gaussian noise, clamped to [-1, 1]."""
        return self.noisy(obs, goal, torch.randn(len(obs), self.action_dim, generator=generator, device=obs.device))


class GaussianPolicy(DeterministicPolicy):
    """N(tanh(MLP), diag std^2), *unsquashed*: densities of data actions at +-1 stay finite (errata and facts, Agents).

    Fixed std for std > 0. Learned, the same in every state, for std = 0, as log std = -6 + 6 * sigmoid(theta)
    (AWAC's released code; std in (0.0025, 1), starting at 0.37). For std = -1 theta is an output of the MLP.
    """

    START = math.log(5.0)  # sigmoid(log 5) = 5/6

    def __init__(self, trunk: Trunk, action_dim: int, hidden: int, layers: int, std: float):
        if std < 0.0 and std != -1.0:
            raise ValueError(f"policy std must be > 0 (fixed), 0 (learned) or -1 (a network of the state), got {std}")
        self.of_state = std < 0.0
        super().__init__(trunk, action_dim, hidden, layers)
        if self.of_state:
            self.head = policy_head(trunk, hidden, layers, 2 * action_dim)
            return
        self.fixed = std > 0.0
        theta = torch.full((action_dim,), math.log(std) if self.fixed else self.START)
        self.theta = nn.Parameter(theta, requires_grad=not self.fixed)

    def distribution(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]
    ) -> tuple[Float[Tensor, "B a"], Float[Tensor, "*#B a"]]:
        """Mean, and std: one for all states, or one each."""
        out = self.head(self.trunk(obs, goal)).float()
        if not self.of_state:
            return torch.tanh(out), self.theta.exp() if self.fixed else bounded_std(self.theta)
        mean, theta = out.chunk(2, -1)
        return torch.tanh(mean), bounded_std(self.START + theta)

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B a"]:
        return self.distribution(obs, goal)[0]

    def noisy(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], noise: Float[Tensor, "B a"]) -> Float[Tensor, "B a"]:
        """Samples made of standard normal noise, clamped to [-1, 1]."""
        mean, std = self.distribution(obs, goal)
        return (mean + std * noise).clamp(-1.0, 1.0)


def bounded_std(theta: Float[Tensor, "*s a"]) -> Float[Tensor, "*s a"]:
    """exp(-6 + 6 * sigmoid(theta)), in (0.0025, 1)."""
    return (-6.0 + 6.0 * torch.sigmoid(theta)).exp()


class SquashedGaussianPolicy(nn.Module):
    """tanh of N(mean(s, g), diag std(s, g)^2): actions in (-1, 1) with a density (Haarnoja et al. 2018, app. C).

    The densities of data actions at +-1 are infinite: see `cloning_loss`. `forward` gives tanh(mean).
    """

    LOG_STD = (-5.0, 2.0)
    EDGE = 0.02

    def __init__(self, trunk: Trunk, action_dim: int, hidden: int, layers: int):
        super().__init__()
        self.trunk = trunk
        self.head = policy_head(trunk, hidden, layers, 2 * action_dim)

    def distribution(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> tuple[Float[Tensor, "B a"], Float[Tensor, "B a"]]:
        """Mean and std before the squashing."""
        mean, log_std = self.head(self.trunk(obs, goal)).float().chunk(2, -1)
        return mean, log_std.clamp(*self.LOG_STD).exp()

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B a"]:
        return torch.tanh(self.distribution(obs, goal)[0])

    def draw(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], noise: Float[Tensor, "*n B a"]
    ) -> tuple[Float[Tensor, "*n B a"], Float[Tensor, "*n B"]]:
        """Actions made of standard normal noise, with a gradient, and their log densities; any number of draws for each state."""
        mean, std = self.distribution(obs, goal)
        raw = mean + std * noise
        return torch.tanh(raw), squashed_log_prob(raw, mean, std)

    def log_prob(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], action: Float[Tensor, "*n B a"], edge: float = 1e-6
    ) -> Float[Tensor, "*n B"]:
        """log density of given actions, clamped to +-(1 - edge)."""
        mean, std = self.distribution(obs, goal)
        return squashed_log_prob(unsquash(action, edge), mean, std)

    def cloning_loss(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], action: Float[Tensor, "B a"]
    ) -> Float[Tensor, ""]:
        """-log density of the data's actions, of which those at +-1 count as `EDGE` inside: else they alone shape the policy."""
        return -self.log_prob(obs, goal, action, self.EDGE).mean()

    def sample(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B a"]:
        """One action for each state."""
        mean, std = self.distribution(obs, goal)
        return torch.tanh(mean + std * torch.randn(mean.shape, generator=generator, device=mean.device))


class ActionVAE(nn.Module):
    """A conditional VAE of the data's actions, p(a | s, g) (BCQ): which actions are like those of the data.

    Its latent has twice the action's dimensions; tanh at the end. Args: trunk_in, trunk_out: of encoder and decoder.
    """

    CLIP = 0.5  # of latents that are drawn, so that what is decoded stays likely

    def __init__(self, trunk_in: Trunk, trunk_out: Trunk, action_dim: int, hidden: int, layers: int):
        super().__init__()
        self.trunk_in, self.trunk_out, self.latents = trunk_in, trunk_out, 2 * action_dim
        self.encoder = mlp(trunk_in.features + action_dim, hidden, layers, 2 * self.latents)
        self.decoder = StackedMLP(1, trunk_out.features, hidden, layers, action_dim, late=self.latents)

    def loss(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], action: Float[Tensor, "B a"], noise: Float[Tensor, "B z"]
    ) -> Float[Tensor, ""]:
        """Squared error (mean over the action's dimensions) + KL / 2 (mean over the latent's), averaged over the batch, as released."""
        mean, log_std = self.encoder(torch.cat([self.trunk_in(obs, goal), action], 1)).float().chunk(2, 1)
        log_std = log_std.clamp(-4.0, 15.0)
        decoded = self.decode(obs, goal, (mean + log_std.exp() * noise)[None])[0]
        kl = 0.5 * (mean.square() + (2.0 * log_std).exp() - 1.0 - 2.0 * log_std)
        return (decoded - action).square().mean() + 0.5 * kl.mean()

    def decode(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], z: Float[Tensor, "n B z"]
    ) -> Float[Tensor, "n B a"]:
        """n actions for each row."""
        return torch.tanh(self.decoder.each(self.trunk_out(obs, goal), z)[0].float())

    def draw(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], noise: Float[Tensor, "n B z"]) -> Float[Tensor, "n B a"]:
        """n likely actions for each row, made of standard normal noise."""
        return self.decode(obs, goal, noise.clamp(-self.CLIP, self.CLIP))


class Dual(nn.Module):
    """A Lagrange multiplier above 0 that learns: it grows while its constraint is broken and falls while there is slack.

    Args: start: its first value; largest: it stays below. Optimise `loss`.
    """

    def __init__(self, start: float, largest: float = 1e6):
        super().__init__()
        if not 0.0 < start <= largest:
            raise ValueError(f"a multiplier must start in (0, {largest:g}], got {start}")
        self.log, self.largest = nn.Parameter(torch.tensor(math.log(start))), largest

    def forward(self) -> Float[Tensor, ""]:
        """The multiplier, without a gradient."""
        return self.log.detach().exp().clamp(max=self.largest)

    def loss(self, slack: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
        """Descending it is ascending the dual; slack is at least 0 where the constraint holds."""
        return self.log.exp().clamp(max=self.largest) * slack.detach().mean()


class Policy(Protocol):
    """What acts, of scaled observations and goals."""

    def __call__(self, obs: Tensor, goal: Tensor) -> Tensor:
        """The best guess: actions (B, a) in [-1, 1]."""
        ...

    def sample(self, obs: Tensor, goal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, a) in [-1, 1] to explore with."""
        ...
