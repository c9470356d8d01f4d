"""The goal-env API: every registered environment, its invariants and its refusals."""

import gymnasium
import numpy as np
import pytest

import envs
from envs.simulation import SUCCESS_TOLERANCE
from envs.tabletop import TabletopBatch

IDS = sorted(name for name in gymnasium.registry if name.startswith("imagoal/Tabletop"))


def test_ids() -> None:
    assert IDS == ["imagoal/Tabletop-v0", "imagoal/Tabletop48-v0", "imagoal/Tabletop64-v0", "imagoal/Tabletop84-v0",
                   "imagoal/TabletopState-v0"]  # fmt: skip
    assert envs.ENTRY == "envs.tabletop:Tabletop"


@pytest.mark.parametrize("size", [48, 64, 84])
def test_image_sizes(size: int) -> None:
    env = gymnasium.make(f"imagoal/Tabletop{size}-v0")
    observation, _ = env.reset(seed=0)
    for key in ("observation", "achieved_goal", "desired_goal"):
        assert observation[key].shape == (size, size, 3) and observation[key].dtype == np.uint8
    goal = env.unwrapped.sample_goal_image()
    assert goal.shape == (size, size, 3) and goal.std() > 5  # a picture, not a blank


def test_a_reached_goal_is_rewarded() -> None:
    env = gymnasium.make("imagoal/Tabletop-v0", scene="train/0").unwrapped
    start = np.array([0.2, 0.2, 0.02, 0.97], np.float32)
    _, info = env.reset(seed=0, options={"start": start, "goal": start})
    assert info["is_success"]
    *_, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert reward == 0.0 and not terminated and not truncated  # reaching a goal does not end an episode


def test_goal_images_show_the_goal() -> None:
    env = gymnasium.make("imagoal/Tabletop-v0", scene="held_out/0").unwrapped
    observation, info = env.reset(seed=2)
    shown = env.world.picture(info["goal_state"][None])[0]
    assert np.array_equal(observation["desired_goal"], shown)
    assert not np.array_equal(observation["desired_goal"], observation["observation"])
    assert np.array_equal(env.world.images()[0], observation["observation"])  # looking at goals moves nothing


def test_goals_differ_from_starts_in_as_many_things_as_asked() -> None:
    for changes in (1, 2):
        world = TabletopBatch("train/3", 1)
        starts, goals = world.sample(range(30), changes)
        moved = np.abs(starts[:, 2:] - goals[:, 2:]) > SUCCESS_TOLERANCE
        assert (moved.sum(-1) == changes).all()
        assert not env_success(starts, goals).any()


def env_success(states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    from envs.tabletop import Tabletop

    return Tabletop.success(states, goals)


def test_success_ignores_the_hand_and_forgives_a_fifth() -> None:
    goal = np.array([0.1, 0.1, 0.0, 1.0])
    states = np.array([[-0.2, 0.0, 0.0, 1.0], [0.1, 0.1, 0.19, 1.0], [0.1, 0.1, 0.21, 1.0], [0.1, 0.1, 0.0, 0.7]])
    assert env_success(states, goal).tolist() == [True, True, False, False]


def test_time_limit_truncates() -> None:
    env = gymnasium.make("imagoal/TabletopState-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(False, True)]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments(mode: str) -> None:
    vector = gymnasium.make_vec("imagoal/Tabletop-v0", num_envs=2, vectorization_mode=mode)
    single = gymnasium.make("imagoal/Tabletop-v0")
    try:
        observation, _ = vector.reset(seed=[4, 5])
        alone, _ = single.reset(seed=5)
        assert np.array_equal(observation["observation"][1], alone["observation"])
        actions = np.array([[0.5, -1.0], [1.0, 0.3]], np.float32)
        for _ in range(5):
            observation, reward, *_ = vector.step(actions)
            alone, lone_reward, *_ = single.step(actions[1])
        assert np.array_equal(observation["observation"][1], alone["observation"]) and reward[1] == lone_reward
        assert observation["desired_goal"].shape == (2, 48, 48, 3)
    finally:
        vector.close()


def test_batch_steps_like_single_environments() -> None:
    batch = TabletopBatch("train/2", 3)
    starts, goals = batch.sample([0, 1, 2])
    batch.reset(starts)
    actions = np.random.default_rng(0).uniform(-1, 1, (8, 3, 2)).astype(np.float32)
    for action in actions:
        batch.step(action)
    for i in range(3):
        env = gymnasium.make("imagoal/Tabletop-v0", scene="train/2").unwrapped
        env.reset(seed=0, options={"start": starts[i], "goal": goals[i]})
        for action in actions:
            observation, *_ = env.step(action[i])
        assert np.array_equal(env.state, batch.states()[i])
        assert np.array_equal(observation["observation"], batch.images()[i])
        assert np.array_equal(observation["proprio"], batch.proprio()[i])


def test_proprio_is_the_hand_within_its_space() -> None:
    env = gymnasium.make("imagoal/Tabletop-v0")
    env.reset(seed=0)
    for _ in range(20):
        observation, *_ = env.step(np.ones(2, np.float32))  # against the table's corner
    assert observation["proprio"] in env.observation_space["proprio"] and observation["proprio"].max() > 0.8


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"image_size": 50}, "image_size must be one of"),
        ({"observe": "latent"}, "observe must be 'image' or 'state'"),
        ({"scene": "heldout/3"}, "did you mean held_out/0"),
        ({"scene": "nowhere"}, "unknown scene"),
        ({"changes": 3}, "changes must be between 1 and 2"),
        ({"kinds": ("block", "robot")}, "at least two different kinds"),
        ({"kinds": ("block",)}, "at least two different kinds"),
        ({"scenes": 0}, "scenes >= 1"),
    ],
)
def test_bad_arguments(arguments: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        gymnasium.make("imagoal/Tabletop-v0", **arguments)


def test_bad_use() -> None:
    env = gymnasium.make("imagoal/TabletopState-v0").unwrapped
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(2))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action must be 2 finite numbers"):
        env.step(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="action must be 2"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="goal must be 4 finite numbers"):
        env.reset(options={"goal": np.zeros(3)})


def test_a_path_is_followed_from_elsewhere():
    """A path that a hand went is gone by another that begins elsewhere: it ends where the first did; by the actions alone it does not."""
    world = TabletopBatch("train/0", 1)
    rng = np.random.default_rng(0)
    first, other = world.starts([0])[0], world.starts([0])[0]
    other[:2] = first[:2] + np.array([0.08, -0.08])
    actions = np.repeat(rng.uniform(-0.5, 0.5, (3, 1, 2)), 5, 0).astype(np.float32)
    world.reset(first[None])
    path = [world.proprio()]
    for action in actions:
        world.step(action)
        path.append(world.proprio())
    apart = {}
    for along in (True, False):
        world.reset(other[None])
        for place, action in zip(path, actions, strict=False):
            world.step(world.follow(world.proprio(), place, action) if along else action)
        apart[along] = float(np.abs(world.proprio() - path[-1]).max())
    assert apart[True] < 0.03 < apart[False]
