"""The gate: one puck bars the way of the other, and tasks have one order in which they can be done."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401
from envs.collect import rollout
from envs.experts import ScriptedExpert
from envs.gate import GATE_HORIZON, GATE_TASKS, PARTS, sample_gate
from envs.tabletop import TabletopBatch

CLOSED, ASIDE = np.array([0, 0]), np.array([1, 0])


def gate(name: str = "train/0") -> TabletopBatch:
    return TabletopBatch(name, 1, gate=True)


def done(world: TabletopBatch, part: int, start: np.ndarray, rng: np.random.Generator, steps: int = GATE_HORIZON) -> np.ndarray:
    """Where an expert ends."""
    return rollout(world, world.expert(part), start, steps, rng)["state"][-1]


@pytest.mark.parametrize("name", ["Gate", "GateState"])
def test_environments_keep_gymnasiums_rules(name: str) -> None:
    env = gymnasium.make(f"imagoal/{name}-v0").unwrapped
    check_env(env, skip_render_check=True)


def test_experts_bring_either_puck_to_its_other_end() -> None:
    hits = []
    for number in range(10):
        world = gate(f"{('train', 'held_out')[number % 2]}/{number}")
        for part in range(len(PARTS)):
            rng = np.random.default_rng([number, part])
            start = world.start_for(part, rng)
            last = done(world, part, start, rng)
            moved = np.abs(last[2:] - np.round(start[2:])) > 0.8
            hits.append(moved[part] and not moved[1 - part])
    assert np.mean(hits) >= 0.9


def test_the_runner_cannot_pass_while_the_keeper_stands_in_the_gate() -> None:
    world = gate()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        start = world.simulation.at_ends(CLOSED, rng)
        expert = ScriptedExpert(world.simulation, thing=1)
        states = rollout(world, expert, start, 20, rng)["state"]
        assert states[:, 3].max() < 0.35  # it pushes, and stays before the gate
        rng = np.random.default_rng(seed)
        assert done(world, 1, world.simulation.at_ends(ASIDE, rng), rng)[3] > 0.8


@pytest.mark.parametrize("task", GATE_TASKS)
def test_tasks_take_several_parts_in_their_order(task: str) -> None:
    world = gate("held_out/3")
    starts, goals = world.sample(range(5), task=task)
    before, after = GATE_TASKS[task]
    assert np.array_equal(np.round(starts[:, 2:]), [before] * 5) and np.array_equal(np.round(goals[:, 2:]), [after] * 5)
    assert not world.success(starts, goals).any() and world.success(goals, goals).all()
    again = world.sample(range(5), task=task)
    assert np.array_equal(again[0], starts) and np.array_equal(again[1], goals)
    reached = [(1 - before[0], before[1]), *([(before[0], 1 - before[1])] if before[0] else [])]  # by one part that can be done
    assert not any(world.success(world.simulation.at_ends(np.array(ends), np.random.default_rng(0)), goals[0]) for ends in reached)


def test_goals_of_parts_are_possible_and_others_as_many_parts_away() -> None:
    world = gate()
    starts, goals = world.sample(range(20), task="runner")
    assert (np.round(starts[:, 2]) == 1).all() and (np.abs(goals[:, 3] - starts[:, 3]) > 0.8).all() and np.array_equal(goals[:, 2], starts[:, 2])
    starts, goals = world.sample(range(40), changes=1)
    moved = np.abs(goals[:, 2:] - starts[:, 2:]) > 0.8
    assert (moved.sum(1) == 1).all() and not (moved[:, 1] & (starts[:, 2] < 0.5)).any()
    assert np.array_equal(world.starts(range(40)), starts)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="unknown task 'climb': choose keeper, runner, open_then_pass"):
        gate().sample([0], task="climb")
    with pytest.raises(ValueError, match="between 1 and 3"):
        gate().sample([0], changes=4)
    with pytest.raises(ValueError, match="unknown task"):
        gymnasium.make("imagoal/Gate-v0", task="climb")
    with pytest.raises(ValueError, match="did you mean"):
        sample_gate("trian/0")
