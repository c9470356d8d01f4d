"""What can be done at a desk: the tasks, when they are done by the simulator's state, starts from which they can be, and scripted experts.

Success reads ground truth and is for evaluation only.
"""

import itertools

import numpy as np

from envs.desk_experts import Aims, StagedExpert, above, start_tip
from envs.desk_kind import DeskKind
from envs.desk_scenes import TRAVEL, DeskScene, Element, sample_desk
from envs.desk_simulation import (
    BUTTON_DRAWER,
    CABINET,
    DRAWER,
    DRAWER_BOX,
    FRONT,
    GRIP,
    HELD,
    OBJECT,
    QUATERNION,
    STATE,
    TABLE,
    TIP,
    TRAY_BOX,
    TRAY_HEIGHT,
    DeskSimulation,
    to_element,
    to_world,
)  # fmt: skip

TASKS = ("open_drawer", "close_drawer", "press_button", "grasp", "place_in_drawer", "place_in_tray")
DRAWER_TOLERANCE = 0.03  # metres between a drawer and where the goal has it
OBJECT_TOLERANCE = 0.05  # metres between the object and where the goal has it, where nothing holds it
LIFTED = 0.03  # metres above where it lay
RIM = 0.012  # metres beyond a container's inside that still count


# ---------------------------------------------------------------- where things are
def drawer_middle(e: Element, q: float) -> np.ndarray:
    """The middle of the space in a drawer, on its floor, (3,) in the world."""
    return to_world(e, np.array([CABINET[0] - 0.012 - DRAWER_BOX[0] + q * TRAVEL, 0.0, 0.02]))


def in_drawer(scene: DeskScene, state: np.ndarray) -> np.ndarray:
    """Whether the object lies in the handle's drawer, whatever its opening; states (..., STATE) -> (...)."""
    if scene.drawer is None or scene.shape < 0:
        return np.zeros(state.shape[:-1], bool)
    at = to_element(scene.drawer, state[..., OBJECT]) - np.array([FRONT - 0.008 - DRAWER_BOX[0], 0, 0])
    at[..., 0] -= state[..., DRAWER] * TRAVEL
    inside = (np.abs(at[..., 0]) < DRAWER_BOX[0] + RIM) & (np.abs(at[..., 1]) < DRAWER_BOX[1] + RIM)
    return inside & (at[..., 2] < 0.07) & (state[..., HELD] < 0.5)


def in_tray(scene: DeskScene, state: np.ndarray) -> np.ndarray:
    """Whether the object lies in the tray or box; states (..., STATE) -> (...)."""
    if scene.tray is None or scene.shape < 0:
        return np.zeros(state.shape[:-1], bool)
    at = to_element(scene.tray, state[..., OBJECT])
    inside = (np.abs(at[..., 0]) < TRAY_BOX[0] + RIM) & (np.abs(at[..., 1]) < TRAY_BOX[1] + RIM)
    return inside & (at[..., 2] < 2 * TRAY_HEIGHT[scene.deep] + 0.03) & (state[..., HELD] < 0.5)


def lifted(state: np.ndarray) -> np.ndarray:
    """Whether the object is held above the table; states (..., STATE) -> (...)."""
    return (state[..., HELD] > 0.5) & (state[..., OBJECT][..., 2] > TABLE + 0.02 + LIFTED)


def success(scene: DeskScene, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Ground truth, for evaluation only: drawers within 3 cm of where the goal has them, the object where the goal has it: held, in the drawer,
    in the tray, or within 5 cm. The arm does not count. States (..., STATE) -> (...)."""
    state, goal = np.asarray(state, np.float64), np.asarray(goal, np.float64)
    done = np.ones(np.broadcast_shapes(state.shape, goal.shape)[:-1], bool)
    for index in (DRAWER, BUTTON_DRAWER):
        done &= np.abs(state[..., index] - goal[..., index]) * TRAVEL <= DRAWER_TOLERANCE
    if scene.shape < 0:
        return done
    near = np.linalg.norm(state[..., OBJECT] - goal[..., OBJECT], axis=-1) <= OBJECT_TOLERANCE
    kinds = [(lifted(state), lifted(goal)), (in_drawer(scene, state), in_drawer(scene, goal)), (in_tray(scene, state), in_tray(scene, goal))]
    special = np.any([wanted for _, wanted in kinds], axis=0)
    return done & np.where(special, np.any([has & wanted for has, wanted in kinds], axis=0), near)


def task_done(scene: DeskScene, task: str, first: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Ground truth: whether a task, not done in `first`, in which the episode began, is done in states (..., STATE)."""
    first, state = np.asarray(first, np.float64), np.asarray(state, np.float64)
    moved = 1 - DRAWER_TOLERANCE / TRAVEL
    if task == "open_drawer":
        return (state[..., DRAWER] >= moved) & (first[..., DRAWER] < moved)
    if task == "close_drawer":
        return (state[..., DRAWER] <= 1 - moved) & (first[..., DRAWER] > 1 - moved)
    if task == "press_button":
        return np.abs(state[..., BUTTON_DRAWER] - first[..., BUTTON_DRAWER]) >= moved
    if task == "grasp":
        return lifted(state) & ~lifted(first)
    inside = in_drawer if task == "place_in_drawer" else in_tray
    return inside(scene, state) & ~inside(scene, first)


def possible(scene: DeskScene) -> list[str]:
    """The tasks that a scene allows."""
    has = {
        "open_drawer": scene.drawer, "close_drawer": scene.drawer, "press_button": scene.button_drawer, "grasp": scene.shape >= 0,
        "place_in_drawer": scene.drawer and scene.shape >= 0, "place_in_tray": scene.tray and scene.shape >= 0,
    }  # fmt: skip
    return [task for task in TASKS if has[task]]


def whole_scenes(split: str, count: int) -> list[str]:
    """The first scenes of a split in which every task can be done."""
    names = (f"{split}/{number}" for number in itertools.count())
    return list(itertools.islice((name for name in names if len(possible(sample_desk(name))) == len(TASKS)), count))


# ---------------------------------------------------------------- starts
def free_place(scene: DeskScene, rng: np.random.Generator) -> np.ndarray:
    """A place (2,) on the table for the object: clear of the cabinets, their open drawers and the tray."""
    elements = [(e, 0.835 if e is not scene.tray else e.x + 0.09) for e in (scene.drawer, scene.button_drawer, scene.tray) if e]
    for _ in range(200):
        x, y = rng.uniform(0.68, 0.84), rng.uniform(-0.16, 0.16)
        if all(abs(y - e.y) > 0.085 or x > limit for e, limit in elements):
            return np.array([x, y])
    return np.array([0.84, float(rng.uniform(-0.16, 0.16))])


def displaced(task: str, first: np.ndarray, last: np.ndarray) -> bool:
    """Whether the object was moved by a task that is about something else."""
    about_it = task in ("grasp", "place_in_drawer", "place_in_tray")
    return not about_it and bool(np.linalg.norm(last[OBJECT][:2] - first[OBJECT][:2]) > 0.02)


def sample_start(scene: DeskScene, rng: np.random.Generator, task: str | None = None) -> np.ndarray:
    """A start state (STATE,) float32: drawers open or closed, the object on the table, the gripper open above it all; one from which the task
    can be done, if one is named."""
    state = np.zeros(STATE)
    state[TIP] = start_tip(rng)
    state[GRIP] = 1
    ends = rng.integers(0, 2, 2)
    if task in ("open_drawer", "close_drawer", "place_in_drawer"):
        ends[0] = task != "open_drawer"
    if scene.drawer:
        state[DRAWER] = abs(ends[0] - rng.uniform(0, 0.06))
    if scene.button_drawer:
        state[BUTTON_DRAWER] = ends[1]
    if scene.shape >= 0:
        state[OBJECT] = *free_place(scene, rng), TABLE + 0.03
        turn = rng.uniform(-np.pi, np.pi)
        state[QUATERNION] = 0, 0, np.sin(turn / 2), np.cos(turn / 2)
    return state.astype(np.float32)


# ---------------------------------------------------------------- experts
class DeskExpert(StagedExpert):
    """Does a task in stages: raise, align, lower, then pull, push, press or grasp; then rises, and unless it holds the object goes back to where it began: a
    goal's picture shows things and not the arm. It reads the ground truth.

    Args: scene; task: one of `possible(scene)`; noise: standard deviation of Gaussian noise on every action; yaw: whether actions have one.
    Raises ValueError for a task that the scene does not allow.
    """

    def __init__(self, scene: DeskScene, task: str, noise: float = 0.1, yaw: bool = False) -> None:
        if task not in possible(scene):
            raise ValueError(f"scene {scene.name} does not allow {task}: it has {', '.join(possible(scene))}")
        super().__init__(noise, yaw)
        self.scene, self.task = scene, task

    def _stages(self) -> Aims:
        yield self._rise()
        if self.task == "press_button":
            yield from self._press()
        elif self.task in ("open_drawer", "close_drawer"):
            assert self.scene.drawer is not None
            yield from (self._pull if self.task == "open_drawer" else self._push)(self.scene.drawer)
        else:
            yield from self._pick()
            if self.task != "grasp":
                yield from self._put(self._container(), TABLE + 0.095)
        yield self._rise(closed=self.task == "grasp")
        if self.task != "grasp":
            yield self._home()

    def _container(self) -> np.ndarray:
        """The middle (3,) of what the object shall lie in."""
        e = self.scene.drawer if self.task == "place_in_drawer" else self.scene.tray
        assert e is not None
        return drawer_middle(e, self._start[DRAWER]) if self.task == "place_in_drawer" else to_world(e, np.array([0.0, 0.0, 0.02]))

    def _press(self) -> Aims:
        e = self.scene.button_drawer
        assert e is not None
        top = to_world(e, np.array([0.0, 0.0, 2 * CABINET[2] + 0.018]))
        begun = self._start[BUTTON_DRAWER] > 0.5
        yield self._go(above(top, top[2] + 0.05), closed=True, near=0.010)
        yield self._until(lambda state: abs(state[BUTTON_DRAWER] - float(begun)) > 0.15, lambda state: top - np.array([0, 0, 0.03]), closed=True, speed=0.5)


def to_do(scene: DeskScene, task: str, changes: int, rng: np.random.Generator) -> tuple[str, list[str]]:
    """The task that a start must allow, and tasks in order: the named one, and others drawn. Raises ValueError for too many changes."""
    tasks = possible(scene)
    if not 1 <= changes <= len(tasks):
        raise ValueError(f"changes must be between 1 and {len(tasks)}, the number of things to do in scene {scene.name}, not {changes}")
    todo = [task] if task else []
    todo += [str(t) for t in rng.permutation([t for t in tasks if t not in todo])][: changes - len(todo)]
    return todo[0], todo


DESK = DeskKind(
    horizon=75, turns=False, state=STATE, scene=sample_desk, simulation=DeskSimulation, tasks=possible, goals=possible, names=TASKS, to_do=to_do,
    start=sample_start, expert=DeskExpert, done=task_done, success=success, clean=lambda scene, todo, first, last: len(todo) > 1 or not displaced(todo[0], first, last),
)  # fmt: skip
