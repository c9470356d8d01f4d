"""What every registered environment keeps: Gymnasium's own check, seeds, and rewards by ground truth."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401

IDS = sorted(name for name in gymnasium.registry if name.startswith("imagoal/") and name != "imagoal/PuckToPlace-v0")  # which has no goals


def steps(env: gymnasium.Env, seed: int, n: int = 12) -> list:
    """Observations, rewards and infos of n random steps."""
    env.action_space.seed(seed)
    observation, info = env.reset(seed=seed)
    out = [(observation, 0.0, info)]
    for _ in range(n):
        observation, reward, _, _, info = env.step(env.action_space.sample())
        out.append((observation, reward, info))
    return out


@pytest.mark.parametrize("name", IDS)
@pytest.mark.filterwarnings("ignore:.*WARN.*")
def test_check_env(name: str) -> None:
    check_env(gymnasium.make(name, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("name", IDS)
def test_a_seed_decides_everything(name: str) -> None:
    used = gymnasium.make(name)
    steps(used, seed=8)
    first, again, other = steps(gymnasium.make(name), 3), steps(used, 3), steps(gymnasium.make(name), 4)
    for (a, ra, ia), (b, rb, ib) in zip(first, again, strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a) and ra == rb
        assert np.array_equal(ia["state"], ib["state"]) and np.array_equal(ia["goal_state"], ib["goal_state"])
    assert not np.array_equal(first[0][2]["state"], other[0][2]["state"])


@pytest.mark.parametrize("name", IDS)
def test_reward_is_compute_reward(name: str) -> None:
    env = gymnasium.make(name).unwrapped
    trail = steps(env, seed=5)[1:]
    for observation, reward, info in trail:
        assert observation in env.observation_space
        again = env.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)
        assert reward == again and reward in (-1.0, 0.0)
        assert info["is_success"] == (reward == 0.0) == bool(env.success(info["state"], info["goal_state"]))
    achieved, desired = (np.stack([o[key] for o, _, _ in trail]) for key in ("achieved_goal", "desired_goal"))
    together = env.compute_reward(achieved, desired, [info for *_, info in trail])
    assert np.array_equal(together, [reward for _, reward, _ in trail])
