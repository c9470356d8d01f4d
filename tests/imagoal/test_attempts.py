"""Which attempts are practised, and which of their steps."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from goals.relabel import HindsightSampler, Mixture
from goals.replay import Replay
from goals.rewards import SparseReward
from imagoal.jobs.practice import busy, store, updates
from imagoal.repeats import History
from imagoal.rollout import Rollout


def test_only_attempts_that_came_nearer_to_their_goal_are_practised():
    """Starts at 0, goals at 10; outcomes at 2, 4, 6, -6 and, of an attempt that was lost, 10: of the way 20, 40, 60, -60 and 100%."""
    ends = torch.tensor([2.0, 4.0, 6.0, -6.0, 10.0])
    codes = torch.stack([torch.zeros(5), torch.full((5,), 10.0), ends], 1)[..., None]  # passing the goal on the way does not count
    rollout = Rollout(codes, torch.zeros(5, 3, 0), torch.arange(5.0)[:, None, None].expand(5, 2, 1), np.zeros((5, 3, 1)), None)
    eyes = SimpleNamespace(latents=lambda c: c.float(), proprio=False, context_dim=0)
    for least, expected in ((-1.0, [0, 1, 2, 3]), (0.0, [0, 1, 2]), (0.4, [1, 2]), (1.0, [])):
        kept: list[int] = []
        gym: Any
        config: Any
        replay = SimpleNamespace(add_episode=lambda codes, proprio, action, goal, scene, kept=kept: kept.append(int(action[0, 0])))
        gym = SimpleNamespace(history=None, homing=0, policy=SimpleNamespace(eyes=eyes), reward=SparseReward(0.5), replay=replay)
        config = SimpleNamespace(least_progress=least, least_change=-1.0, idle=0)
        shares = store(config, gym, codes[:, 0], rollout, torch.full((5, 1), 10.0), np.array([False] * 4 + [True]))
        assert kept == expected
        assert shares == pytest.approx({"reached": 0.8} | ({"kept": len(expected) / 5} if least >= 0 else {}))


@pytest.mark.parametrize("planned", [False, True])
def test_attempts_that_did_something_else_are_practised_for_what_came_of_them(planned):
    """Starts at 0, goals at 10, a threshold of 2; outcomes at 4, -6, 1 and, of an attempt that was lost, -9: the first came nearer, the second did something else."""
    ends = torch.tensor([4.0, -6.0, 1.0, -9.0])
    codes = torch.stack([torch.zeros(4), torch.full((4,), 3.0), ends], 1)[..., None]
    rollout = Rollout(codes, torch.zeros(4, 3, 0), torch.arange(4.0)[:, None, None].expand(4, 2, 1), np.zeros((4, 3, 1)), None)
    found: dict[int, list[float]] = {}
    gym: Any
    config: Any

    def add(codes, proprio, action, goal, scene):
        found[int(action[0, 0])] = goal.flatten().tolist()

    policy = SimpleNamespace(eyes=SimpleNamespace(latents=lambda c: c.float(), proprio=False, context_dim=0), threshold=2.0)
    gym = SimpleNamespace(history=None, homing=0, policy=policy, reward=SparseReward(2.0), replay=SimpleNamespace(add_episode=add))
    config = SimpleNamespace(least_progress=0.2, least_change=1.5, idle=0)
    aims = torch.full((4, 2, 1), 7.0) if planned else None
    shares = store(config, gym, codes[:, 0], rollout, torch.full((4, 1), 10.0), np.array([False] * 3 + [True]), aims)
    assert found == ({0: [7.0, 7.0], 1: [-6.0, -6.0]} if planned else {0: [10.0], 1: [-6.0]})
    assert shares == {"reached": 0.0, "kept": 0.5}


def test_an_attempt_that_never_moved_is_not_kept():
    place = torch.stack([torch.zeros(5), torch.linspace(0, 1, 5)])[..., None]  # of the robot: one waits, one moves
    rollout = Rollout(torch.zeros(2, 5, 1), place, torch.arange(2.0)[:, None, None].expand(2, 4, 1), np.zeros((2, 5, 1)), None)
    kept: list[int] = []
    gym: Any
    config: Any
    replay = SimpleNamespace(add_episode=lambda codes, proprio, action, goal, scene: kept.append(int(action[0, 0])))
    gym = SimpleNamespace(history=None, homing=0, policy=SimpleNamespace(eyes=SimpleNamespace(latents=lambda c: c.float(), proprio=True, context_dim=0)), reward=SparseReward(0.5), replay=replay)
    config = SimpleNamespace(least_progress=0.0, least_change=-1.0, idle=2)
    assert store(config, gym, torch.zeros(2, 1), rollout, torch.full((2, 1), 10.0), np.zeros(2, bool)) == {"reached": 0.0, "kept": 0.5}
    assert kept == [1]


def test_waiting_is_not_practised():
    """Of a robot that moves by .1, waits 6 steps, moves again and waits: the steps of which 2 later it is elsewhere."""
    place = torch.tensor([0.0, 0.1, 0.2, 0.2, 0.22, 0.2, 0.18, 0.2, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])[:, None]
    assert busy(place, 0).tolist() == list(range(14))
    assert busy(place, 2).tolist() == [0, 1, 7, 8, 9]
    both = torch.cat([place, torch.linspace(0, 1.3, 14)[:, None]], 1)  # something else of it, a gripper, moves all the time
    assert busy(both, 2).tolist() == list(range(13))


@pytest.mark.parametrize("even", [False, True])
def test_even_practice_draws_transitions_by_kinds_of_outcome(monkeypatch, even):
    """Forty attempts changed the first number and eight the second, as goals did that were imagined: even, both are practised as much, else five times as much of the first."""
    replay, history = Replay(500, 2, 0, 1), History(2, 2, 0, 1, torch.device("cpu"))
    changes = torch.tensor([[1.0, 0.0]] * 40 + [[0.0, 1.0]] * 8)
    for change in changes:
        replay.add_episode(torch.stack([0 * change, 0.5 * change, change]), torch.zeros(3, 0), torch.zeros(2, 1))
    history.add(torch.eye(2), torch.zeros(48, 2), changes, torch.zeros(48, 2, 0), torch.zeros(48, 2, 1))
    practised = HindsightSampler(replay, Mixture(next=1.0, future=0.0), SparseReward(0.1))
    prior_data: Any = None
    gym: Any = SimpleNamespace(replay=replay, history=history, practised=practised, sampler=practised, prior_data=prior_data, policy=SimpleNamespace(agent=None))
    config: Any = SimpleNamespace(even=even, seed=0, parallel=1, updates_per_episode=1, batch_size=2000, precision="32")
    seen = []
    monkeypatch.setattr("imagoal.jobs.practice.learn", lambda agent, sampler, count, size, generator, precision: seen.append(sampler.sample(size, generator)) or {})
    updates(config, gym, 1, torch.device("cpu"))
    first, second = (seen[0].goal > 0).sum(0).tolist()
    assert first / second == pytest.approx(1.0 if even else 5.0, rel=0.2)
