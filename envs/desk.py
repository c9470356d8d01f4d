"""The desk on the goal-env API: copies of one scene stepped in lockstep, and one environment for Gymnasium."""

from collections import OrderedDict
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.desk_experts import homing
from envs.desk_kind import DeskKind
from envs.desk_simulation import GRIP, HIGH, LOW, STEP, TIP, TURN, YAW, DeskSimulation
from envs.desk_tasks import DESK
from envs.experts import OUPolicy, Policy
from envs.goal_env import GoalEnv
from envs.ptp_tasks import PTP_DESK
from envs.scenes import HELD_OUT

HORIZON = DESK.horizon  # steps of an episode and of a demonstration
KINDS: dict[str, DeskKind] = {"desk": DESK, "ptp_desk": PTP_DESK}
CACHED_WORLDS = 16  # scenes an environment keeps built
NOISE = 0.1  # standard deviation of an expert's noise on every action
SHUT, WIDE = 0.1, 0.97  # openings of a gripper that holds something lie between
TRIES = 10  # starts and actions that an expert is given to show a goal
_SHOWN: dict[tuple[str, str, int, str, int], tuple[np.ndarray, np.ndarray]] = {}  # (kind, scene, seed, task, changes) -> start and goal: evaluations ask for the same again and again


def widths(yaw: bool) -> tuple[int, int]:
    """Numbers of an action, and of what the policy reads beside the picture."""
    return (5, 5) if yaw else (4, 4)


class DeskBatch:
    """`n` copies of one scene stepped in lockstep: the rollout engine of practice and evaluation.

    Args:
        scene: its name, `train/N` or `held_out/N`.
        n: how many copies.
        image_size: side of the pictures in pixels.
        yaw: whether actions turn the gripper: five numbers instead of four.
        kind: of desk, a name of `KINDS`.

    Raises ValueError for an unknown name, or where PyBullet is missing.
    """

    place_dim = 3

    def __init__(self, scene: str, n: int, image_size: int = 48, yaw: bool = False, kind: str = "desk") -> None:
        self.kind, self._kind_name = KINDS[kind], kind
        self.scene, self.n, self.image_size, self.yaw = self.kind.scene(scene), n, image_size, yaw or self.kind.turns
        self.action_dim, self.proprio_dim = widths(self.yaw)
        self.tasks = self.kind.tasks(self.scene)
        self._copies = [self.kind.simulation(self.scene) for _ in range(n)]
        self._scratch: DeskSimulation | None = None

    @property
    def scratch(self) -> DeskSimulation:
        """One more copy, for pictures and experts."""
        if self._scratch is None:
            self._scratch = self.kind.simulation(self.scene)
        return self._scratch

    def reset(self, states: np.ndarray) -> None:
        """Puts copy i in states[i]; states is (n, S)."""
        for copy, state in zip(self._copies, states, strict=True):
            copy.reset(state)

    def step(self, actions: np.ndarray) -> None:
        """Moves every copy by its action (n, 4) or (n, 5) in [-1, 1]."""
        for copy, action in zip(self._copies, actions, strict=True):
            copy.step(action)

    def states(self) -> np.ndarray:
        """(n, S) float32, for evaluation and probes only."""
        return np.stack([copy.state() for copy in self._copies])

    def proprio(self) -> np.ndarray:
        """Where the gripper is and how far it is open, (n, 4) or (n, 5) float32 in about [-1, 1]."""
        return self.proprio_of(self.states())

    def proprio_of(self, states: np.ndarray) -> np.ndarray:
        """What the policy may read of state vectors (..., S): the tip's place, the yaw where actions have one, the opening."""
        middle, half = (HIGH + LOW) / 2, (HIGH - LOW) / 2
        parts = [(states[..., TIP] - middle) / half]
        if self.yaw:
            parts.append(states[..., YAW : YAW + 1] / (np.pi / 2))
        return np.concatenate([*parts, 2 * states[..., GRIP : GRIP + 1] - 1], -1).astype(np.float32)

    def homing(self, proprio: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Actions (n, A) that take the arm out of the picture (`envs.desk_experts.homing`), by what `proprio` says now, and said when the attempt `ended`: a
        gripper that was neither shut nor fully open then holds something."""
        opening = (ended[:, -1] + 1) / 2
        tip = proprio[:, :3] * ((HIGH - LOW) / 2) + (HIGH + LOW) / 2
        action = homing(tip, (opening > SHUT) & (opening < WIDE))
        return np.insert(action, 3, 0.0, axis=1) if self.yaw else action

    def follow(self, proprio: np.ndarray, path: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Actions (n, A), clipped to [-1, 1], that lead along a path: those that were taken where `proprio` was `path` (n, P), and besides the way there from where it is now (n, P)."""
        reach = (HIGH - LOW) / 2 / STEP
        if self.yaw:
            reach = np.append(reach, np.pi / 2 / TURN)
        out = action.copy()
        out[:, : len(reach)] += (path - proprio)[:, : len(reach)] * reach
        return np.clip(out, -1.0, 1.0)

    def images(self) -> np.ndarray:
        """(n, size, size, 3) uint8."""
        return np.stack([copy.picture(self.image_size) for copy in self._copies])

    def picture(self, states: np.ndarray) -> np.ndarray:
        """Pictures (m, size, size, 3) uint8 of given states (m, S), without touching the copies."""
        out = []
        for state in states:
            self.scratch.show(state)
            out.append(self.scratch.picture(self.image_size))
        return np.stack(out)

    def lost(self) -> np.ndarray:
        """Which copies have an object that left the table, or numbers that are none, (n,) bool: what happens in them no longer counts."""
        return np.array([copy.lost() for copy in self._copies])

    def success(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Ground truth, for evaluation only: `success` of the kind's tasks."""
        return self.kind.success(self.scene, states, goals)

    # ---------------------------------------------------------------- starts and goals
    def starts(self, seeds: list[int] | np.ndarray) -> np.ndarray:
        """Start states (n, S) for the seeds: the same seeds give the same anywhere."""
        return np.stack([self.kind.start(self.scene, np.random.default_rng([int(seed), 7]), None) for seed in seeds])

    def sample(self, seeds: list[int] | np.ndarray, changes: int = 1, task: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Start and goal states (n, S) for the seeds. A goal is where an expert without noise ended that did `changes` of the scene's tasks one
        after the other: the named one, or others drawn; a target task's name stands for all that it takes. Raises ValueError for a task that the scene does not allow, or too many changes."""
        goals = self.kind.goals(self.scene)
        if task and task not in goals:
            raise ValueError(f"scene {self.scene.name} does not allow {task}: it has {', '.join(goals)}")
        self.kind.to_do(self.scene, task, changes, np.random.default_rng(0))  # raises for too many changes
        found = []
        for seed in seeds:
            key = (self._kind_name, self.scene.name, int(seed), task, changes)
            if key not in _SHOWN:
                _SHOWN[key] = self._show(*key[2:])
            found.append(_SHOWN[key])
        return np.stack([start for start, _ in found]), np.stack([goal for _, goal in found])

    def start_for(self, task: int, rng: np.random.Generator) -> np.ndarray:
        """A start state (S,) from which task number `task` of the scene's can be done; -1: any."""
        return self.kind.start(self.scene, rng, self.tasks[task] if task >= 0 else None)

    def elsewhere(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The state (S,) with the gripper, open or closed, anywhere that it may go and touches nothing; as it is where no such place was found in some tries."""
        for _ in range(TRIES):
            moved = np.array(state)
            moved[TIP], moved[GRIP] = rng.uniform(LOW, HIGH), rng.integers(2)
            moved[YAW] = rng.uniform(-np.pi / 2, np.pi / 2) if self.yaw else 0.0
            self.scratch.show(moved)
            if not self.scratch.touching():
                return moved
        return state

    def expert(self, task: int) -> Policy:
        """Who does task number `task` of the scene's, with some noise; -1: a random policy."""
        return self.kind.expert(self.scene, self.tasks[task], NOISE, self.yaw) if task >= 0 else OUPolicy(size=self.action_dim)

    def _show(self, seed: int, task: str, changes: int) -> tuple[np.ndarray, np.ndarray]:
        """A start, and where an expert takes it, if possible without moving an object that is not meant."""
        shown: list[tuple[np.ndarray, np.ndarray]] = []
        for attempt in range(TRIES):
            rng = np.random.default_rng([seed, 7, attempt])
            begun, todo = self.kind.to_do(self.scene, task, changes, rng)
            start = self.kind.start(self.scene, rng, begun)
            self.scratch.reset(start)
            if all(self.demonstrate(self.scratch, t, rng) for t in todo):
                shown.append((start, self.scratch.state()))
                if self.kind.clean(self.scene, todo, *shown[-1]):
                    break
        if shown:
            return shown[-1]
        raise ValueError(f"no expert did {task or 'anything'} in scene {self.scene.name} in {TRIES} tries")

    def demonstrate(self, copy: DeskSimulation, task: str, rng: np.random.Generator, noise: float = 0.0) -> bool:
        """Lets the expert do a task in a copy, from where it is; whether it did."""
        first = copy.state()
        expert = self.kind.expert(self.scene, task, noise, self.kind.turns)
        expert.reset(first, rng)
        for _ in range(self.kind.horizon):
            copy.step(expert.act(copy.state()))
        return not copy.lost() and bool(self.kind.done(self.scene, task, first, copy.state()))

    def close(self) -> None:
        """The end of all copies."""
        for copy in [*self._copies, *([self._scratch] if self._scratch else [])]:
            copy.close()


class Desk(GoalEnv[DeskBatch]):
    """An arm with a gripper before drawers, a button, a tray and an object, as a goal environment.

    Observation (`observe="image"`): `observation` and `achieved_goal` the picture (H, W, 3) uint8, `desired_goal` the goal's picture, `proprio` the
    gripper's place and opening (4,), with yaw (5,). With `observe="state"`, pictures are replaced by the state vector. Action (4,) in [-1, 1]: the tip's
    target ahead of it, 1 = 3 cm, and the gripper, which closes above 0; with yaw (5,). Reward: success - 1, from ground truth: learning never reads
    it. Never terminates; time limits truncate. `info["lost"]` says that the object has left the table.

    Args:
        scene: a scene's name, or "train" / "held_out" for another scene at every reset.
        image_size: 48, 64 or 84 pixels.
        observe: "image" or "state".
        task: what an episode's goal has done (empty: any task of the scene).
        changes: how many tasks.
        yaw: whether actions turn the gripper.
        kind: of desk: "desk", or "ptp_desk", where they always do.
        scenes: with scene="train", how many scenes are gone through.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: for an argument out of range or an unknown scene, or where PyBullet is missing.
    """

    def __init__(
        self, scene: str = "train", image_size: int = 48, observe: str = "image", task: str = "", changes: int = 1, yaw: bool = False,
        kind: str = "desk", scenes: int = 100, render_mode: str | None = None,
    ) -> None:  # fmt: skip
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}: there are {', '.join(KINDS)}")
        rules = KINDS[kind]
        width, _ = widths(yaw or rules.turns)
        super().__init__(
            image_size, observe, render_mode, spaces.Box(-4.0, 4.0, (rules.state,), np.float32), {"proprio": spaces.Box(-1.5, 1.5, (width,), np.float32)}, width
        )
        if scenes < 1:
            raise ValueError(f"need scenes >= 1, not {scenes}")
        if task and task not in rules.names:
            raise ValueError(f"unknown task {task!r}: choose {', '.join(rules.names)}")
        first = rules.scene(scene if "/" in scene else f"{scene}/0")  # raises for an unknown name
        if "/" in scene and task and task not in rules.goals(first):
            raise ValueError(f"scene {scene} does not allow {task}: it has {', '.join(rules.goals(first))}")
        self.scene_choice, self.task, self.changes, self.yaw, self.scenes, self.kind = scene, task, changes, yaw, scenes, kind
        self._worlds: OrderedDict[str, DeskBatch] = OrderedDict()

    def _choose_world(self) -> DeskBatch:
        name = self.scene_choice
        if name in ("train", "held_out"):
            count = len(HELD_OUT) if name == "held_out" else self.scenes
            rules = KINDS[self.kind]
            able = [n for n in (f"{name}/{i}" for i in range(count)) if not self.task or self.task in rules.goals(rules.scene(n))]
            name = able[int(self.np_random.integers(len(able)))]
        if name not in self._worlds:
            self._worlds[name] = DeskBatch(name, 1, self.image_size, self.yaw, self.kind)
            while len(self._worlds) > CACHED_WORLDS:
                self._worlds.popitem(last=False)[1].close()
        return self._worlds[name]

    def _sample_start(self) -> np.ndarray:
        self._drawn = int(self.np_random.integers(2**31))
        start, self._meant = (x[0] for x in self.world.sample([self._drawn], self.changes, self.task))
        return np.asarray(start)

    def _sample_goal(self, start: np.ndarray) -> np.ndarray:
        if np.array_equal(start, self.world.sample([self._drawn], self.changes, self.task)[0][0]):
            return self._meant
        return self.world.sample([int(self.np_random.integers(2**31))], self.changes, self.task)[1][0]

    def _further(self, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"proprio": self.world.proprio_of(state)}

    def _about(self) -> dict[str, Any]:
        return {"scene": self.world.scene.name, "lost": bool(self.world.lost()[0])}

    def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Ground-truth success of state vectors (..., S) in the current scene, for evaluation only."""
        return self.world.success(state, goal)

    def close(self) -> None:
        """The end of all scenes."""
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()
