"""The scenes of RIG and CC-RIG on the goal-env API: every registered environment, its invariants and its refusals."""

import gymnasium
import numpy as np
import pytest

import envs
from envs.worlds import FAMILIES, make_world

IMAGE_IDS = [f"imagoal/{name}-v0" for name in envs.VISUAL]
STATE_IDS = [f"imagoal/{name}State-v0" for name in envs.VISUAL]


def test_every_family_has_its_ids() -> None:
    assert sorted(world for world, _ in envs.VISUAL.values()) == sorted(FAMILIES)
    for world, limit in envs.VISUAL.values():
        assert make_world(world, 1).horizon == limit
    assert set(IMAGE_IDS + STATE_IDS) <= set(gymnasium.registry)


@pytest.mark.parametrize("name", IMAGE_IDS)
def test_pictures_are_the_states(name: str) -> None:
    env = gymnasium.make(name).unwrapped
    observation, info = env.reset(seed=2)
    assert np.array_equal(observation["desired_goal"], env.world.picture(info["goal_state"][None])[0])
    assert np.array_equal(observation["observation"], env.world.picture(info["state"][None])[0])
    assert not np.array_equal(observation["desired_goal"], observation["observation"])
    fresh = env.sample_goal_image()
    assert fresh.shape == (48, 48, 3) and fresh.std() > 5 and not np.array_equal(fresh, observation["desired_goal"])
    assert np.array_equal(env.render(), observation["observation"])  # looking at goals moves nothing


@pytest.mark.parametrize("name", STATE_IDS)
def test_a_reached_goal_is_rewarded_and_ends_nothing(name: str) -> None:
    env = gymnasium.make(name)
    _, info = env.reset(seed=0)
    state = info["state"]
    _, info = env.reset(seed=0, options={"start": state, "goal": state})
    assert info["is_success"]
    limit = env.spec.max_episode_steps
    ends = [env.step(np.zeros(2, np.float32))[1:4] for _ in range(limit)]
    assert ends == [(0.0, False, False)] * (limit - 1) + [(0.0, False, True)]


def test_an_environment_steps_like_a_batch() -> None:
    world = make_world("navigation", 3)
    starts, goals = world.sample([0, 1, 2])
    world.reset(starts)
    actions = np.random.default_rng(0).uniform(-1, 1, (8, 3, 2)).astype(np.float32)
    for action in actions:
        world.step(action)
    env = gymnasium.make("imagoal/PointNavigation-v0").unwrapped
    for i in range(3):
        env.reset(seed=0, options={"start": starts[i], "goal": goals[i]})
        for action in actions:
            observation, *_ = env.step(action[i])
        assert np.array_equal(env.state, world.states()[i])
        assert np.array_equal(observation["observation"], world.images()[i])


def test_vector_environments_and_sizes() -> None:
    vector = gymnasium.make_vec("imagoal/MultiColorPusher-v0", num_envs=2, vectorization_mode="async", image_size=64)
    try:
        observation, _ = vector.reset(seed=[4, 5])
        alone, _ = gymnasium.make("imagoal/MultiColorPusher-v0", image_size=64).reset(seed=5)
        assert np.array_equal(observation["observation"][1], alone["observation"])
        assert observation["desired_goal"].shape == (2, 64, 64, 3)
    finally:
        vector.close()


def test_options_of_the_family_pass_through() -> None:
    env = gymnasium.make("imagoal/VisualMultiObjectPusherState-v0", objects=1)
    observation, _ = env.reset(seed=0)
    assert observation["observation"][-2:].sum() == 1


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("VisualPusher", {"image_size": 50}, "image_size must be one of"),
        ("VisualPusher", {"observe": "latent"}, "observe must be 'image' or 'state'"),
        ("VisualPusher", {"world": "pushers"}, "did you mean 'pusher'"),
        ("VisualPusher", {"objects": 2}, "knows no option 'objects'"),
        ("VisualMultiObjectPusher", {"objects": 5}, "objects must be between 0 and 2"),
        ("PointNavigation", {"layouts": (99,)}, "layouts must be numbers"),
    ],
)
def test_bad_arguments(name: str, arguments: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        gymnasium.make(f"imagoal/{name}-v0", **arguments)


def test_bad_use() -> None:
    env = gymnasium.make("imagoal/MultiColorPusherState-v0").unwrapped
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(2))
    _, info = env.reset(seed=0)
    for action in (np.array([0.0, np.nan]), np.zeros(3)):
        with pytest.raises(ValueError, match="action must be 2 finite numbers"):
            env.step(action)
    with pytest.raises(ValueError, match="goal must be 7 finite numbers"):
        env.reset(options={"goal": np.zeros(3)})
    with pytest.raises(ValueError, match="a goal needs a start beside it"):
        env.reset(options={"goal": info["goal_state"]})
    other = info["goal_state"].copy()
    other[-1] = 1 - other[-1]
    with pytest.raises(ValueError, match="the last 3 numbers of start and goal, the scene, must be equal"):
        env.reset(options={"start": info["state"], "goal": other})
    pusher = gymnasium.make("imagoal/VisualPusherState-v0").unwrapped
    _, info = pusher.reset(seed=0, options={"goal": np.array([0, 0.6, 0.1, 0.6])})
    assert np.allclose(info["goal_state"], [0, 0.6, 0.1, 0.6])
