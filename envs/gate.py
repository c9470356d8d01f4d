"""A gate: two pucks on rails, of which one, the keeper, stands in the other's way. What can be done depends on what was done: the MuJoCo counterpart of PTP's
long-horizon tasks (thesis ch. 10), whose parts each take a moment, and whose demonstrations do one part.

State as on the tabletop: hand x, y; the keeper, 0 in the gate and 1 aside; the runner, 0 before the gate and 1 behind it.
"""

import numpy as np

from envs.scenes import HUES, Scene, Thing, parse_name, table_and_light, vivid
from envs.simulation import Simulation

PARTS = ("keeper", "runner")  # what an expert can do: bring the keeper to its other end, or the runner
GATE_TASKS = {  # name -> the ends of keeper and runner before and after; the parts have one order in which they can be done
    "open_then_pass": ((0, 0), (1, 1)),
    "pass_then_shut": ((1, 0), (0, 1)),
    "open_pass_shut": ((0, 0), (0, 1)),
}
GATE_HORIZON = 30  # steps of a demonstration
TASK_HORIZON = 90  # steps of an attempt at a task


def sample_gate(name: str) -> Scene:
    """Builds the scene `train/N` or `held_out/N`: colours, sizes, the side to which the keeper goes, and the gate's place vary. Raises ValueError for an unknown name."""
    split, number = parse_name(name)
    rng = np.random.default_rng([split, number, 47])
    hues = rng.permutation(HUES) / HUES
    x, y, side = rng.uniform(-0.02, 0.02), rng.uniform(-0.01, 0.01), rng.integers(2)
    keeper = Thing("disc", x + (-0.055 if side else 0.055), y - 0.03, np.pi * side, float(rng.uniform(0.032, 0.036)), 0.11, vivid(rng, float(hues[0])), (0.3, 0.3, 0.3))
    runner = Thing("disc", x, y - 0.02, np.pi / 2, float(rng.uniform(0.028, 0.032)), 0.22, vivid(rng, float(hues[1])), (0.3, 0.3, 0.3))
    gap, length = 0.042, 0.04  # metres: half the gate's width, half a wall's length
    walls = tuple((x + sign * (gap + length), y + 0.022, length, 0.008) for sign in (-1, 1))
    return Scene(name, (keeper, runner), *table_and_light(rng), walls=walls)


class GateRules:
    """Where episodes at a gate begin, and what their goals are."""

    tasks = (*PARTS, *GATE_TASKS)
    most = 3  # parts one after the other in a goal without a task

    def scene(self, name: str) -> Scene:
        """`sample_gate`."""
        return sample_gate(name)

    def start(self, simulation: Simulation, task: str, rng: np.random.Generator) -> np.ndarray:
        """A start state (4,) of a named task or part, any without a name."""
        if task in GATE_TASKS:
            return simulation.at_ends(np.array(GATE_TASKS[task][0]), rng)
        ends = rng.integers(0, 2, 2)
        if task == "runner":
            ends[0] = 1
        return simulation.at_ends(ends, rng)

    def goal(self, simulation: Simulation, start: np.ndarray, changes: int, task: str, rng: np.random.Generator) -> np.ndarray:
        """A goal state (4,) of a task or part from its start; without a name, after `changes` different parts one after the other, each of which can be done then."""
        before = np.round(start[2:]).astype(int)
        after = before.copy()
        if task in GATE_TASKS:
            after[:] = GATE_TASKS[task][1]
        elif task:
            part = PARTS.index(task)
            after[part] = 1 - after[part]
        last = -1
        for _ in range(0 if task else changes):
            able = [0, 1] if after[0] == 1 else [0]  # the runner cannot pass the keeper
            last = int(rng.choice([part for part in able if part != last] or able))
            after[last] = 1 - after[last]
        goal = simulation.at_ends(after, rng)
        goal[2:][after == before] = start[2:][after == before]
        return goal
