"""Scenes are rebuilt from their names alone, and the two splits never meet."""

import dataclasses

import numpy as np
import pytest

from envs.experts import OUPolicy, Policy, ScriptedExpert
from envs.render import MAX_SIZE, Camera
from envs.scenes import HELD_OUT, KINDS, sample_scene
from envs.simulation import SUCCESS_TOLERANCE, Simulation
from envs.tabletop import TabletopBatch


def test_a_name_is_a_scene() -> None:
    assert sample_scene("train/17") == sample_scene("train/17")
    assert sample_scene("train/17") != sample_scene("train/18")
    a, b = (TabletopBatch("held_out/4", 1) for _ in range(2))
    state = a.sample([0])[0]
    assert np.array_equal(a.picture(state), b.picture(state))


def test_held_out_scenes_are_not_in_the_training_set() -> None:
    def look(name: str) -> tuple:
        return dataclasses.astuple(dataclasses.replace(sample_scene(name), name=""))

    training = {look(f"train/{i}") for i in range(200)}
    assert len(training) == 200
    assert not training & {look(name) for name in HELD_OUT}


def test_scenes_vary_and_every_kind_occurs() -> None:
    scenes = [sample_scene(f"train/{i}") for i in range(60)]
    assert {thing.kind for scene in scenes for thing in scene.things} == set(KINDS)
    assert all(scene.things[0].kind != scene.things[1].kind for scene in scenes)
    assert len({scene.table for scene in scenes}) == len({scene.light for scene in scenes}) == 60
    only = sample_scene("train/0", ("lever", "drawer"))
    assert {thing.kind for thing in only.things} == {"lever", "drawer"}


@pytest.mark.parametrize("name", ["train", "train/-1", "train/x", "test/0", "", "train/1/2"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match="unknown scene"):
        sample_scene(name)


def test_states_survive_the_simulation() -> None:
    """set_state then state is the identity, and starts are where they are said to be."""
    for i in range(8):
        world = TabletopBatch(f"train/{i}", 1)
        starts, goals = world.sample(range(10), 2)
        for state in np.concatenate([starts, goals]):
            world.reset(state[None])
            assert np.allclose(world.states()[0], state, atol=1e-6)
        outcome = starts[:, 2:]
        assert (np.minimum(outcome, 1 - outcome) <= 0.061).all() and (np.minimum(outcome, 1 - outcome) >= -1e-6).all()


def test_nothing_moves_by_itself() -> None:
    for i in range(8):
        world = TabletopBatch(f"train/{i}", 1)
        start = world.sample([i])[0]
        world.reset(start)
        for _ in range(20):
            world.step(np.zeros((1, 2)))
        assert np.abs(world.states() - start)[:, 2:].max() < 0.05, world.simulation.scene


def moved(world: TabletopBatch, policy: Policy, rng: np.random.Generator, steps: int = 30) -> np.ndarray:
    """Which things stand at their other end after an episode."""
    start = world.simulation.sample_start(rng)
    world.reset(start[None])
    policy.reset(start, rng)
    for _ in range(steps):
        world.step(policy.act(world.states()[0])[None])
    return np.abs(world.states()[0, 2:] - np.round(1 - start[2:])) <= SUCCESS_TOLERANCE


def test_the_expert_does_what_chance_does_not() -> None:
    by_expert, by_chance = [], []
    for i in range(20):
        world = TabletopBatch(f"train/{i}", 1)
        for repeat in range(2):
            for thing in range(2):
                expert = ScriptedExpert(world.simulation, thing=thing)
                by_expert.append(moved(world, expert, np.random.default_rng([i, repeat]))[thing])
            by_chance.extend(moved(world, OUPolicy(), np.random.default_rng([i, repeat])))
    assert np.mean(by_expert) > 0.85 and np.mean(by_chance) < 0.2


def test_policies_stay_within_bounds_and_repeat() -> None:
    simulation = Simulation(sample_scene("train/0"))
    state = simulation.sample_start(np.random.default_rng(0))
    for policy in (OUPolicy(), ScriptedExpert(simulation)):
        runs = []
        for _ in range(2):
            policy.reset(state, np.random.default_rng(1))
            runs.append(np.stack([policy.act(state) for _ in range(20)]))
        assert np.array_equal(runs[0], runs[1]) and np.abs(runs[0]).max() <= 1


def test_refusals() -> None:
    simulation = Simulation(sample_scene("train/0"))
    with pytest.raises(ValueError, match="changes must be between 1 and 2"):
        simulation.sample_goal(simulation.sample_start(np.random.default_rng(0)), 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="image size must be between"):
        Camera(simulation.model, MAX_SIZE + 1)
