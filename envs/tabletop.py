"""The tabletop on the goal-env API: one environment for Gymnasium, and a batch of one scene stepped in lockstep."""

from collections import OrderedDict
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from envs.experts import OUPolicy, Policy, ScriptedExpert
from envs.gate import PARTS, GateRules
from envs.goal_env import GoalEnv
from envs.render import Camera
from envs.scenes import HELD_OUT, KINDS, Scene, sample_scene
from envs.simulation import HAND_LIMIT, STEP_SIZE, Simulation, outcome_success

CACHED_WORLDS = 128  # scenes an environment keeps built: building one costs as much as ten steps


class FreeRules:
    """Things that do not mind each other: anything can be done from anywhere.

    Args: kinds: the kinds of things scenes are drawn from.
    """

    tasks: tuple[str, ...] = ()
    most = 2

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds

    def scene(self, name: str) -> Scene:
        """`envs.scenes.sample_scene`."""
        return sample_scene(name, self.kinds)

    def start(self, simulation: Simulation, task: str, rng: np.random.Generator) -> np.ndarray:
        """A start state (2 + things,)."""
        return simulation.sample_start(rng)

    def goal(self, simulation: Simulation, start: np.ndarray, changes: int, task: str, rng: np.random.Generator) -> np.ndarray:
        """A goal state (2 + things,) with so many things at their other end."""
        return simulation.sample_goal(start, changes, rng)


class TabletopBatch:
    """`n` copies of one scene stepped in lockstep: the rollout engine of practice and evaluation.

    Args:
        scene: its name, `train/N` or `held_out/N`.
        n: how many copies.
        image_size: side of the pictures in pixels.
        kinds: the kinds of things scenes are drawn from.
        gate: the scene is a gate's (`envs.gate`), whose things are of no other kinds.
    """

    action_dim = 2
    proprio_dim = 2
    place_dim = 2

    def __init__(self, scene: str, n: int, image_size: int = 48, kinds: tuple[str, ...] = KINDS, gate: bool = False) -> None:
        self.rules = GateRules() if gate else FreeRules(kinds)
        self.simulation = Simulation(self.rules.scene(scene))
        self.n, self.image_size, self.kinds = n, image_size, tuple(kinds)
        self._data = [mujoco.MjData(self.simulation.model) for _ in range(n)]
        self._camera = Camera(self.simulation.model, image_size)
        self._scratch: mujoco.MjData | None = None

    def reset(self, states: np.ndarray) -> None:
        """Puts copy i in states[i]; states is (n, 2 + things)."""
        for data, state in zip(self._data, states, strict=True):
            self.simulation.set_state(data, state)

    def starts(self, seeds: list[int] | np.ndarray) -> np.ndarray:
        """Start states (n, 2 + things) for the seeds, those of `sample`."""
        return np.stack([self.rules.start(self.simulation, "", np.random.default_rng([int(seed), 7])) for seed in seeds])

    def sample(self, seeds: list[int] | np.ndarray, changes: int = 1, task: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Start and goal states (n, 2 + things) for the seeds: the same seeds give the same episodes anywhere. Raises ValueError for more changes than there can
        be, or a task that there is not; those of the gate are in `envs.gate`, and other goals on the tabletop have none."""
        check_goals(self.rules, changes, task)
        starts, goals = [], []
        for seed in seeds:
            rng = np.random.default_rng([int(seed), 7])
            start = self.rules.start(self.simulation, task, rng)
            starts.append(start)
            goals.append(self.rules.goal(self.simulation, start, changes, task, rng))
        return np.stack(starts), np.stack(goals)

    def start_for(self, task: int, rng: np.random.Generator) -> np.ndarray:
        """A start state (2 + things,) from which thing number `task` can be moved; -1: any."""
        return self.rules.start(self.simulation, PARTS[task] if self.rules.tasks and task >= 0 else "", rng)

    def elsewhere(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The state as it is: the hand begins anywhere."""
        return state

    def expert(self, task: int) -> Policy:
        """Who moves thing number `task` to its other end; -1: a random policy."""
        return ScriptedExpert(self.simulation, thing=task) if task >= 0 else OUPolicy()

    def success(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Ground truth, for evaluation only: `envs.simulation.outcome_success`."""
        return outcome_success(states, goals)

    def lost(self) -> np.ndarray:
        """None ever is: things move on rails."""
        return np.zeros(self.n, bool)

    def close(self) -> None:
        """Nothing to do."""

    def step(self, actions: np.ndarray) -> None:
        """Moves every copy by its action (n, 2) in [-1, 1]."""
        for data, action in zip(self._data, actions, strict=True):
            self.simulation.step(data, action)

    def states(self) -> np.ndarray:
        """(n, 2 + things) float32, for evaluation and probes only."""
        return np.stack([self.simulation.state(data) for data in self._data])

    def proprio(self) -> np.ndarray:
        """The hand's own position, (n, 2) float32 in [-1, 1]."""
        return self.proprio_of(self.states())

    @staticmethod
    def proprio_of(states: np.ndarray) -> np.ndarray:
        """What the policy may read of state vectors (..., S): the hand's position (..., 2) float32 in [-1, 1]."""
        return states[..., :2] / np.float32(HAND_LIMIT)

    def homing(self, proprio: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Zeros (n, 2): the hand stays."""
        return np.zeros((len(proprio), self.action_dim), np.float32)

    def follow(self, proprio: np.ndarray, path: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Actions (n, 2), clipped to [-1, 1], that lead along a path: those that were taken where the hand was at `path` (n, 2), and besides the way there from `proprio`."""
        return np.clip(action + (path - proprio) * np.float32(HAND_LIMIT / STEP_SIZE), -1.0, 1.0)

    def images(self) -> np.ndarray:
        """(n, size, size, 3) uint8."""
        pictures = np.empty((self.n, self.image_size, self.image_size, 3), np.uint8)
        for picture, data in zip(pictures, self._data, strict=True):
            self._camera.render_into(data, picture)
        return pictures

    def picture(self, states: np.ndarray) -> np.ndarray:
        """Pictures (m, size, size, 3) uint8 of given states (m, 2 + things), without touching the copies."""
        if self._scratch is None:
            self._scratch = mujoco.MjData(self.simulation.model)
        out = []
        for state in states:
            self.simulation.set_state(self._scratch, state)
            out.append(self._camera.render(self._scratch))
        return np.stack(out)


def check_goals(rules: FreeRules | GateRules, changes: int, task: str) -> None:
    """Raises ValueError for goals that there are not."""
    if task and task not in rules.tasks:
        raise ValueError(f"unknown task {task!r}: choose {', '.join(rules.tasks)}" if rules.tasks else f"task={task}: goals on the tabletop differ by things drawn; leave it out")
    if not 1 <= changes <= rules.most:
        raise ValueError(f"changes must be between 1 and {rules.most}, not {changes}")


class Tabletop(GoalEnv[TabletopBatch]):
    """A hand in the plane and two things of few outcomes, as a goal environment.

    Observation (`observe="image"`): `observation` and `achieved_goal` the picture (H, W, 3) uint8, `desired_goal` the
    goal's picture, `proprio` the hand's position (2,) in [-1, 1]. With `observe="state"`, pictures are replaced by the
    state vector. Action (2,) in [-1, 1]: how far ahead of the hand its target is, 1 = 6 cm. Reward: success - 1 (errata), from
    ground truth: learning never reads it. Never terminates: reaching a goal is no end; time limits truncate.

    Args:
        scene: a scene's name, or "train" / "held_out" for another scene at every reset.
        image_size: 48, 64 or 84 pixels.
        observe: "image" or "state".
        changes: how many things differ between start and goal.
        kinds: the kinds of things scenes are drawn from.
        gate: scenes are gates (`envs.gate`): `imagoal/Gate-v0`.
        task: at a gate, what goals are about (empty: parts drawn, so many as `changes`).
        scenes: with scene="train", how many scenes are gone through.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: for an argument out of range or an unknown scene.
    """

    def __init__(
        self,
        scene: str = "train",
        image_size: int = 48,
        observe: str = "image",
        changes: int = 1,
        kinds: tuple[str, ...] = KINDS,
        gate: bool = False,
        task: str = "",
        scenes: int = 100,
        render_mode: str | None = None,
    ) -> None:
        proprio = spaces.Box(-1.1, 1.1, (2,), np.float32)
        states = spaces.Box(-2.0, 2.0, (4,), np.float32)
        super().__init__(image_size, observe, render_mode, states, {"proprio": proprio})
        if scenes < 1:
            raise ValueError(f"need scenes >= 1, not {scenes}")
        self.rules = GateRules() if gate else FreeRules(kinds)
        self.rules.scene(scene if "/" in scene else f"{scene}/0")  # raises for an unknown name
        check_goals(self.rules, changes, task)
        self.scene_choice, self.changes, self.task, self.kinds, self.gate, self.scenes = scene, changes, task, tuple(kinds), gate, scenes
        self._worlds: OrderedDict[str, TabletopBatch] = OrderedDict()

    def _choose_world(self) -> TabletopBatch:
        name = self.scene_choice
        if name in ("train", "held_out"):
            count = len(HELD_OUT) if name == "held_out" else self.scenes
            name = f"{name}/{self.np_random.integers(count)}"
        if name not in self._worlds:
            self._worlds[name] = TabletopBatch(name, 1, self.image_size, self.kinds, self.gate)
            while len(self._worlds) > CACHED_WORLDS:
                self._worlds.popitem(last=False)
        return self._worlds[name]

    def _sample_start(self) -> np.ndarray:
        return self.rules.start(self.world.simulation, self.task, self.np_random)

    def _sample_goal(self, start: np.ndarray) -> np.ndarray:
        return self.rules.goal(self.world.simulation, start, self.changes, self.task, self.np_random)

    def _further(self, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"proprio": self.world.proprio_of(state)}

    def _about(self) -> dict[str, Any]:
        return {"scene": self.world.simulation.scene.name}

    @staticmethod
    def success(state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Ground-truth success of state vectors (..., 4), for evaluation only."""
        return outcome_success(state, goal)
