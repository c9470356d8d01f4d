"""Visual Reacher, Visual Pusher, Visual Multi-Object Pusher (RIG; seed 003, section 2.5) and the multi-colour pusher (CC-RIG,
section 3.5.1): a 7-joint arm above a table whose hand moves in the plane and pushes pucks.

The hand's place is the state, in metres from the arm's base; an action of 1 moves it 2 cm. The hand is driven in the
plane and cannot be held up; the arm's seven hinges follow it by inverse kinematics, in the picture only. A dynamic
arm welded to a mocap body follows as exactly, but costs six times the physics (1,060 and 6,130 control steps/s in one
trial), and its posture depends on its past (0.03 rad off after 400 steps), so that equal states give different pictures.
Pucks are pushed by MuJoCo's contacts and slide with viscous friction.
Every control step begins at rest, so a state is complete: no velocity is hidden from a picture.
"""

import mujoco
import numpy as np
from scipy import ndimage

from envs.arm_models import (
    HAND_RADIUS,
    SUBSTEPS,
    TIMESTEP,
    Layout,
    joint_angles,
    physics_xml,
    picture_xml,
)

STEP = 0.02  # metres the hand moves for an action of 1
GAP = 0.008  # metres left free around things where a state is drawn
PER_THING = 0.03  # metres: success is a mean distance below this; hand + puck < 6 cm
AWAY = 5.0  # metres: where an absent puck is kept


class ArmScenes:
    """The scenes with an arm: their states, how they move, how they look, and how far a state is from a goal.

    A state holds the hand's x and y, then every puck's, in metres; then the scene part: with two pucks a 1 for each that
    is present (an absent one is said to be in the middle of the table), with a puck of many colours its r, g, b in [0, 1].

    Args:
        name: of the family. layout: of its table. horizon: suggested steps of an episode.
        varied: whether the puck has another colour in each episode.
        objects: with two pucks, how many of them are there; None for a number drawn in every episode.

    Raises:
        ValueError: if `objects` is not between 0 and the number of pucks.
    """

    def __init__(self, name: str, layout: Layout, horizon: int, varied: bool = False, objects: int | None = None) -> None:
        pucks = layout.pucks
        self.counted = pucks > 1  # whether the number of pucks may vary
        if objects is not None and (isinstance(objects, bool) or objects not in range(pucks + 1)):
            raise ValueError(f"objects must be between 0 and {pucks}, or None for any number, not {objects!r}")
        self.name, self.layout, self.horizon, self.varied, self.objects = name, layout, horizon, varied, objects
        self.pucks = pucks
        self.scene_dims = pucks if self.counted else 3 if varied else 0
        self.moving = 2 + 2 * pucks
        self.state_dim = self.moving + self.scene_dims
        reach = np.array([1.0, 2.0])  # no thing can be pushed beyond
        self.low = np.concatenate([np.tile(-reach, pucks + 1), np.zeros(self.scene_dims)]).astype(np.float32)
        self.high = np.concatenate([np.tile(reach, pucks + 1), np.ones(self.scene_dims)]).astype(np.float32)
        self._low = np.array([layout.hand_x[0], layout.hand_y[0]])
        self._high = np.array([layout.hand_x[1], layout.hand_y[1]])
        self._physics = mujoco.MjModel.from_xml_string(physics_xml(layout))
        self._data = mujoco.MjData(self._physics)
        self.picture_model = mujoco.MjModel.from_xml_string(picture_xml(layout))
        self._posed = mujoco.MjData(self.picture_model)
        mujoco.mj_forward(self.picture_model, self._posed)

    def check(self, states: np.ndarray) -> None:
        """Raises ValueError where the scene parts of states (m, S) are not such."""
        part = states[:, self.moving :]
        if self.counted and not np.isin(part, (0, 1)).all():
            raise ValueError(f"{self.name}: the last {self.scene_dims} numbers of a state say which pucks are there, 0 or 1")
        if not ((part >= 0) & (part <= 1)).all():
            raise ValueError(f"{self.name}: the last {self.scene_dims} numbers of a state are a colour in [0, 1]")

    def _there(self, states: np.ndarray) -> np.ndarray:
        """Which pucks are there, (..., pucks)."""
        if self.counted:
            return states[..., self.moving :] > 0.5
        return np.ones((*states.shape[:-1], self.pucks), bool)

    def _places(self, state: np.ndarray) -> np.ndarray:
        """Where hand and pucks are (2 + 2 pucks,), absent pucks away."""
        places = state[: self.moving].astype(np.float64)
        for i, there in enumerate(self._there(state)):
            if not there:
                places[2 + 2 * i : 4 + 2 * i] = AWAY + i, AWAY
        return places

    def advance(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """The state (S,) one control step after this one."""
        data, places = self._data, self._places(state)
        target = np.clip(places[:2] + STEP * action, self._low, self._high)
        data.qpos[:] = places
        data.qvel[:] = 0
        data.qvel[:2] = (target - places[:2]) / (SUBSTEPS * TIMESTEP)
        data.qacc_warmstart[:] = 0  # nothing is left of other copies
        mujoco.mj_step(self._physics, data, SUBSTEPS)
        after = state.copy()
        after[:2] = np.clip(data.qpos[:2], self._low, self._high)
        for i, there in enumerate(self._there(state)):
            if there:
                after[2 + 2 * i : 4 + 2 * i] = data.qpos[2 + 2 * i : 4 + 2 * i]
        return after

    def pose(self, state: np.ndarray) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """What to draw for a state; the next call changes it."""
        places = self._places(state)
        data = self._posed
        data.qpos[:] = np.concatenate([places[2:], joint_angles(places[:2])])
        mujoco.mj_kinematics(self.picture_model, data)
        if self.varied:
            self.picture_model.geom("puck0").rgba[:3] = state[self.moving :]
        return self.picture_model, data

    def _free_hand(self, pucks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A place (2,) for the hand in its box, off the pucks (k, 2) and not in a pocket behind one of them."""
        room = self.layout.radius + HAND_RADIUS + GAP
        axes = [np.linspace(low, high, 25) for low, high in (self.layout.hand_x, self.layout.hand_y)]
        cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        free = (np.linalg.norm(cells[:, :, None] - pucks, axis=-1) > room - GAP).all(-1)
        parts, _ = ndimage.label(free)
        large = [k for k, size in enumerate(np.bincount(parts.ravel())) if k and size > 0.2 * free.sum()]
        while True:
            hand = rng.uniform(self._low, self._high)
            nearest = parts[tuple(int(np.abs(axis - h).argmin()) for axis, h in zip(axes, hand, strict=True))]
            if nearest in large and (np.linalg.norm(pucks - hand, axis=-1) > room).all():
                return hand

    def sample_start(self, rng: np.random.Generator) -> np.ndarray:
        """A start (S,): hand and pucks uniform over their ranges, clear of each other; and a scene."""
        scene: list[float] = []
        look = self.layout.look
        if self.counted:
            count = int(rng.integers(self.pucks + 1)) if self.objects is None else self.objects
            scene = rng.permutation(np.arange(self.pucks) < count).astype(float).tolist()
        elif self.varied:
            scene = sample_color(rng, (look.table, look.tray, look.hand)).tolist()
        return self._assemble(np.array(scene), rng)

    def sample_goal(self, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A goal (S,) in the start's scene, drawn as starts are."""
        return self._assemble(start[self.moving :], rng)

    def _assemble(self, scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        there = scene > 0.5 if self.counted else np.ones(self.pucks, bool)
        while True:
            pucks = np.stack([rng.uniform(*along, self.pucks) for along in (self.layout.tray_x, self.layout.tray_y)], -1)
            apart = np.linalg.norm(pucks[:, None] - pucks, axis=-1)[np.triu_indices(self.pucks, 1)]
            if (apart > 2 * self.layout.radius + GAP).all():
                break
        hand = self._free_hand(pucks[there], rng)
        pucks = np.where(there[:, None], pucks, self.layout.middle)
        return np.concatenate([hand, pucks.ravel(), scene]).astype(np.float32)

    def distances(self, states: np.ndarray, goals: np.ndarray) -> dict[str, np.ndarray]:
        """Metres between states and goals (..., S): `hand` and `puck` (or `puck1`, `puck2`; 0 for an absent one), each (...)."""
        apart = (states - goals)[..., : self.moving]
        apart = np.linalg.norm(apart.reshape(*apart.shape[:-1], -1, 2), axis=-1)
        names = ["puck"] if self.pucks == 1 else [f"puck{i + 1}" for i in range(self.pucks)]
        there = self._there(np.broadcast_to(states, np.broadcast_shapes(states.shape, goals.shape)))
        return {"hand": apart[..., 0]} | {name: apart[..., 1 + i] * there[..., i] for i, name in enumerate(names)}

    def success(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Whether the distances of hand and pucks sum to less than 3 cm for each of them, (...)."""
        there = self._there(np.broadcast_to(states, np.broadcast_shapes(states.shape, goals.shape)))
        return np.sum(list(self.distances(states, goals).values()), axis=0) < PER_THING * (1 + there.sum(-1))

    def oracle(self, states: np.ndarray) -> np.ndarray:
        """Hand and pucks (..., 2 + 2 pucks) float32, about [-1, 1]: from the middle of the box, over its larger half side."""
        half = (self._high - self._low).max() / 2
        return ((states[..., : self.moving] - np.tile(self.layout.middle, self.pucks + 1)) / half).astype(np.float32)


def sample_color(rng: np.random.Generator, background: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """A random colour (3,), uniform over RGB but for those too like one of `background` to be seen."""
    while True:
        color = rng.uniform(0, 1, 3)
        if (np.linalg.norm(np.array(background) - color, axis=-1) > 0.35).all():
            return color
