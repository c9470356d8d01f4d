"""Rewards in latent space, judged on the next state and always recomputed after relabeling.

A reward is a callable (next_latent (B, z), goal (B, z)) -> (B,) with a `distance` of the same shape; those with a notion of
success also have `reached` -> bool (B,). Sparse rewards are success - 1: 0 when reached, -1 otherwise.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from goals.replay import Replay


@runtime_checkable
class Reward(Protocol):
    """What the relabeling machinery asks of a reward."""

    def __call__(self, next_latent: Tensor, goal: Tensor) -> Tensor: ...

    def distance(self, next_latent: Tensor, goal: Tensor) -> Tensor: ...


@runtime_checkable
class SuccessReward(Protocol):
    """A reward that also says what counts as reached."""

    def __call__(self, next_latent: Tensor, goal: Tensor) -> Tensor: ...

    def distance(self, next_latent: Tensor, goal: Tensor) -> Tensor: ...

    def reached(self, next_latent: Tensor, goal: Tensor) -> Tensor: ...


class SparseReward:
    """0 where ||z' - g||_2 <= epsilon, else -1 (VAL; errata, Rewards)."""

    def __init__(self, epsilon: float):
        self.epsilon = epsilon

    def distance(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """Euclidean latent distance."""
        return torch.linalg.vector_norm(next_latent - goal, dim=1)

    def reached(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Bool[Tensor, " B"]:
        """Whether the next latent lies within epsilon of the goal."""
        return self.distance(next_latent, goal) <= self.epsilon

    def __call__(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        return self.reached(next_latent, goal).float() - 1.0


class DenseReward:
    """-scale * ||z' - g||_2 (RIG, eq. 3). It has no notion of success."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def distance(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """Euclidean latent distance."""
        return torch.linalg.vector_norm(next_latent - goal, dim=1)

    def __call__(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        return -self.scale * self.distance(next_latent, goal)


class ChangedCellsReward:
    """0 where at most `tolerance` cells of the latent grid differ from the goal's, else -1.

    A cell differs when its code vectors lie more than `delta` apart. Counting cells forgives how *far* a code moved: the
    latent distance saturates, and one small object covers few cells.

    Args: tolerance in cells; grid_shape (c, h, w) of the flattened "(c h w)" latent; delta >= 0 in latent units.
    """

    def __init__(self, tolerance: int, grid_shape: tuple[int, int, int], delta: float = 1e-3):
        self.tolerance, self.grid_shape, self.delta = tolerance, grid_shape, delta

    def distance(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """How many cells differ, 0 .. h * w."""
        channels = self.grid_shape[0]
        squared = (next_latent - goal).square_().unflatten(1, (channels, -1)).sum(1)  # (B, cells)
        return (squared > self.delta**2).sum(1).float()

    def reached(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Bool[Tensor, " B"]:
        """Whether at most `tolerance` cells differ."""
        return self.distance(next_latent, goal) <= self.tolerance

    def __call__(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        return self.reached(next_latent, goal).float() - 1.0


def lag_distances(replay: Replay, reward: Reward, lag: int, n: int, generator: torch.Generator) -> Float[Tensor, " m"]:
    """Distances, as `reward` measures them, between frames exactly `lag` steps apart in one episode.

    Draws n rows and keeps those with a row `lag` later (m <= n). Raises ValueError when none has.
    """
    rows = replay.sample_rows(n, generator)
    rows = rows[rows + lag < replay.end[rows]]
    if not len(rows):
        raise ValueError(f"no episode is longer than lag={lag} steps: choose a smaller lag")
    return reward.distance(replay.latent(rows + lag), replay.latent(rows))


def calibrate_epsilon(distances: Float[Tensor, " m"], quantile: float = 0.5) -> float:
    """The threshold that a fraction `quantile` in [0, 1] of the given distances stays within.

    With distances between frames a few steps apart (`lag_distances`), "reached" means "that few steps away" for that
    fraction of the data, whatever the scale of images and latents (errata, Vision).
    """
    if not 0.0 <= quantile <= 1.0:
        raise ValueError(f"quantile must lie in [0, 1], got {quantile}")
    return float(torch.quantile(distances.float(), quantile))


@dataclass
class RewardConfig:
    """Which reward, and its threshold: fixed, or calibrated from data where negative."""

    kind: str = "sparse"
    """sparse | dense | changed_cells"""
    epsilon: float = -1.0
    """threshold of `sparse` in latent units; negative: calibrate"""
    tolerance: int = -1
    """threshold of `changed_cells` in cells; negative: calibrate"""
    delta: float = 1e-3
    """a cell has changed when its code vectors lie more than this apart"""
    scale: float = 1.0
    """of `dense`"""
    lag: int = 3
    """calibration: steps between the two frames"""
    quantile: float = 0.5
    """calibration: fraction of such pairs that count as reached"""


def make_reward(
    config: RewardConfig,
    grid_shape: tuple[int, int, int] | None,
    replay: Replay | None = None,
    generator: torch.Generator | None = None,
    samples: int = 4096,
) -> SparseReward | DenseReward | ChangedCellsReward:
    """The reward a config describes; a negative threshold is calibrated on `replay`.

    Raises ValueError for an unknown kind, a missing grid shape, or calibration without replay and generator.
    """

    def threshold(probe: Reward) -> float:
        if replay is None or generator is None:
            raise ValueError(f"reward {config.kind}: calibrating its threshold needs a replay and a generator")
        return calibrate_epsilon(lag_distances(replay, probe, config.lag, samples, generator), config.quantile)

    if config.kind == "dense":
        return DenseReward(config.scale)
    if config.kind == "sparse":
        return SparseReward(config.epsilon if config.epsilon >= 0 else threshold(SparseReward(0.0)))
    if config.kind == "changed_cells":
        if grid_shape is None:
            raise ValueError("reward changed_cells: the latent has no grid shape")
        probe = ChangedCellsReward(0, grid_shape, config.delta)
        tolerance = config.tolerance if config.tolerance >= 0 else round(threshold(probe))
        return ChangedCellsReward(tolerance, grid_shape, config.delta)
    raise ValueError(f"unknown reward {config.kind!r}: choose sparse, dense or changed_cells")
