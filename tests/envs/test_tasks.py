"""The task of bringing a puck to its place."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.arm_models import PUSH
from envs.copies import Copies
from envs.experts import PuckPusher
from envs.tasks import HOME, NEAR, PLACE, PuckToPlace


def test_it_is_a_gymnasium_environment() -> None:
    check_env(PuckToPlace(render_mode="rgb_array"))
    assert gymnasium.make("imagoal/PuckToPlace-v0").spec.max_episode_steps == 50  # type: ignore[union-attr]
    env = PuckToPlace(render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (48, 48, 3) and env.render().std() > 10
    with pytest.raises(ValueError, match="render_mode"):
        PuckToPlace("human")


def test_only_success_is_rewarded_and_ends_an_episode() -> None:
    expert, aim = PuckPusher(PUSH), np.concatenate([HOME, PLACE])[None]
    episodes, success = Copies("imagoal/PuckToPlace-v0", 5).run(lambda o, a, g: expert(o, a, aim.repeat(len(o), 0)), range(10))
    assert success[:, 0].all() and all(e.terminal for e in episodes)
    for e in episodes:
        there = (np.linalg.norm(e.observation[1:, 2:] - PLACE, axis=1) < NEAR) & (np.linalg.norm(e.observation[1:, :2] - HOME, axis=1) < NEAR)
        np.testing.assert_array_equal(e.reward, there - 1.0)
        assert there.sum() == 1 and there[-1]
