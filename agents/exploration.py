"""Noise that explores, for n copies of a scene at once, and how it meets the policy's action.

    action = clip(policy(obs, goal) + noise.step(generator), -1, 1)                         `disturbed`
    action = U(-1, 1)^a with probability epsilon, per copy and step, else that action       `uniform_mixed`

A rollout calls `reset()` when episodes begin, and in each step

    action = uniform_mixed(disturbed(agent.act(obs, goal), noise.step(generator)), epsilon, generator)

epsilon = 1 is the warm-up with uniform actions. All draws come from the torch generator that is handed in (on the noise's
device), so that seeds make runs repeat; `state_dict` and the generator's state continue an episode exactly.
"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Noise(Protocol):
    """What a rollout asks of a noise process: n rows of `dim` numbers in units of the action, whose range is [-1, 1]."""

    @property
    def std(self) -> float: ...

    def reset(self, which: Tensor | None = None) -> None: ...

    def step(self, generator: torch.Generator | None = None) -> Tensor: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class GaussianNoise:
    """White noise N(0, sigma^2), independent in every copy, dimension and step (TD3's own).

    Args: n copies, dim of the action, sigma >= 0. Raises ValueError for a negative sigma.
    """

    def __init__(self, n: int, dim: int, sigma: float, device: str | torch.device = "cpu"):
        check_sigma(sigma)
        self.shape, self.sigma, self.device = (n, dim), sigma, torch.device(device)

    @property
    def std(self) -> float:
        """sigma."""
        return self.sigma

    def reset(self, which: Bool[Tensor, " n"] | None = None) -> None:
        """Nothing: white noise has no memory."""

    def step(self, generator: torch.Generator | None = None) -> Float[Tensor, "n a"]:
        """The next noise of every copy."""
        return torch.randn(self.shape, generator=generator, device=self.device).mul_(self.sigma)

    def state_dict(self) -> dict[str, Tensor]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


class OrnsteinUhlenbeck:
    """x' = (1 - theta) x + sigma N(0, I), starting at 0: noise that keeps its direction for about 1 / theta steps.

    DDPG's process with a time step of 1 (Lillicrap et al. 2016; RIG: sigma .2 pusher, .3 reacher and CC-RIG, theta .15).
    Stationary std sigma / sqrt(1 - (1 - theta)^2), which for theta = .15 is 1.90 sigma; autocorrelation (1 - theta)^k at lag k.

    Args: n copies, dim of the action, sigma >= 0, theta in (0, 1] (1: white noise). Raises ValueError outside these ranges.
    """

    def __init__(self, n: int, dim: int, sigma: float, theta: float = 0.15, device: str | torch.device = "cpu"):
        check_sigma(sigma)
        if not 0.0 < theta <= 1.0:
            raise ValueError(f"theta must lie in (0, 1], got {theta}")
        self.sigma, self.theta = sigma, theta
        self.state = torch.zeros(n, dim, device=device)

    @property
    def std(self) -> float:
        """Of the stationary distribution, which is near after 1 / theta steps."""
        return self.sigma / math.sqrt(1.0 - (1.0 - self.theta) ** 2)

    def reset(self, which: Bool[Tensor, " n"] | None = None) -> None:
        """Back to 0: the copies in the mask, or all. For the beginning of an episode."""
        self.state = torch.zeros_like(self.state) if which is None else self.state.masked_fill(which[:, None], 0.0)

    def step(self, generator: torch.Generator | None = None) -> Float[Tensor, "n a"]:
        """The next noise of every copy: a tensor of its own, which later steps leave alone."""
        white = torch.randn(self.state.shape, generator=generator, device=self.state.device)
        self.state = white.mul_(self.sigma).add_(self.state, alpha=1.0 - self.theta)
        return self.state.clone()

    def state_dict(self) -> dict[str, Tensor]:
        """{"noise": (n, a)}."""
        return {"noise": self.state.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where `state_dict` was taken. Raises ValueError for another number of copies or dimensions."""
        if state["noise"].shape != self.state.shape:
            raise ValueError(f"saved noise is {tuple(state['noise'].shape)}, this one is {tuple(self.state.shape)}")
        self.state = state["noise"].to(self.state.device, self.state.dtype).clone()


def check_sigma(sigma: float) -> None:
    """Raise ValueError for a negative sigma."""
    if sigma < 0.0:
        raise ValueError(f"sigma must be >= 0, got {sigma}")


def make_noise(
    kind: str, n: int, dim: int, sigma: float, theta: float = 0.15, device: str | torch.device = "cpu"
) -> GaussianNoise | OrnsteinUhlenbeck:
    """The process a config names: "ou" or "gaussian". Raises ValueError for another name."""
    if kind == "ou":
        return OrnsteinUhlenbeck(n, dim, sigma, theta, device)
    if kind == "gaussian":
        return GaussianNoise(n, dim, sigma, device)
    raise ValueError(f"unknown noise {kind!r}: choose ou or gaussian")


def disturbed(action: Float[Tensor, "n a"], noise: Float[Tensor, "n a"]) -> Float[Tensor, "n a"]:
    """clip(action + noise, -1, 1)."""
    return (action + noise).clamp_(-1.0, 1.0)


def uniform_mixed(
    action: Float[Tensor, "n a"], epsilon: float, generator: torch.Generator | None = None
) -> Float[Tensor, "n a"]:
    """With probability epsilon in [0, 1], per row, U(-1, 1) in place of the action. Raises ValueError outside that range.

    It draws the same amount of numbers whatever epsilon is.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon must lie in [0, 1], got {epsilon}")
    n, dim = action.shape
    draw = torch.rand(n, dim + 1, generator=generator, device=action.device)
    return torch.where(draw[:, :1] < epsilon, 2.0 * draw[:, 1:] - 1.0, action)


@runtime_checkable
class Actor(Protocol):
    """What a rollout asks of who acts: an `agents.agent.Agent`, or a `Team`."""

    def act(self, obs: Tensor, goal: Tensor, explore: bool = False, generator: torch.Generator | None = None) -> Tensor: ...


class Team:
    """Policies that act in turn: row i of a batch is that of member i modulo their number, throughout an episode.

    Where policies that were trained apart disagree, none of them knows, and each tries something else, consistently: exploration by an ensemble
    (Osband et al. 2016, "Deep exploration via bootstrapped DQN"), here of cloned policies. Raises ValueError without members.
    """

    def __init__(self, members: Sequence[Actor]):
        if not members:
            raise ValueError("a team has at least one member")
        self.members = list(members)

    def act(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], explore: bool = False, generator: torch.Generator | None = None
    ) -> Float[Tensor, "B a"]:
        """Actions in [-1, 1], each of the row's own member."""
        count = min(len(self.members), len(obs))
        parts = [member.act(obs[i::count], goal[i::count], explore, generator) for i, member in enumerate(self.members[:count])]
        action = parts[0].new_empty(len(obs), parts[0].shape[1])
        for i, part in enumerate(parts):
            action[i::count] = part
        return action
