"""Offline data of numbers, and copies of environments that make it."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.copies import Copies
from envs.offline import (
    Episode,
    append_numbers,
    checked_spaces,
    open_minari,
    read_numbers,
    scale_actions,
    stack,
    unscale_actions,
    with_rewards,
)


def random_act(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return lambda observation, achieved, goal: rng.uniform(-1, 1, (len(observation), 2 if goal.shape[1] else 1))


@pytest.mark.parametrize(("env", "goals", "actions"), [("Pendulum-v1", 0, 1), ("imagoal/VisualReacherState-v0", 2, 2)])
def test_what_is_written_is_read_again_and_can_be_added_to(tmp_path: Path, env: str, goals: int, actions: int) -> None:
    copies = Copies(env, 3)
    episodes, success = copies.run(random_act(), range(5), 12)
    assert (copies.goal_dim, copies.action_dim, len(episodes), success.shape) == (goals, actions, 5, (5, 2))
    assert np.isnan(success).all() == (goals == 0)
    append_numbers(tmp_path / "data", episodes[:2], copies.first)
    dataset = append_numbers(tmp_path / "data", episodes[2:], copies.first)
    assert (dataset.total_episodes, dataset.total_steps) == (5, 60) and dataset.env_spec.id == env
    found, made = read_numbers(open_minari(tmp_path / "data")), stack(episodes)
    for name in ("observation", "achieved", "goal", "reward", "start", "end", "terminal"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name), err_msg=name)
    np.testing.assert_allclose(found.action, made.action, atol=1e-6)  # through the environment's own bounds
    assert found.transitions == 60 and not found.action[found.end - 1].any()
    np.testing.assert_allclose(found.returns, [e.reward.sum() for e in episodes], rtol=1e-5)
    again = [e.observation for e in found.episodes()]
    assert all(np.array_equal(a, e.observation) for a, e in zip(again, episodes, strict=True))


def test_episodes_run_side_by_side_are_those_run_alone() -> None:
    def act(observation: np.ndarray, achieved: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.sin(3 * observation[:, :1])

    together, _ = Copies("InvertedPendulum-v5", 4).run(act, range(4))
    alone, _ = Copies("InvertedPendulum-v5", 1).run(act, range(4))
    lengths = [len(e.action) for e in together]
    assert len(set(lengths)) > 1 and all(e.terminal for e in together)  # they fall at different times
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.observation, b.observation)
        np.testing.assert_array_equal(a.reward, b.reward)


def test_a_terminal_and_a_time_limit_are_told_apart(tmp_path: Path) -> None:
    copies = Copies("InvertedPendulum-v5", 1)
    episodes, _ = copies.run(lambda o, a, g: np.ones((1, 1)), [0, 1])
    cut, _ = copies.run(lambda o, a, g: np.ones((1, 1)), [0], 2)
    found = read_numbers(append_numbers(tmp_path / "d", [*episodes, *cut], copies.first))
    assert found.terminal.tolist() == [True, True, False]


class Wandering(gymnasium.Env[Any, Any]):
    """A goal that changes in the middle of an episode."""

    observation_space = spaces.Dict({k: spaces.Box(-100, 100, (1,), np.float32) for k in ("observation", "achieved_goal", "desired_goal")})
    action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)


def test_a_goal_that_changes_begins_a_new_episode(tmp_path: Path) -> None:
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    place, goal = np.arange(7, dtype=np.float32)[:, None], np.array([5, 5, 5, 9, 9, 9, 9], np.float32)[:, None]
    env = Wandering()
    storage = MinariStorage.new(tmp_path, env.observation_space, env.action_space)
    storage.update_metadata({"dataset_id": "a/b-v0", "minari_version": minari.__version__})
    storage.update_episodes([EpisodeBuffer(
        observations={"observation": place, "achieved_goal": place, "desired_goal": goal}, actions=np.full((6, 1), 2.0, np.float32),
        rewards=list(range(6)), terminations=[False] * 5 + [True], truncations=[False] * 6,
    )])  # fmt: skip
    found = read_numbers(open_minari(tmp_path))
    assert found.goal.ravel().tolist() == [5, 9] and found.terminal.tolist() == [False, True]
    assert [e.observation.ravel().tolist() for e in found.episodes()] == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert [e.reward.tolist() for e in found.episodes()] == [[0, 1, 2], [3, 4, 5]]
    assert (found.action[:3] == 1).all()


def test_actions_are_scaled_both_ways_and_refused_outside() -> None:
    space = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
    np.testing.assert_allclose(scale_actions(np.array([[-2, 0.5], [1, 1.0]]), space), [[-1, 0], [0.5, 1]])
    np.testing.assert_allclose(unscale_actions(np.array([[-1, 0], [0.5, 1]]), space), [[-2, 0.5], [1, 1]])
    with pytest.raises(ValueError, match="2 of 3 actions lie outside the bounds of their space, by up to 1"):
        scale_actions(np.array([[3.0, 0.5], [0.0, 0.5], [0.0, 1.1]]), space)


def one(reward: float = 0.0, observation: float = 0.0) -> Episode:
    empty = np.zeros((3, 0), np.float32)
    return Episode(np.full((3, 3), observation, np.float32), empty, empty[0], np.zeros((2, 1), np.float32), np.array([0, reward], np.float32), False)


@pytest.mark.parametrize(("episode", "what"), [(one(reward=np.nan), "rewards"), (one(observation=np.inf), "observations")])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, episode: Episode, what: str) -> None:
    dataset = append_numbers(tmp_path / "d", [episode], Copies("Pendulum-v1", 1).first)
    with pytest.raises(ValueError, match=f"of its {what} are not finite"):
        read_numbers(dataset)


def test_rewards_are_made_anew_by_a_function_of_the_state() -> None:
    copies = Copies("Pendulum-v1", 2)
    data = stack(copies.run(random_act(), range(3), 7)[0])
    changed = with_rewards(data, lambda o, a, after: after[:, 0] - o[:, 0], scale=2.0, shift=1.0)
    for e in changed.episodes():
        np.testing.assert_allclose(e.reward, 2 * np.diff(e.observation[:, 0]) + 1, rtol=1e-5)
    assert not changed.reward[changed.end - 1].any()
    with pytest.raises(ValueError, match="there are 21 transitions"):
        with_rewards(data, lambda o, a, after: np.zeros(3))
    with pytest.raises(ValueError, match="21 of 21 rewards are not finite"):
        with_rewards(data, lambda o, a, after: np.full(len(o), np.nan))


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    box = spaces.Box(-1.0, 1.0, (2,))
    with pytest.raises(ValueError, match="actions must be vectors"):
        checked_spaces(box, spaces.Discrete(2))
    with pytest.raises(ValueError, match="need finite bounds"):
        checked_spaces(box, spaces.Box(-np.inf, np.inf, (2,)))
    with pytest.raises(ValueError, match="for pictures give a model="):
        checked_spaces(spaces.Box(0, 255, (8, 8, 3), np.uint8), box)
    with pytest.raises(ValueError, match=r"needs observation, achieved_goal, desired_goal; this one has x"):
        checked_spaces(spaces.Dict({"x": box}), box)
    with pytest.raises(ValueError, match="neither the folder of a Minari dataset nor the id"):
        open_minari(tmp_path / "nothing")
    with pytest.raises(ValueError, match="there are no episodes"):
        stack([])
    with pytest.raises(ValueError, match="cannot be made"):
        Copies("Nothing-v0", 1)
    with pytest.raises(ValueError, match="at least 1 copy"):
        Copies("Pendulum-v1", 0)
    append_numbers(tmp_path / "d", [one()], Copies("Pendulum-v1", 1).first)
    with pytest.raises(ValueError, match="holds data of other observations or actions"):
        append_numbers(tmp_path / "d", [one()], Copies("InvertedPendulum-v5", 1).first)


def test_the_goal_apis_own_reward() -> None:
    copies = Copies("imagoal/VisualReacherState-v0", 1)
    goal = np.array([[0.0, 0.6], [0.0, 0.6]], np.float32)
    assert copies.rewards(goal + np.array([[0.0, 0.0], [0.1, 0.0]]), goal).tolist() == [0.0, -1.0]
    with pytest.raises(ValueError, match="has no compute_reward"):
        Copies("Pendulum-v1", 1).rewards(goal, goal)
