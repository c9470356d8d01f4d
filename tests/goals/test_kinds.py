"""How much each outcome is practised, and transitions drawn by such weights."""

import pytest
import torch

from goals.kinds import DOUBT, FEW, WeightedRows, outcome_weights
from goals.relabel import HindsightSampler, Mixture
from goals.replay import Replay
from goals.rewards import SparseReward


def test_outcomes_count_by_kind_and_by_what_was_imagined():
    """Twenty changes along x of any length, two along y, one of nothing; imagined were three along y, one along -x, and one between x and z."""
    x, y, z = torch.eye(3)
    changes = torch.stack([*(0.1 * (i + 1) * x for i in range(20)), y, 5 * y, 0 * x])
    imagined = torch.stack([y, 2 * y, y + 0.3 * x, -x, x + 2 * z])
    weights = outcome_weights(changes, changes, imagined)
    assert weights[:20].tolist() == pytest.approx([1 / DOUBT / 20] * 20)  # nobody imagined that, and twenty are alike
    assert weights[20:22].tolist() == pytest.approx([4 / (3 + DOUBT) / FEW] * 2)  # three goals show it; as few as two are no kind of their own
    assert float(weights[22]) == pytest.approx(1 / DOUBT / FEW)


def test_what_could_be_tried_counts_by_what_is_practised():
    """Of x, y and z a hundred, twenty and none are practised, and all are imagined: the last counts as something of which there are few."""
    x, y, z = torch.eye(3)
    practised = torch.stack([*[x] * 100, *[y] * 20])
    weights = outcome_weights(torch.stack([x, y, z]), practised, torch.stack([x, y, z]))
    assert weights.tolist() == pytest.approx([2 / (1 + DOUBT) / n for n in (100, 20, FEW)])


def test_kinds_do_not_depend_on_how_many_are_compared_at_once():
    generator = torch.Generator().manual_seed(0)
    changes, imagined = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (2500, 30))
    own, goals = (v / v.norm(dim=1, keepdim=True) for v in (changes, imagined))
    alike, asked = (own @ own.T > 0.5).sum(1).clamp_min(FEW), (own @ goals.T > 0.7).sum(1)
    assert torch.allclose(outcome_weights(changes, changes, imagined), (asked + 1) / (asked + DOUBT) / alike.double())


def replay_of(*steps: int, capacity: int = 100) -> Replay:
    """Episodes of so many transitions, latents 100 * episode + step."""
    replay = Replay(capacity, 1, 0, 1)
    for e, n in enumerate(steps):
        replay.add_episode(100.0 * e + torch.arange(n + 1.0)[:, None], torch.zeros(n + 1, 0), torch.zeros(n, 1))
    return replay


def test_transitions_are_drawn_by_the_weight_of_their_episode():
    """Weights 3 and 1 for 2 and 4 transitions: 3, 3, 1, 1, 1, 1 of 10."""
    drawn = WeightedRows(replay_of(2, 4), torch.tensor([3.0, 1.0]))
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    rows, left = drawn.rows_at(u)
    assert torch.bincount(rows.long(), minlength=8).tolist() == [300, 300, 0, 100, 100, 100, 100, 0]  # the last rows have no action
    assert torch.allclose(left[:300], (torch.arange(300, dtype=torch.float64) + 0.5) / 300) and 0 <= float(left.min()) <= float(left.max()) < 1


def test_equal_weights_draw_what_the_replay_draws_and_old_episodes_may_have_dropped_out():
    replay = replay_of(4, 3, 5, 2, 6, capacity=16)
    assert replay.oldest > 0
    u = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, left = WeightedRows(replay, torch.ones(replay.episodes)).rows_at(u)
    expected, rest = replay.rows_at(u)
    assert torch.equal(rows, expected) and torch.allclose(left, rest, atol=1e-9)


def test_a_sampler_relabels_what_is_drawn_so():
    replay = replay_of(5, 5)
    sampler = HindsightSampler(replay, Mixture(future=1.0), SparseReward(0.1))
    sampler.drawn = WeightedRows(replay, torch.tensor([0.0, 1.0]))
    batch = sampler.sample(200, torch.Generator().manual_seed(0))
    assert bool((batch.obs >= 100).all()) and bool((batch.goal > batch.obs).all()) and len(batch.goal.unique()) == 5
    assert bool((sampler.snippets(50, 2, torch.Generator().manual_seed(0)).obs >= 100).all())


def test_weights_that_do_not_fit_are_refused():
    replay = replay_of(2, 4)
    with pytest.raises(ValueError, match="2 episodes, but weights of shape"):
        WeightedRows(replay, torch.ones(3))
    with pytest.raises(ValueError, match="no episode has a positive weight"):
        WeightedRows(replay, torch.zeros(2))
