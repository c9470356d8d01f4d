"""Intervals against published numbers, hand-worked ones, and their own coverage."""

import numpy as np
import pytest

from imagoal import stats


def test_wilson_interval_matches_published_numbers():
    assert stats.success_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=2e-4)  # Newcombe 1998, table I
    assert stats.success_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=2e-4)
    assert stats.success_interval(20, 20)[1] == 1.0 and stats.success_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="between"):
        stats.success_interval(3, 2)


def test_t_interval_by_hand_and_for_curves():
    low, high = stats.t_interval([1.0, 2.0, 3.0])
    half = 4.303 / np.sqrt(3)  # the standard deviation is 1
    assert (low, high) == pytest.approx((2 - half, 2 + half), abs=1e-3)
    curve = stats.t_interval([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(curve.low, [low, 5.0])
    assert stats.t_interval([4.0]) == (4.0, 4.0)
    with pytest.raises(ValueError, match="at least one"):
        stats.t_interval([])


def test_bootstrap_covers_repeats_and_keeps_curves_whole():
    rng = np.random.default_rng(0)
    hits = [
        low <= 0 <= high
        for low, high in (stats.bootstrap_ci(rng.normal(size=30), seed=i, resamples=500) for i in range(200))
    ]
    assert 0.88 < np.mean(hits) <= 0.99
    values = rng.normal(size=(10, 4))
    one, other = stats.bootstrap_ci(values, 1), stats.bootstrap_ci(values, 1)
    np.testing.assert_array_equal(one.low, other.low)
    np.testing.assert_allclose(stats.bootstrap_ci(values[:, 2], 1).low, one.low[2])
