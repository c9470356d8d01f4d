"""Data for point mazes: the pilot finds its way, and its trips are short."""

import numpy as np
import pytest

from envs.copies import Copies
from envs.mazes import Pilot, short_trips

pytest.importorskip("gymnasium_robotics")


@pytest.fixture(scope="module")
def copies():
    import gymnasium
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    return Copies("PointMaze_Medium-v3", 10)


def test_steps_are_those_of_the_shortest_way(copies):
    pilot = Pilot(copies.first.unwrapped.maze)
    assert len(pilot.free) == 26
    for goal, steps in pilot.steps.items():
        assert steps[goal] == 0 and set(steps) == pilot.free  # every cell is reached
        for cell, n in steps.items():
            near = [steps[c] for c in pilot._near(cell)]
            assert n == 0 or min(near) == n - 1
            assert max(near) <= n + 1


def test_the_pilot_crosses_the_maze(copies):
    _, success = copies.run(Pilot(copies.first.unwrapped.maze, noise=0.3), range(10), 300)
    assert success[:, 1].mean() == 1.0


def test_trips_are_short_and_their_goals_are_theirs(copies):
    episodes = short_trips(copies, trips=20, cells=3, horizon=80, noise=0.5, seed=0)
    pilot = Pilot(copies.first.unwrapped.maze)
    cells = [(pilot.cell(e.achieved[0]), pilot.cell(e.goal)) for e in episodes]
    far = [pilot.steps[b][a] for a, b in cells]
    assert len(episodes) == 20 and max(far) == 3 and min(far) >= 1 and len(set(cells)) > 15
    assert all(e.observation.shape == (81, 4) and np.array_equal(e.observation[:, :2], e.achieved) for e in episodes)
    assert np.mean([np.linalg.norm(e.achieved - e.goal, axis=1).min() < 0.45 for e in episodes]) > 0.9
    with pytest.raises(ValueError, match="has no maze"):
        short_trips(Copies("Pendulum-v1", 1), 1, 3, 10, 0.0, 0)
