"""Intervals for small numbers of seeds and episodes. Every number a report prints comes with one of these.

Honest about small samples: a percentile bootstrap of three seeds never leaves their range, which is too narrow;
`t_interval` is the one to quote for few seeds, `success_interval` for a fraction of episodes, `iqm_interval` for several tasks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import trim_mean

Z95 = 1.959964
# Student's t, two-sided 95%, for 1..30 degrees of freedom.
T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Interval(NamedTuple):
    """A 95% interval; both ends have the shape of one value (numbers, or curves of length T)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def success_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a success probability, within [0, 1] (Wilson 1927).

    Nothing seen (n = 0) gives (0, 1). Raises ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n, got {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    high = 1.0 if successes == n else min(1.0, float(centre + half))
    return low, high


def bootstrap_ci(values: ArrayLike, seed: int = 0, resamples: int = 2000) -> Interval:
    """Percentile bootstrap 95% interval of the mean over the first axis of `values` (S,) or (S, ...).

    Whole rows are resampled, so a curve per seed stays one curve. Raises ValueError for an empty sample.
    """
    data = _sample(values)
    rows = np.random.default_rng(seed).integers(len(data), size=(resamples, len(data)))
    weights = np.zeros((resamples, len(data)))
    np.add.at(weights, (np.arange(resamples)[:, None], rows), 1.0 / len(data))
    means = np.tensordot(weights, data, axes=1)  # (resamples, ...)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return Interval(low, high)


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: of the middle half of all values (Agarwal et al. 2021). Raises ValueError for an empty sample."""
    return float(trim_mean(_sample(scores), 0.25, axis=None))


def iqm_interval(scores: ArrayLike, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """Percentile bootstrap 95% interval of the interquartile mean of scores (S seeds, T tasks), seeds being resampled within each task
    (Agarwal et al. 2021). Raises ValueError for another shape."""
    data = _sample(scores)
    if data.ndim != 2:
        raise ValueError(f"scores must be (seeds, tasks), not {data.shape}")
    rows = np.random.default_rng(seed).integers(len(data), size=(resamples, *data.shape))
    drawn = np.take_along_axis(data[None], rows, 1).reshape(resamples, -1)
    low, high = np.percentile(trim_mean(drawn, 0.25, axis=1), [2.5, 97.5])
    return float(low), float(high)


def t_interval(values: ArrayLike) -> Interval:
    """Student's t 95% interval of the mean over the first axis of `values` (S,) or (S, ...).

    One value alone has no spread to judge: both ends are the value. Raises ValueError for an empty sample.
    """
    data = _sample(values)
    mean = data.mean(0)
    if len(data) == 1:
        return Interval(mean, mean)
    quantile = T95[len(data) - 2] if len(data) - 1 <= len(T95) else Z95
    half = quantile * data.std(0, ddof=1) / np.sqrt(len(data))
    return Interval(mean - half, mean + half)


def _sample(values: ArrayLike) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim == 0 or len(data) == 0:
        raise ValueError("an interval needs at least one value")
    return data
