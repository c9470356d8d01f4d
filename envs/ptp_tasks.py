"""What can be done at PTP's desk: single tasks, which experts show, and target tasks of two, which nobody shows (thesis ch. 10).

Success reads ground truth and is for evaluation only.
"""

import numpy as np

from envs.desk_experts import CLEAR, Aims, StagedExpert, above, start_tip
from envs.desk_kind import DeskKind
from envs.desk_scenes import TRAVEL, shape_parts
from envs.desk_simulation import CABINET, DRAWER, GRIP, HELD, OBJECT, QUATERNION, TABLE, TIP, YAW, to_element, to_world
from envs.desk_tasks import DRAWER_TOLERANCE, RIM, drawer_middle, in_drawer, task_done
from envs.ptp_scenes import ROOM, PTPScene, sample_ptp
from envs.ptp_simulation import CAN, PTP_STATE, PTPSimulation

SINGLE = ("open_drawer", "close_drawer", "push_can", "take_out", "put_in")
TARGETS = {  # what is to be done, in this order
    "push_then_open": ("push_can", "open_drawer"),
    "close_then_push": ("close_drawer", "push_can"),
    "take_out_then_close": ("take_out", "close_drawer"),
}
NAMES = (*SINGLE, *TARGETS)
NEAR = 0.05  # metres between a thing and where the goal has it
TOUCH = 0.033  # metres from the tip to the middle of a can that the closed fingers touch
PLACED = 0.015  # metres around a place that a start may have the can
FLOOR, TOP = 0.009, 2 * CABINET[2]  # metres above the table, of a drawer's floor and a cabinet's top
HORIZON = 60  # steps of a demonstration
TARGET_HORIZON = 400  # steps of an attempt at a target task


# ---------------------------------------------------------------- where things are
def outline(scene: PTPScene) -> tuple[np.ndarray, float]:
    """The middle (2,) of the object's outline from its origin, in its own frame, and how far it reaches below it; metres."""
    parts = [(np.array(half), np.array(at)) for half, at in shape_parts(scene.desk.shape)]
    low, high = np.min([at - half for half, at in parts], 0), np.max([at + half for half, at in parts], 0)
    return (low[:2] + high[:2]) / 2, float(-low[2])


def heading(state: np.ndarray) -> float:
    """The object's yaw, radians."""
    x, y, z, w = state[QUATERNION]
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def turned(yaw: float) -> float:
    """The same for a gripper, whose fingers are alike: between plus and minus 90 degrees."""
    return float((yaw + np.pi / 2) % np.pi - np.pi / 2)


def middle(scene: PTPScene, yaw: float) -> np.ndarray:
    """From the object's origin to the middle of its outline when it is turned by yaw, (3,)."""
    (x, y), _ = outline(scene)
    return np.array([np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y, 0.0])


def on_top(scene: PTPScene, state: np.ndarray) -> np.ndarray:
    """Whether the object lies on the cabinet; states (..., PTP_STATE) -> (...)."""
    at = to_element(scene.drawer, np.asarray(state[..., OBJECT], np.float64))
    over = (np.abs(at[..., 0]) < CABINET[0] + RIM) & (np.abs(at[..., 1]) < CABINET[1] + RIM)
    return over & (at[..., 2] > TOP) & (at[..., 2] < TOP + 0.05) & (state[..., HELD] < 0.5)


def can_place(scene: PTPScene, state: np.ndarray) -> np.ndarray:
    """Which of its places the can is nearer to, 0 before the drawer and 1 beside it; states (..., PTP_STATE) -> (...)."""
    away = np.linalg.norm(state[..., None, CAN][..., :2] - scene.can.places, axis=-1)
    return np.asarray(away.argmin(-1))


# ---------------------------------------------------------------- what is done
def success(scene: PTPScene, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Ground truth, for evaluation only: the drawer within 3 cm of where the goal has it, the can within 5 cm, and the object as there: in the drawer, on the
    cabinet, or else within 5 cm. The arm does not count. States (..., PTP_STATE) -> (...)."""
    state, goal = np.asarray(state, np.float64), np.asarray(goal, np.float64)
    done = np.abs(state[..., DRAWER] - goal[..., DRAWER]) * TRAVEL <= DRAWER_TOLERANCE
    done &= np.linalg.norm(state[..., CAN] - goal[..., CAN], axis=-1) <= NEAR
    near = np.linalg.norm(state[..., OBJECT] - goal[..., OBJECT], axis=-1) <= NEAR
    kinds = [(in_drawer(scene.desk, state), in_drawer(scene.desk, goal)), (on_top(scene, state), on_top(scene, goal))]
    special = np.any([wanted for _, wanted in kinds], axis=0)
    return np.asarray(done & np.where(special, np.any([has & wanted for has, wanted in kinds], axis=0), near))


def done(scene: PTPScene, task: str, first: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Ground truth: whether a single task, not done in `first`, in which the episode began, is done in states (..., PTP_STATE)."""
    first, state = np.asarray(first, np.float64), np.asarray(state, np.float64)
    if task == "push_can":
        other = scene.can.places[1 - can_place(scene, first)]
        return np.asarray(np.linalg.norm(state[..., CAN][..., :2] - other, axis=-1) <= NEAR)
    if task == "take_out":
        return on_top(scene, state) & ~on_top(scene, first)
    if task == "put_in":
        return in_drawer(scene.desk, state) & ~in_drawer(scene.desk, first)
    return task_done(scene.desk, task, first, state)


def clean(scene: PTPScene, todo: list[str], first: np.ndarray, last: np.ndarray) -> bool:
    """Whether nothing was moved that none of these tasks is about."""
    can, drawer = np.linalg.norm(last[CAN] - first[CAN]), abs(last[DRAWER] - first[DRAWER]) * TRAVEL
    carried = {"take_out", "put_in"} & set(todo)
    kept = in_drawer(scene.desk, first) == in_drawer(scene.desk, last) and on_top(scene, first) == on_top(scene, last)
    return bool(("push_can" in todo or can < 0.02) and ({"open_drawer", "close_drawer"} & set(todo) or drawer < 0.01) and (carried or kept))


def to_do(scene: PTPScene, task: str, changes: int, rng: np.random.Generator) -> tuple[str, list[str]]:
    """The task that a start must allow, and tasks in order: those of the named one, or of one drawn: a single one for changes=1, a target for 2.
    Raises ValueError for more changes."""
    if changes not in (1, 2):
        raise ValueError(f"changes must be between 1 and 2, the number of things to do in scene {scene.name}, not {changes}")
    task = task or str(rng.choice(SINGLE if changes == 1 else list(TARGETS)))
    return task, list(TARGETS.get(task, (task,)))


# ---------------------------------------------------------------- starts
def sample_start(scene: PTPScene, rng: np.random.Generator, task: str | None = None) -> np.ndarray:
    """A start state (PTP_STATE,) float32, from which the task can be done, if one is named. The can stands before the drawer or beside it, before it only
    where the drawer is closed. The object lies on the cabinet, or in the drawer where that is open."""
    task = task or str(rng.choice(SINGLE))
    opened = task not in ("open_drawer", "push_can", "push_then_open")
    place = 0 if task == "push_then_open" else 1 if task != "push_can" else int(rng.integers(2))
    inside = opened and (task in ("take_out", "take_out_then_close") or (task != "put_in" and bool(rng.integers(2))))
    state = np.zeros(PTP_STATE)
    state[TIP] = start_tip(rng)
    state[YAW], state[GRIP] = rng.uniform(-0.3, 0.3), 1
    state[DRAWER] = abs(float(opened) - rng.uniform(0, 0.06))
    yaw = rng.uniform(-np.pi, np.pi)
    if inside:  # as put_in leaves it: there is room for the fingers beside it
        yaw = scene.drawer.yaw + rng.choice([0, np.pi]) + rng.uniform(-0.3, 0.3)
    state[QUATERNION] = 0, 0, np.sin(yaw / 2), np.cos(yaw / 2)
    below = outline(scene)[1]
    if inside:
        at = drawer_middle(scene.drawer, state[DRAWER]) + np.append(rng.uniform(-0.005, 0.005, 2), 0)
        at[2] = TABLE + FLOOR + below + 0.001
    else:
        at = to_world(scene.drawer, np.array([rng.uniform(-0.015, 0.015), rng.uniform(-0.015, 0.015), TOP + below + 0.001]))
    state[OBJECT] = at - middle(scene, yaw)
    state[CAN] = *(scene.can.places[place] + rng.uniform(-PLACED, PLACED, 2)), TABLE + scene.can.height / 2
    return state.astype(np.float32)


# ---------------------------------------------------------------- experts
class PTPExpert(StagedExpert):
    """Does a single task in stages: raise, turn and align, lower, then pull, push or grasp; then goes back to where it began. It reads the ground truth.

    Args: scene; task: one of `SINGLE`; noise: standard deviation of Gaussian noise on every action; yaw: whether actions have one, which they do.
    Raises ValueError for another task.
    """

    def __init__(self, scene: PTPScene, task: str, noise: float = 0.1, yaw: bool = True) -> None:
        if task not in SINGLE:
            raise ValueError(f"nobody shows {task}: there are {', '.join(SINGLE)}")
        super().__init__(noise, yaw)
        self.scene, self.task = scene, task

    def _stages(self) -> Aims:
        yield self._rise()
        e = self.scene.drawer
        self._turned = turned(e.yaw)
        if self.task == "open_drawer":
            yield from self._pull(e, 1.15)
        elif self.task == "close_drawer":
            yield from self._push(e, -0.03)
        elif self.task == "push_can":
            yield from self._slide()
        else:
            yield from self._carry()
        yield self._rise()
        self._turned = 0.0
        yield self._home()

    def _slide(self) -> Aims:
        """Pushes the can to its other place with the closed gripper: as it never turns, it goes where the fingers go."""
        target = self.scene.can.places[1 - can_place(self.scene, self._start)]
        way = target - self._start[CAN][:2]
        self._turned = turned(float(np.arctan2(way[1], way[0])))
        past, low = way / np.linalg.norm(way), TABLE + CLEAR
        u, v = self._rng.uniform(-1, 1, 2) * min(1.0, self.noise / 0.1)  # clones come to where they push from, and stop, less exactly
        beside, stop = 0.012 * u * np.array([-past[1], past[0]]), 0.010 + 0.006 * v

        def left(state: np.ndarray) -> float:
            """Metres that the can has yet to go."""
            return float((target - state[CAN][:2]) @ past)

        def on_line(far: float) -> np.ndarray:
            """A place so far before the target, on the straight way to it or beside it."""
            return np.append(target - far * past + beside, low)

        begin = np.append(self._start[CAN][:2] - (ROOM - 0.01) * past + beside, low)
        yield self._go(above(begin), closed=True, near=0.010)
        yield self._until(lambda state: abs(state[YAW] - turned(self._turned or 0.0)) < 0.1, lambda state: above(begin), closed=True)
        yield self._go(begin, closed=True, near=0.010, speed=0.7)
        yield self._until(lambda state: left(state) < stop, lambda state: on_line(left(state) + TOUCH - min(0.016, 0.5 * left(state) + 0.004)), closed=True, speed=0.5, most=45)
        away = np.append(-0.03 * past, 0.03)  # upwards too: of pushing and plain going back, shown side by side, clones learn to stand still
        yield self._until(lambda state: np.linalg.norm(state[TIP][:2] - state[CAN][:2]) > TOUCH + 0.025, lambda state: state[TIP] + away, closed=True)

    def _carry(self) -> Aims:
        """Takes the object to the cabinet's top, or into the drawer."""
        e, yaw = self.scene.drawer, heading(self._start)
        self._turned = turned(yaw)
        yield from self._pick(near=0.006, sink=0.018)
        below = outline(self.scene)[1]
        if self.task == "take_out":
            place, height = to_world(e, np.array([0.0, 0.0, TOP])), TABLE + TOP + below + 0.008
        else:  # along the drawer, where the fingers have room beside it
            place, height = drawer_middle(e, self._start[DRAWER]), TABLE + FLOOR + below + 0.015
            yaw += turned(e.yaw) - turned(yaw)
            self._turned = turned(e.yaw)
        yield from self._put(place - middle(self.scene, yaw), height)


PTP_DESK = DeskKind(
    horizon=HORIZON, turns=True, state=PTP_STATE, scene=sample_ptp, simulation=PTPSimulation, tasks=lambda scene: list(SINGLE), goals=lambda scene: list(NAMES),
    names=NAMES, to_do=to_do, start=sample_start, expert=PTPExpert, done=done, success=success, clean=clean,
)  # fmt: skip
