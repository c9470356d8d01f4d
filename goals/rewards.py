"""Rewards in latent space, judged on the next state and always recomputed after relabeling.

A reward is a callable (next_latent (B, z), goal (B, z)) -> (B,) with a `distance` of the same shape; those with a notion of
success also have `reached` -> bool (B,). Sparse rewards are success - 1: 0 when reached, -1 otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
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


NARROW, MANY = 12, 4096  # numbers of a state and rows, up to which and from which one pass for difference and length is faster on the CPU than two
WIDE = 256  # numbers, from which a look at the first fifth of them pays
MARGIN = 1.001  # of the threshold: far beyond what rounding adds to or takes from a distance
BLIND = 31  # calls without a look, after one that settled little


def euclidean(a: Float[Tensor, "B z"], b: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
    """||a - b||_2 of every row. (The two ways agree to the bit on what they were compared on.)"""
    if a.shape[1] <= NARROW and len(a) >= MANY and a.device.type == "cpu":
        return torch.cdist(a[:, None], b[:, None])[:, 0, 0]
    return torch.linalg.vector_norm(a - b, dim=1)


class SparseReward:
    """0 where ||z' - g||_2 <= epsilon, else -1 (VAL; errata, Rewards).

    Most goals are far, and the first fifth of many numbers shows it: on the CPU only what that leaves open is compared in full, with
    the same result. Where it leaves much open, as with states that differ in little, the next calls do not look. (On a GPU what is left could not be counted without waiting.)
    """

    def __init__(self, epsilon: float):
        self.epsilon = epsilon
        self._blind = 0  # calls until the next look

    def distance(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """Euclidean latent distance."""
        return euclidean(next_latent, goal)

    def reached(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Bool[Tensor, " B"]:
        """Whether the next latent lies within epsilon of the goal."""
        return self(next_latent, goal) == 0

    def __call__(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        size, z = goal.shape
        if z < WIDE or goal.device.type != "cpu" or self._blind:
            self._blind = max(0, self._blind - 1)
            return self._judged(next_latent, goal)
        look = z // 5
        open_ = (euclidean(next_latent[:, :look], goal[:, :look]) <= self.epsilon * MARGIN).nonzero()[:, 0]
        if len(open_) > size // 4:
            self._blind = BLIND
            return self._judged(next_latent, goal)
        reward = torch.full((size,), -1.0)
        if len(open_):
            reward[open_] = self._judged(next_latent.index_select(0, open_), goal.index_select(0, open_))
        return reward

    def _judged(self, next_latent: Tensor, goal: Tensor) -> Tensor:
        distance = self.distance(next_latent, goal)
        return torch.le(distance, self.epsilon, out=torch.empty_like(distance, dtype=torch.float32)).sub_(1.0)


class DenseReward:
    """-scale * ||z' - g||_2 (RIG, eq. 3). It has no notion of success."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def distance(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """Euclidean latent distance."""
        return euclidean(next_latent, goal)

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


class MahalanobisReward:
    """-scale * ||z' - g||_A = -scale * sqrt(sum_i a_i (z'_i - g_i)^2) (RIG, eq. 3). It has no notion of success.

    A is one diagonal for all goals, since a relabeled or imagined goal has no posterior of its own: the encoder's mean precision
    (`mean_precision`), which is RIG's "log probability", or the data's inverse variance (`inverse_variance`).
    Args: precision (z,), finite and >= 0. Raises ValueError otherwise.
    """

    def __init__(self, precision: Tensor, scale: float = 1.0):
        if precision.ndim != 1 or not bool((torch.isfinite(precision) & (precision >= 0)).all()):
            raise ValueError(
                f"the precision must be a vector of finite numbers >= 0, got shape {tuple(precision.shape)}"
            )
        self.root, self.scale = precision.detach().float().sqrt(), scale

    def distance(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """Mahalanobis distance, in standard deviations."""
        return torch.linalg.vector_norm((next_latent - goal).mul_(self.root), dim=1)

    def __call__(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        return -self.scale * self.distance(next_latent, goal)


class LogProbReward(MahalanobisReward):
    """-scale * ||z' - g||_A^2 / 2: log q(g | s') itself, less its constant, where A is the encoder's precision (RIG, sec. 2.4.2)."""

    def __call__(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        return -0.5 * self.scale * self.distance(next_latent, goal).square()


def mean_precision(log_var: Float[Tensor, "N z"]) -> Float[Tensor, " z"]:
    """Mean of exp(-log variance) over the posteriors of N states, as the `posterior` of a variational model gives them."""
    return (-log_var.detach()).exp().mean(0)


def inverse_variance(latents: Float[Tensor, "N z"], floor: float = 1e-6) -> Float[Tensor, " z"]:
    """1 / variance of each dimension over N >= 2 latents (variance >= floor): the distance in the data's own spread."""
    return 1.0 / latents.var(0).clamp(min=floor)


class PixelReward:
    """-scale * mean squared difference of the pictures, intensities in [0, 1] (RIG's HER baseline). It has no notion of success.

    Args: decode: (latents (B, z)) -> pictures (B, ...), for latents; None where the stored states are pictures themselves.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor] | None = None, scale: float = 1.0):
        self.decode, self.scale = decode, scale

    @torch.no_grad()
    def distance(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """Mean over pixels and colours of the squared difference."""
        if self.decode is not None:
            next_latent, goal = self.decode(torch.cat([next_latent, goal])).flatten(1).chunk(2)
        return (next_latent - goal).square_().mean(1)

    def __call__(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        return -self.scale * self.distance(next_latent, goal)


class EnvironmentReward:
    """What a goal environment's own `compute_reward` says of achieved goals. It has no notion of success.

    Args: compute: (achieved goals (B, z), goals (B, z)) -> rewards (B,), NumPy on the CPU.
    """

    def __init__(self, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]):
        self.compute = compute

    def distance(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        """Euclidean distance of the goals."""
        return euclidean(next_latent, goal)

    def __call__(self, next_latent: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
        found = torch.from_numpy(np.asarray(self.compute(next_latent.cpu().numpy(), goal.cpu().numpy()), np.float32))
        return found.to(goal.device)


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
    """sparse | dense | mahalanobis | log_prob | pixel | changed_cells; for data of numbers also environment (its compute_reward) | stored (the data's own)"""
    epsilon: float = -1.0
    """threshold of `sparse` in latent units; negative: calibrate"""
    tolerance: int = -1
    """threshold of `changed_cells` in cells; negative: calibrate"""
    delta: float = 1e-3
    """a cell has changed when its code vectors lie more than this apart"""
    scale: float = 1.0
    """of `dense`, `mahalanobis`, `log_prob` and `pixel`"""
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
    precision: Tensor | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    pictures: bool = False,
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> SparseReward | DenseReward | ChangedCellsReward | MahalanobisReward | PixelReward | EnvironmentReward:
    """The reward a config describes; a negative threshold, or a precision that is not given, is calibrated on `replay`.

    Args: precision (z,): of `mahalanobis` and `log_prob`, see `mean_precision`; by default `inverse_variance` of the replay's
    latents; decode: latents -> pictures, for `pixel`; pictures: the states are pictures, so that `pixel` decodes nothing; compute: of
    `environment`.
    Raises ValueError for an unknown kind, a missing grid shape or decoder, or calibration without replay and generator.
    """

    def threshold(probe: Reward) -> float:
        if replay is None or generator is None:
            raise ValueError(f"reward {config.kind}: calibrating its threshold needs a replay and a generator")
        return calibrate_epsilon(lag_distances(replay, probe, config.lag, samples, generator), config.quantile)

    if config.kind == "stored":
        raise ValueError("reward stored: these transitions have no rewards of their own")
    if config.kind == "environment":
        if compute is None:
            raise ValueError("reward environment: there is no environment whose compute_reward could be asked")
        return EnvironmentReward(compute)
    if config.kind == "dense":
        return DenseReward(config.scale)
    if config.kind == "sparse":
        return SparseReward(config.epsilon if config.epsilon >= 0 else threshold(SparseReward(0.0)))
    if config.kind in ("mahalanobis", "log_prob"):
        if precision is None and (replay is None or generator is None):
            raise ValueError(
                f"reward {config.kind}: give it a precision (z,), or a replay and a generator to calibrate one"
            )
        if precision is None:
            precision = inverse_variance(replay.latent(replay.rows_of_scene(None, samples, generator)))  # type: ignore[union-attr, arg-type]
        return (LogProbReward if config.kind == "log_prob" else MahalanobisReward)(precision, config.scale)
    if config.kind == "pixel":
        if (decode is None) != pictures:
            raise ValueError(
                "reward pixel: give it either the model's decoder, or pictures=True where states are pictures"
            )
        return PixelReward(decode, config.scale)
    if config.kind == "changed_cells":
        if grid_shape is None:
            raise ValueError("reward changed_cells: the latent has no grid shape")
        probe = ChangedCellsReward(0, grid_shape, config.delta)
        tolerance = config.tolerance if config.tolerance >= 0 else round(threshold(probe))
        return ChangedCellsReward(tolerance, grid_shape, config.delta)
    raise ValueError(
        f"unknown reward {config.kind!r}: choose sparse, dense, mahalanobis, log_prob, pixel, changed_cells, environment or stored"
    )
