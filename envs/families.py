"""Families of scenes, as collection, practice and judging use them: the same words for the tabletop and the desks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from envs.desk import KINDS as DESKS
from envs.desk import DeskBatch, widths
from envs.desk_experts import HOME_STEPS
from envs.experts import Policy
from envs.gate import GATE_HORIZON, GATE_TASKS, PARTS, TASK_HORIZON
from envs.ptp_tasks import TARGET_HORIZON, TARGETS
from envs.scenes import KINDS, sample_scene
from envs.simulation import SUCCESS_TOLERANCE
from envs.tabletop import TabletopBatch


class SceneBatch(Protocol):
    """Copies of one scene stepped in lockstep. States (n, S) are ground truth: for starts, evaluation and experts only."""

    n: int
    image_size: int
    action_dim: int
    proprio_dim: int
    place_dim: int  # numbers of proprio, the first ones, that say where the hand is

    def reset(self, states: np.ndarray) -> None: ...
    def step(self, actions: np.ndarray) -> None: ...
    def states(self) -> np.ndarray: ...
    def proprio(self) -> np.ndarray: ...
    def proprio_of(self, states: np.ndarray) -> np.ndarray: ...
    def images(self) -> np.ndarray: ...
    def picture(self, states: np.ndarray) -> np.ndarray: ...

    def homing(self, proprio: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Actions (n, A), by `proprio` (n, P) now and when an attempt `ended`, that take the robot out of the picture within its family's `homing` steps; zeros where there are none."""
        ...

    def follow(self, proprio: np.ndarray, path: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Actions (n, A), clipped to [-1, 1], that lead along a path: those that were taken where `proprio` was `path` (n, P), and besides the way there from where it is now (n, P)."""
        ...

    def lost(self) -> np.ndarray:
        """Which copies broke, (n,) bool: a thing left the table, or a number is none. What happened in them does not count."""
        ...

    def starts(self, seeds: list[int] | np.ndarray) -> np.ndarray:
        """Start states (m, S) for the seeds, those of `sample`."""
        ...

    def sample(self, seeds: list[int] | np.ndarray, changes: int = 1, task: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Start and goal states (m, S) for the seeds, which differ by `changes` tasks, or by the named one."""
        ...

    def success(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Ground truth, a mask (...) of states and goals (..., S)."""
        ...

    def start_for(self, task: int, rng: np.random.Generator) -> np.ndarray:
        """A start (S,) from which task number `task` of the scene can be done; -1: any."""
        ...

    def elsewhere(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The state (S,) with the robot anywhere else where it touches nothing."""
        ...

    def expert(self, task: int) -> Policy:
        """Who does it; -1: a random policy."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class SceneSettings:
    """What scenes of a family are made with.

    Attributes: family: a name of `FAMILIES`; image_size: pixels a side; kinds: things that tabletop scenes are drawn from; yaw: whether actions at the desk
    turn the gripper (at PTP's they always do).
    """

    family: str = "tabletop"
    image_size: int = 48
    kinds: tuple[str, ...] = KINDS
    yaw: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown family."""
        if self.family not in FAMILIES:
            raise ValueError(f"unknown family {self.family!r}: there are {', '.join(FAMILIES)}")


@dataclass(frozen=True)
class Family:
    """What tells a family from the others.

    Attributes:
        env: Gymnasium id. description: a sentence. horizon, attempt: steps of a demonstration, and of an attempt, unless said otherwise.
        tasks: (scene's name, settings) -> names of what an expert can do there, by number; they may repeat.
        done: (scene's name, settings, task's number, first state, last state) -> whether it was done.
        open: (scene's name, copies, settings) -> copies of it.
        widths: settings -> numbers of an action, and of what the policy reads beside the picture.
        own: settings that only this family has: keyword arguments of its Gymnasium environment.
        homing: steps in which the robot leaves the picture after an attempt, as experts do (`SceneBatch.homing`); 0: it stays.
        long: task that takes other steps of an attempt -> how many.
    """

    env: str
    description: str
    horizon: int
    attempt: int
    tasks: Callable[[str, SceneSettings], tuple[str, ...]]
    done: Callable[[str, SceneSettings, int, np.ndarray, np.ndarray], bool]
    open: Callable[[str, int, SceneSettings], SceneBatch]
    widths: Callable[[SceneSettings], tuple[int, int]]
    own: tuple[str, ...] = ()
    homing: int = 0
    long: Mapping[str, int] = field(default_factory=dict)

    def steps(self, task: str = "", changes: int = 1) -> int:
        """Steps of an attempt at the named task, or, of no name, at goals in which so many things differ."""
        return self.long.get(task, self.attempt) if task else self.attempt * changes


def _other_end(scene: str, settings: SceneSettings, task: int, first: np.ndarray, last: np.ndarray) -> bool:
    return bool(abs(last[2 + task] - np.round(1 - first[2 + task])) <= SUCCESS_TOLERANCE)


def _desk(kind: str, env: str, description: str, attempt: int, long: Mapping[str, int]) -> Family:
    """A kind of desk as a family."""
    rules = DESKS[kind]

    def done(scene: str, settings: SceneSettings, task: int, first: np.ndarray, last: np.ndarray) -> bool:
        built = rules.scene(scene)
        return bool(rules.done(built, rules.tasks(built)[task], first, last))

    return Family(
        env, description, rules.horizon, attempt, lambda scene, settings: tuple(rules.tasks(rules.scene(scene))), done,
        lambda scene, n, settings: DeskBatch(scene, n, settings.image_size, settings.yaw, kind), lambda settings: widths(settings.yaw or rules.turns),
        () if rules.turns else ("yaw",), HOME_STEPS, long,
    )  # fmt: skip


FAMILIES = {
    "tabletop": Family(
        "imagoal/Tabletop-v0", "the tabletop scene family", 30, 25,
        lambda scene, settings: tuple(thing.kind for thing in sample_scene(scene, settings.kinds).things), _other_end,
        lambda scene, n, settings: TabletopBatch(scene, n, settings.image_size, settings.kinds), lambda settings: (2, 2), ("kinds",),
    ),
    "gate": Family(
        "imagoal/Gate-v0", "the gate scene family", GATE_HORIZON, GATE_HORIZON, lambda scene, settings: PARTS, _other_end,
        lambda scene, n, settings: TabletopBatch(scene, n, settings.image_size, gate=True), lambda settings: (2, 2), long=dict.fromkeys(GATE_TASKS, TASK_HORIZON),
    ),
    "desk": _desk("desk", "imagoal/Desk-v0", "the desk scene family", 65, {}),
    "ptp_desk": _desk("ptp_desk", "imagoal/PTPDesk-v0", "PTP's desk scene family", 65, dict.fromkeys(TARGETS, TARGET_HORIZON)),
}  # fmt: skip


def open_scene(scene: str, n: int, settings: SceneSettings) -> SceneBatch:
    """Copies of a scene. Raises ValueError for a name or settings that do not fit."""
    return FAMILIES[settings.family].open(scene, n, settings)
