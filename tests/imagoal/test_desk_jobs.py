"""The jobs end to end at the desk, at a tiny size: what differs from the tabletop, and what happens to attempts that lose the object."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import minari
import numpy as np
import pytest
import torch

pytest.importorskip("pybullet", reason="wheels exist up to Python 3.11")
sys.path.insert(0, str(Path(__file__).parent))
from job_cases import refusal

from envs.collect import Plan, collect_episode
from envs.columns import open_columns
from envs.desk import DeskBatch
from envs.desk_experts import START
from envs.desk_scenes import sample_desk
from envs.desk_simulation import HIGH, LOW, TIP
from envs.desk_tasks import TASKS, possible
from envs.families import FAMILIES, SceneSettings, open_scene
from envs.ptp_tasks import SINGLE
from imagoal.demonstrations import Demonstrations
from imagoal.evaluation import seeded
from imagoal.jobs.practice import beginning, displacement
from imagoal.loading import load_policy, practised_before
from imagoal.rollout import roll_out
from imagoal.run import read_metrics
from imagoal.stages import stage

FULL = next(f"held_out/{n}" for n in range(100) if len(possible(sample_desk(f"held_out/{n}"))) == len(TASKS))


class Still:
    """An arm that stays where it is, its gripper open."""

    def act(self, obs, goal, explore=False, generator=None):
        return torch.tensor([0.0, 0.0, 0.0, -0.8]).expand(len(obs), 4)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Data, a model and a policy."""
    home = tmp_path_factory.mktemp("desk")
    stage("collect", home / "data", "env=desk", "scenes=4", "episodes=8", "horizon=20", "expert_share=0.75", "workers=1", "threads=1")
    stage("train", home / "model", f"data={home / 'data'}", "vision=vqvae_small", "steps=6", "batch_size=16", "prior_steps=3", "prior_batch_size=8", "threads=1")
    stage("pretrain", home / "policy", f"data={home / 'data'}", f"model={home / 'model'}", "agent=td3_bc", "updates=4", "batch_size=16", "threads=1")
    return home


def test_collected_data_are_the_desks(home):
    columns = open_columns(home / "data" / "columns")
    assert columns.image.shape == (8 * 21, 48, 48, 3) and columns.action.shape[1] == 4 and columns.proprio.shape[1] == 4 and columns.state.shape[1] == 15
    assert columns.meta["family"] == "desk" and columns.meta["discarded"] == 0
    result = json.loads((home / "data" / "result.json").read_text())
    assert set(result["expert_success"]) <= {*TASKS, "all"} and result["discarded"] == 0


def test_practice_plan_and_evaluate_by_task(home):
    words = [f"policy={home / 'policy'}", f"scene={FULL}", "episodes=4", "parallel=2", "horizon=5", "updates_per_episode=1", "batch_size=16", "evaluate_every=0", "threads=1"]
    found = stage("practice", home / "practice", *words, "evaluation_episodes=6")
    assert {f"{task}.success_{when}" for task in TASKS for when in ("before", "after")} <= set(found) and found["lost"] == 0
    assert found["success_after"] == pytest.approx(np.mean([found[f"{task}.success_after"] for task in TASKS]))
    judged = stage("evaluate", home / "one", f"policy={home / 'practice'}", f"scene={FULL}", "task=press_button", "episodes=2", "horizon=4", "threads=1")
    assert "press_button.success" in judged and "grasp.success" not in judged
    plan = stage("plan", home / "plan", f"policy={home / 'practice'}", f"scene={FULL}", "episodes=2", "generator_steps=2", "horizon=4", "subgoal_steps=2", "threads=1")
    assert {"planned.success", "final_goal_only.success"} <= plan.keys()


def test_attempts_end_with_the_arm_at_home(home, monkeypatch):
    """Of 5 steps, and 18 more of a script, which are not practised, but for what is seen at their end."""
    monkeypatch.setattr("envs.desk.WIDE", 0.0)  # no gripper counts as holding something
    words = [f"policy={home / 'policy'}", f"scene={FULL}", "episodes=2", "parallel=2", "horizon=5", "updates_per_episode=1", "batch_size=16", "evaluate_every=0", "threads=1"]
    ends = []
    for name, more in (("homing", []), ("staying", ["home=false"])):
        stage("practice", home / name, *words, *more, "evaluation_episodes=3")
        (replay,) = practised_before(load_policy(str(home / name), torch.device("cpu")), torch.device("cpu"))
        assert len(replay) == 2 * 5
        ends.append(np.stack([replay.proprio[replay.episode_rows(e)][-1, :3].numpy() * (HIGH - LOW) / 2 + (HIGH + LOW) / 2 - START for e in range(2)]))
    assert np.abs(ends[0]).max() < 0.005 < np.abs(ends[1]).max()


def test_tasks_that_are_not_there_are_refused(home, capsys):
    name = next(f"held_out/{n}" for n in range(100) if "grasp" not in possible(sample_desk(f"held_out/{n}")))
    said = refusal(capsys, "evaluate", f"policy={home / 'policy'}", f"scene={name}", "task=grasp", "episodes=1", f"run={home / 'refused'}")
    assert "does not allow grasp: it has" in said


def test_attempts_that_lose_the_object_are_left_out_and_counted(home, monkeypatch):
    turns = iter([np.array([True, False]), np.array([False, True])])
    monkeypatch.setattr(DeskBatch, "lost", lambda self: next(turns, np.zeros(self.n, bool)) if self.n == 2 else np.zeros(self.n, bool))
    words = [f"policy={home / 'policy'}", f"scene={FULL}", "episodes=4", "parallel=2", "horizon=5", "updates_per_episode=1", "batch_size=16", "evaluate_every=0", "threads=1"]
    found = stage("practice", home / "losing", *words, "evaluation_episodes=3")
    assert found["lost"] == 2 and sum(v or 0 for v in read_metrics(home / "losing")["lost"]) == 2


def test_an_episode_that_loses_the_object_is_collected_anew(monkeypatch):
    plan = Plan(episodes=4, scenes=2, horizon=6, family="desk", expert_share=1.0)
    world = open_scene("train/0", 1, plan.settings)
    kept, discarded = collect_episode(plan, world, 0, len(possible(sample_desk("train/0"))))
    assert discarded == 0
    turns = iter([True, True, False])
    monkeypatch.setattr(DeskBatch, "lost", lambda self: np.array([next(turns)]))
    again, discarded = collect_episode(plan, world, 0, len(possible(sample_desk("train/0"))))
    assert discarded == 2 and again.thing == kept.thing and not np.array_equal(again.action, kept.action)
    monkeypatch.setattr(DeskBatch, "lost", lambda self: np.array([True]))
    with pytest.raises(ValueError, match="lost its object in all of 10"):
        collect_episode(plan, world, 0, 2)
    world.close()


@pytest.mark.parametrize(("family", "scene"), [("desk", FULL), ("ptp_desk", "train/0")])
def test_the_arm_begins_elsewhere_where_it_is_asked_to(family, scene):
    def starts(share):
        plan = Plan(episodes=12, scenes=1, horizon=6, family=family, expert_share=1.0, elsewhere=share)
        return np.stack([collect_episode(plan, world, number, len(world.tasks))[0].state[0] for number in range(12)])

    world = open_scene(scene, 1, SceneSettings(family))
    home, some, away = starts(0.0), starts(0.5), starts(1.0)
    assert (np.abs(home[:, TIP] - START) < [0.031, 0.101, 0.021]).all(), "as before"
    far = np.abs(away[:, TIP] - START) > [0.031, 0.101, 0.021]
    assert far.any(1).mean() > 0.7 and (away[:, TIP][:, 2].min() < START[2] - 0.05)
    moved = (some[:, TIP] != home[:, TIP]).any(1)
    assert 0 < moved.sum() < 12 and np.array_equal(some[~moved], home[~moved])
    things = [i for i in range(home.shape[1]) if i not in (0, 1, 2, 3, 4)]  # all but the tip, its yaw, the opening
    assert np.array_equal(away[:, things], home[:, things])
    for state in away:
        world.scratch.reset(state)
        assert not world.scratch.touching()
    inside, drawer = home[0].copy(), world.scene.drawer
    assert drawer is not None
    inside[TIP] = drawer.x, drawer.y, LOW[2]  # within the cabinet
    world.scratch.reset(inside)
    assert world.scratch.touching()
    world.close()


def test_ptps_desk_is_collected_and_its_environment_is_known_to_the_dataset(tmp_path):
    found = stage("collect", tmp_path / "data", "env=ptp_desk", "scenes=2", "episodes=4", "horizon=12", "expert_share=1", "workers=1", "threads=1")
    columns = open_columns(tmp_path / "data" / "columns")
    assert columns.action.shape[1] == columns.proprio.shape[1] == 5 and columns.meta["family"] == "ptp_desk" and found["discarded"] == 0
    assert set(found["expert_success"]) <= {*SINGLE, "all"}
    env = minari.MinariDataset(tmp_path / "data" / "minari").recover_environment()
    assert env.unwrapped.kind == "ptp_desk" and env.action_space.shape == (5,)
    env.close()


def test_families_are_known_by_name():
    with pytest.raises(ValueError, match="there are tabletop, gate, desk, ptp_desk"):
        SceneSettings("kitchen")


def test_what_an_attempt_begins_with_is_seen_as_its_outcome_is(home):
    """With the arm gone home: after an attempt that touches nothing the picture is the same, wherever the arm had begun; without, the start's own."""
    policy = load_policy(str(home / "policy"), torch.device("cpu"))
    world = open_scene(FULL, 4, policy.scenes)
    steps = FAMILIES["desk"].homing
    begun = beginning(policy, world, np.arange(4), None, steps)
    rollout = roll_out(world, Still(), policy.eyes, begun.states, begun.latents, 3, keep_images=True, home=steps)
    assert rollout.images is not None
    assert (rollout.images[:, -1] == begun.pictures).all() and (rollout.images[:, 0] != begun.pictures).any()
    plain = beginning(policy, world, np.arange(4), None, 0)
    assert (plain.states == begun.states).all() and (plain.pictures == rollout.images[:, 0]).all()
    world.close()


class Noting(Still):
    """Notes what it is told of itself."""

    def __init__(self):
        self.told = []

    def act(self, obs, goal, explore=False, generator=None):
        self.told.append(obs[:, goal.shape[1] :].clone())
        return super().act(obs, goal)


def test_a_displaced_policy_takes_the_hand_to_be_elsewhere_and_what_is_stored_is_where_it_was(home):
    policy = load_policy(str(home / "policy"), torch.device("cpu"))
    world, noting, plain = open_scene(FULL, 3, policy.scenes), Noting(), Noting()
    begun = beginning(policy, world, np.arange(3), None, 0)
    moved = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.1, -0.2, 0.3, 0.0], [-0.5, 0.0, 0.0, 0.0]])
    rollout = roll_out(world, noting, policy.eyes, begun.states, begun.latents, 4, displaced=moved)
    roll_out(world, plain, policy.eyes, begun.states, begun.latents, 4)
    world.close()
    assert torch.equal(torch.stack(noting.told, 1), rollout.proprio[:, :-1] + moved[:, None])
    assert torch.equal(torch.stack(plain.told, 1), rollout.proprio[:, :-1])


def test_a_third_of_the_attempts_is_displaced_a_third_by_twice_as_much_and_only_where_the_hand_is():
    config: Any = SimpleNamespace(parallel=3000, displacement=0.1)
    world: Any = SimpleNamespace(place_dim=3, proprio_dim=5)
    drawn = displacement(config, world, seeded(0))
    assert drawn.shape == (3000, 5) and not drawn[:, 3:].any()
    size = drawn[:, :3].square().mean(1).sqrt()
    assert (size == 0).float().mean() == pytest.approx(1 / 3, abs=0.03)
    assert drawn[:, :3].square().mean() == pytest.approx((0.1**2 + 0.2**2) / 3, rel=0.06)
    assert torch.equal(drawn, displacement(config, world, seeded(0)))
    tabletop: Any = SimpleNamespace(place_dim=2, proprio_dim=2)
    assert displacement(config, tabletop, seeded(0)).shape == (3000, 2)


def test_demonstrations_of_other_scenes_that_are_like_a_goal_reach_it_here(tmp_path):
    """Of 90 demonstrations in as many other scenes the likest is done again in a held-out one, at 24 goals of drawers; then any, drawn at random."""
    stage("collect", tmp_path / "data", "env=desk", "scenes=90", "episodes=90", "expert_share=1", "linger=8", "workers=1", "threads=1")
    columns = open_columns(tmp_path / "data" / "columns")
    world = open_scene(FULL, 24, SceneSettings(family="desk"))
    samples = [world.sample(np.arange(8), 1, task) for task in ("open_drawer", "close_drawer", "press_button")]
    starts, goals = (np.concatenate(states) for states in zip(*samples, strict=True))
    pictures = [world.picture(states) for states in (starts, goals)]
    likest = Demonstrations(columns, torch.device("cpu")).likeness(*pictures).argmax(1).numpy()

    def reached(demo):
        world.reset(starts)
        for step in range(65):
            rows = np.minimum(columns.start[demo] + step, columns.end[demo] - 2)
            world.step(world.follow(world.proprio(), columns.proprio[rows], columns.action[rows]))
        return float(world.success(world.states(), goals).mean())

    found, chance = reached(likest), np.mean([reached(np.random.default_rng(i).integers(90, size=24)) for i in range(3)])
    world.close()
    assert found > 0.5 and found > 3 * chance


def test_displacement_needs_a_policy_that_feels_where_it_is(home, capsys):
    stage("pretrain", home / "numb", f"data={home / 'data'}", f"model={home / 'model'}", "agent=bc", "proprio=false", "updates=1", "batch_size=16", "threads=1")
    words = ["practice", f"policy={home / 'numb'}", f"scene={FULL}", "episodes=2", "parallel=2", "threads=1", f"run={home / 'numbly'}"]
    assert "pretrain with proprio=true, or leave displacement out" in refusal(capsys, *words, "displacement=0.1")
    assert "pretrain with proprio=true, or leave repeats out" in refusal(capsys, *words, "repeats=0.5")
    assert not (home / "numbly").exists()
