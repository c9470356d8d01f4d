"""PTP's desk: scenes, the can and the lock, single tasks and their experts, target tasks, and the Gymnasium environment."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

pytest.importorskip("pybullet", reason="wheels exist up to Python 3.11")

from envs.collect import Plan, collect_episode
from envs.desk import Desk, DeskBatch
from envs.desk_experts import START
from envs.desk_scenes import HELD_OUT_SHAPES
from envs.desk_simulation import DRAWER, HIGH, LOW, OBJECT, TIP, TRAVEL, to_world
from envs.families import FAMILIES, SceneSettings, open_scene
from envs.ptp_scenes import RADIUS, sample_ptp
from envs.ptp_simulation import CAN, PTP_STATE, blocks
from envs.ptp_tasks import SINGLE, TARGETS, PTPExpert, clean, done, on_top, sample_start, success

NAME = "train/0"
REST = np.array([0, 0, 0, 0, -1.0])


@pytest.fixture(scope="module")
def world():
    world = DeskBatch(NAME, 2, kind="ptp_desk")
    yield world
    world.close()


def shown(world: DeskBatch, task: str, start: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Where an expert ends that does a task from there."""
    world.scratch.reset(start)
    world.demonstrate(world.scratch, task, np.random.default_rng(0), noise)
    return world.scratch.state()


# ---------------------------------------------------------------- scenes
def test_a_name_is_a_scene_and_the_splits_differ():
    assert sample_ptp("train/3") == sample_ptp("train/3") != sample_ptp("train/4")
    shapes = {split: {sample_ptp(f"{split}/{n}").desk.shape for n in range(100)} for split in ("train", "held_out")}
    assert not shapes["train"] & set(HELD_OUT_SHAPES) and shapes["held_out"] <= set(HELD_OUT_SHAPES)
    with pytest.raises(ValueError, match="did you mean held_out/0"):
        sample_ptp("heldout/0")


def test_drawers_are_turned_widely_and_everything_is_within_reach():
    scenes = [sample_ptp(f"train/{n}") for n in range(200)]
    yaws = np.array([s.drawer.yaw for s in scenes])
    assert yaws.min() < -1 and yaws.max() > 1 and {-1.0, 1.0} == set(np.sign([s.drawer.y for s in scenes]))
    for scene in scenes:
        places = np.array([*scene.can.places, to_world(scene.drawer, np.array([0.2, 0.0, 0.0]))[:2]])
        assert (places > LOW[:2] + 0.02).all() and (places < HIGH[:2] - 0.02).all()
        before, beside = np.zeros((2, PTP_STATE))
        before[CAN][:2], beside[CAN][:2] = scene.can.places
        assert blocks(scene, before) and not blocks(scene, beside)
        assert np.linalg.norm(scene.can.places[0] - scene.can.places[1]) > 0.1


# ---------------------------------------------------------------- physics
def test_what_follows_is_a_function_of_state_and_actions(world):
    start, actions = world.starts([1, 2]), np.random.default_rng(1).uniform(-1, 1, (40, 2, 5))
    ends = []
    for _ in range(2):
        world.reset(start)
        for action in actions:
            world.step(action)
        ends.append(world.states())
        world.reset(start[::-1])  # another past
        world.step(actions[0])
    assert np.array_equal(ends[0], ends[1])
    world.reset(start)
    assert np.allclose(world.states(), start, atol=1e-5)


def test_nothing_moves_by_itself(world):
    starts = np.stack([sample_start(world.scene, np.random.default_rng(n), task) for n, task in enumerate(("push_then_open", "take_out"))])
    world.reset(starts)
    for _ in range(25):
        world.step(np.tile(REST, (2, 1)))
    assert all(clean(world.scene, [], a, b) for a, b in zip(starts, world.states(), strict=True))


def test_the_drawer_does_not_open_before_the_can_is_away_and_nothing_flies_off():
    for n in range(4):
        world = DeskBatch(f"train/{n}", 0, kind="ptp_desk")
        start = sample_start(world.scene, np.random.default_rng(n), "push_then_open")
        end = shown(world, "open_drawer", start, noise=0.1)
        assert end[DRAWER] * TRAVEL < 0.012 and clean(world.scene, [], start, end) and not world.scratch.lost()
        free = shown(world, "open_drawer", shown(world, "push_can", start))
        assert free[DRAWER] > 0.9
        world.close()


def test_a_can_stays_upright_under_anything(world):
    start = sample_start(world.scene, np.random.default_rng(0), "push_then_open")
    start[TIP][:2] = start[CAN][:2] + np.array([0.0, 0.01])
    world.reset(np.stack([start, start]))
    rng = np.random.default_rng(0)
    for _ in range(60):  # pressed from above, and swept about
        world.step(np.array([[0, 0, -1, 0, 1.0], [*rng.uniform(-1, 1, 2), -1, 0, 1.0]]))
        assert (world.states()[:, CAN][:, 2] < -0.36 + 0.05).all()
    assert not world.lost().any()


def test_a_lost_can_is_noticed(world):
    state = world.starts([0])[0]
    state[CAN] = 0.7, 0.9, -0.3
    world.scratch.reset(state)
    assert world.scratch.lost()


# ---------------------------------------------------------------- tasks
def test_success_by_hand(world):
    scene, goal = world.scene, sample_start(world.scene, np.random.default_rng(2), "put_in")  # open, the object on the cabinet
    state = goal.copy()
    state[TIP] += 0.1  # the arm does not count
    assert success(scene, state, goal) and on_top(scene, goal)
    for index, by, good in ((DRAWER, -0.029 / TRAVEL, True), (DRAWER, -0.04 / TRAVEL, False), (CAN.start, 0.04, True), (CAN.start, 0.06, False)):
        other = state.copy()
        other[index] += by
        assert bool(success(scene, other, goal)) == good
    other[:] = state
    other[OBJECT] = scene.can.beside[0], scene.can.beside[1], -0.34
    assert not success(scene, other, goal)
    assert success(scene, np.stack([other, goal]), np.stack([goal, goal])).tolist() == [False, True]


@pytest.mark.slow
def test_experts_do_their_tasks_and_come_back():
    """The rate is stated in docs/desk.md."""
    found = []
    for name in ("train/1", "train/2", "train/3", "held_out/0", "held_out/1", "held_out/2"):
        world = DeskBatch(name, 0, kind="ptp_desk")
        for number, task in enumerate(SINGLE):
            rng = np.random.default_rng([5, number])
            start = world.start_for(number, rng)
            world.scratch.reset(start)
            found.append(world.demonstrate(world.scratch, task, rng, noise=0.1))
            end = world.scratch.state()
            assert not found[-1] or (clean(world.scene, [task], start, end) and np.linalg.norm(end[TIP] - START) < 0.08)
        world.close()
    assert np.mean(found) >= 0.9
    with pytest.raises(ValueError, match="nobody shows push_then_open"):
        PTPExpert(sample_ptp(NAME), "push_then_open")


@pytest.mark.slow
def test_target_tasks_take_both_of_their_parts():
    for name in ("train/0", "held_out/3"):
        world = DeskBatch(name, 0, kind="ptp_desk")
        for task, parts in TARGETS.items():
            (start,), (goal,) = world.sample([3], task=task)
            assert success(world.scene, goal, goal) and not success(world.scene, start, goal)
            assert all(done(world.scene, part, start, goal) for part in parts) and clean(world.scene, list(parts), start, goal)
            assert np.abs(world.picture(goal[None]).astype(int) - world.picture(start[None])).max() > 60
            for part in parts:
                assert not success(world.scene, shown(world, part, start), goal)
        world.close()


def test_goals_by_task_and_by_number(world):
    starts, goals = world.sample([0, 1], task="open_drawer")
    assert (starts[:, DRAWER] < 0.1).all() and (goals[:, DRAWER] > 0.9).all() and not world.success(starts, goals).any()
    start, goal = world.sample([0], changes=2)
    assert any(all(done(world.scene, part, start[0], goal[0]) for part in parts) for parts in TARGETS.values())
    assert world.sample([1])[0].shape == (1, PTP_STATE)
    with pytest.raises(ValueError, match="changes must be between"):
        world.sample([0], changes=3)
    with pytest.raises(ValueError, match="does not allow grasp: it has"):
        world.sample([0], task="grasp")


# ---------------------------------------------------------------- families and the environment
def test_the_family_is_collected_and_keeps_lost_episodes_out(monkeypatch):
    settings = SceneSettings("ptp_desk")
    family = FAMILIES["ptp_desk"]
    assert family.tasks(NAME, settings) == SINGLE and family.widths(settings) == (5, 5)
    plan = Plan(episodes=2, scenes=1, horizon=8, family="ptp_desk", expert_share=1.0)
    world = open_scene(NAME, 1, settings)
    kept, discarded = collect_episode(plan, world, 0, len(SINGLE))
    assert discarded == 0 and kept.action.shape == (8, 5) and kept.proprio.shape == (9, 5) and kept.state.shape == (9, PTP_STATE)
    turns = iter([True, False])
    monkeypatch.setattr(DeskBatch, "lost", lambda self: np.array([next(turns)]))
    assert collect_episode(plan, world, 0, len(SINGLE))[1] == 1
    world.close()


def test_an_attempt_at_a_target_task_has_the_environments_steps():
    family = FAMILIES["ptp_desk"]
    assert [family.steps(task) for task in TARGETS] == [gymnasium.spec("imagoal/PTPDesk-v0").max_episode_steps] * 3
    assert family.steps() == family.steps("push_can") == 65 and FAMILIES["gate"].steps("open_pass_shut") == 90
    assert FAMILIES["tabletop"].steps(changes=2) == 2 * FAMILIES["tabletop"].steps() and family.steps("push_can", changes=2) == 65


@pytest.mark.parametrize("name", ["PTPDesk", "PTPDeskState"])
def test_the_environment_passes_gymnasiums_checks(name):
    env = gymnasium.make(f"imagoal/{name}-v0", scene=NAME, task="push_can")
    check_env(env.unwrapped, skip_render_check=True)
    observation, info = env.reset(seed=3)
    assert env.action_space.shape == (5,) and info["scene"] == NAME and not info["lost"] and info["state"].shape == (PTP_STATE,)
    same, _ = env.reset(seed=3)
    assert np.array_equal(observation["desired_goal"], same["desired_goal"])
    _, reward, terminated, _, info = env.step(env.action_space.sample())
    assert reward == float(info["is_success"]) - 1 and not terminated
    env.close()


def test_a_target_task_can_be_asked_for():
    env = Desk(scene="held_out", kind="ptp_desk", task="close_then_push", observe="state")
    _, info = env.reset(seed=0)
    scene = sample_ptp(info["scene"])
    assert info["state"][DRAWER] > 0.9 > 0.1 > info["goal_state"][DRAWER]
    assert np.linalg.norm(info["goal_state"][CAN][:2] - scene.can.places[0]) < RADIUS
    env.close()
    with pytest.raises(ValueError, match="unknown task"):
        Desk(kind="ptp_desk", task="grasp")
    with pytest.raises(ValueError, match="there are desk, ptp_desk"):
        Desk(kind="kitchen")
