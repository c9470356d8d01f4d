"""The stochastic maze: its table is right, and implicit Q-learning finds near the best values where one step of improvement does not."""

import numpy as np
import pytest

from imagoal.experiments.umaze import GAMMA, PRIZE, RANDOM, Umaze, judged, train


def test_values_solve_bellmans_equations():
    maze = Umaze()
    n = len(maze.cells)
    assert n == 17 and PRIZE == 10 and maze.next[maze.start].tolist() == [maze.start, maze.start, maze.start, 1]
    move = np.random.default_rng(0).integers(4, size=n)
    leads = np.full((n, n), RANDOM / n)
    leads[np.arange(n), maze.next[np.arange(n), move]] += 1 - RANDOM
    leads[maze.goal] = 0
    reward, onward = PRIZE * leads[:, maze.goal], leads.copy()
    onward[:, maze.goal] = 0
    exact = np.linalg.solve(np.eye(n) - GAMMA * onward, reward)
    np.testing.assert_allclose(maze.fixed_point(np.eye(4)[move]), exact, atol=1e-8)
    best = maze.fixed_point()
    assert (best >= exact - 1e-9).all() and best[maze.goal] == 0
    np.testing.assert_allclose(maze.q(best).max(1), best, atol=1e-8)


def test_the_data_are_one_optimal_and_99_random_trajectories():
    maze = Umaze()
    replay = maze.data(0)
    assert replay.episodes == 100 and replay.episode_end[0] - replay.episode_start[0] == 17  # 16 moves around the U
    rewarded = replay.reward.nonzero()[:, 0]
    assert (replay.reward[rewarded] == 10).all() and (replay.terminal[rewarded] == 1).all() and len(rewarded) == int(replay.terminal.sum())
    assert set(map(tuple, replay.action[replay.transition[: len(replay)].long()].tolist())) == {(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)}


@pytest.mark.slow
def test_iql_is_near_the_optimum_where_one_step_decays():
    maze = Umaze()
    best, replay = maze.fixed_point(), maze.data(0)
    values, earned = {}, {}
    for name, settings in (("iql", {"expectile": 0.95}), ("one_step", {})):
        values[name], policy = judged(train(name, settings, replay, 0, updates=1000), maze)
        earned[name] = maze.fixed_point(policy)[maze.start]
    error = {name: np.abs(v - best)[np.arange(len(best)) != maze.goal].mean() for name, v in values.items()}
    assert error["iql"] < 0.6 * error["one_step"], error
    assert values["one_step"][maze.start] < 0.65 * best[maze.start] < 0.8 * best[maze.start] < values["iql"][maze.start] < 1.4 * best[maze.start], values
    assert earned["iql"] > 0.9 * best[maze.start] and earned["iql"] > earned["one_step"], earned
