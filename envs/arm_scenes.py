"""Visual Reacher, Visual Pusher, Visual Multi-Object Pusher (RIG; seed 003, section 2.5) and the multi-colour pusher (CC-RIG,
section 3.5.1): a 7-joint arm above a table whose hand moves in the plane and pushes pucks.

The hand's place is the state, in metres from the arm's base; an action of 1 moves it 2 cm. The hand is driven in the
plane and cannot be held up; the arm's seven hinges follow it by inverse kinematics, in the picture only. A dynamic
arm welded to a mocap body follows as exactly, but costs six times the physics (1,060 and 6,130 control steps/s in one
trial), and its posture depends on its past (0.03 rad off after 400 steps), so that equal states give different pictures.
Pucks are pushed by MuJoCo's contacts and slide with viscous friction.
Every control step begins at rest, so a state is complete: no velocity is hidden from a picture.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy import ndimage

from envs.render import HIDDEN_GROUP, VISUAL_XML

STEP = 0.02  # metres the hand moves for an action of 1
SUBSTEPS, TIMESTEP = 10, 0.005  # one control step is 50 ms
HAND_RADIUS = 0.02  # metres
GAP = 0.008  # metres left free around things where a state is drawn
PER_THING = 0.03  # metres: success is a mean distance below this; hand + puck < 6 cm
SHOULDER, UPPER, FOREARM, WRIST = 0.32, 0.44, 0.44, 0.19  # metres: height, two link lengths, height of the wrist
ELEVATION = np.radians(62)  # of the camera, which looks at the arm from across the table
TABLE, HAND, ARM = (0.82, 0.80, 0.74), (0.07, 0.07, 0.10), (0.75, 0.28, 0.15)
ARM_ALPHA = 0.15  # see-through: it passes over pucks, and a latent model should spend itself on hand and pucks
PUCKS = ((0.10, 0.25, 0.95), (0.10, 0.70, 0.20))  # colours
AWAY = 5.0  # metres: where an absent puck is kept
Range = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Where things are on a table, in metres from the arm's base.

    Attributes:
        hand_x, hand_y: the box that the hand stays in; it starts and has its goals anywhere there.
        starts: for every puck the ranges of x and y that it starts in, where the hand can get behind it from all sides.
        goal_x, goal_y: the ranges of the pucks' goals.
        radius: of the pucks. view: half the width of what the camera sees.
    """

    hand_x: Range
    hand_y: Range
    starts: tuple[tuple[Range, Range], ...] = ()
    goal_x: Range = (0.0, 0.0)
    goal_y: Range = (0.0, 0.0)
    radius: float = 0.045
    view: float = 0.21

    @property
    def middle(self) -> np.ndarray:
        """The middle of the hand's box, (2,)."""
        return np.array([sum(self.hand_x), sum(self.hand_y)]) / 2


REACH = Layout((-0.2, 0.2), (0.55, 0.75), view=0.235)
_MIDDLE = ((-0.03, 0.03), (0.57, 0.63))
# RIG's goals lie in x +-0.2, of which a hand in x +-0.1 can reach 0.15
PUSH = Layout((-0.1, 0.1), (0.5, 0.7), (_MIDDLE,), (-0.15, 0.15), (0.5, 0.7))
# two pucks need room to get between and behind them; then x +-0.2 is reached too
_LEFT, _RIGHT = ((-0.088, -0.075), (0.57, 0.63)), ((0.075, 0.088), (0.57, 0.63))
PUSH_TWO = Layout((-0.15, 0.15), (0.5, 0.7), (_LEFT, _RIGHT), (-0.19, 0.19), (0.5, 0.7), radius=0.04, view=0.245)


def joint_angles(hand: np.ndarray) -> np.ndarray:
    """The arm's seven angles (7,) in radians for the hand at (x, y): elbow up, in the vertical plane of base and hand."""
    x, y = float(hand[0]), float(hand[1])
    yaw, reach, rise = np.arctan2(-x, y), np.hypot(x, y), WRIST - SHOULDER
    span = min(np.hypot(reach, rise), 0.999 * (UPPER + FOREARM))
    at_shoulder = np.arccos((UPPER**2 + span**2 - FOREARM**2) / (2 * UPPER * span))
    at_elbow = np.pi - np.arccos((UPPER**2 + FOREARM**2 - span**2) / (2 * UPPER * FOREARM))
    raised = np.arctan2(rise, reach) + at_shoulder
    return np.array([yaw, raised, 0.0, -at_elbow, 0.0, -np.pi / 2 - raised + at_elbow, 0.0])


def _rgba(color: tuple[float, float, float], alpha: float = 1.0) -> str:
    return " ".join(f"{c:.3f}" for c in (*color, alpha))


def physics_xml(pucks: int, radius: float) -> str:
    """Hand and pucks as spheres whose centres stay in one plane: discs, in the cheapest shape to collide.

    The hand weighs so much that pucks do not slow it.
    """
    slides = '<joint type="slide" axis="1 0 0" {0}/><joint type="slide" axis="0 1 0" {0}/>'
    bodies = "".join(
        f'<body>{slides.format(damping)}<geom type="sphere" size="{size}" mass="{mass}"/></body>'
        for size, mass, damping in [(HAND_RADIUS, 100, "")] + [(radius, 0.1, 'damping="3"')] * pucks
    )
    return f"""<mujoco><option timestep="{TIMESTEP}" integrator="implicitfast" gravity="0 0 0"/>
<default><geom friction="0.3" solref="0.01 1"/></default><worldbody>{bodies}</worldbody></mujoco>"""


def picture_xml(layout: Layout) -> str:
    """What the camera sees: table, pucks, hand and arm. Never stepped, only posed."""
    s, c, far = np.sin(ELEVATION), np.cos(ELEVATION), layout.view / np.tan(np.radians(15))
    x, y = layout.middle
    view = f'pos="{x} {y + far * c:.4f} {far * s:.4f}" xyaxes="-1 0 0 0 {-s:.4f} {c:.4f}" fovy="30"'
    slides = '<joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>'
    pucks = "".join(
        f'<body>{slides}<geom name="puck{i}" type="cylinder" size="{layout.radius} 0.012" pos="0 0 0.012" rgba="{_rgba(PUCKS[i])}"/></body>'
        for i in range(len(layout.starts))
    )
    lengths, axes = (0.0, UPPER / 2, UPPER / 2, FOREARM / 2, FOREARM / 2, WRIST - 0.06, 0.0), "zxyxyxy"
    thickness = (0.035, 0.03, 0.028, 0.025, 0.02, 0.016, 0.0)
    arm, ends = "", ""
    for i, (length, axis, thick) in enumerate(zip(lengths, axes, thickness, strict=True)):
        along = {"x": "1 0 0", "y": "0 1 0", "z": "0 0 1"}[axis]
        arm += f'<body pos="0 {lengths[i - 1] if i else 0} {0 if i else SHOULDER}"><joint type="hinge" axis="{along}"/>'
        if thick:  # the first is a ball at the shoulder
            shape = f'capsule" fromto="0 0 0 0 {length} 0' if length else "sphere"
            group = f'group="{HIDDEN_GROUP}"' if i < 3 else ""  # the upper arm is never in the picture: 30% faster
            arm += f'<geom type="{shape}" size="{thick}" {group} rgba="{_rgba(ARM, ARM_ALPHA)}"/>'
        ends += "</body>"
    arm += f'<geom type="cylinder" size="{HAND_RADIUS} 0.026" pos="0 0.032 0" euler="90 0 0" rgba="{_rgba(HAND)}"/>'
    return f"""<mujoco>{VISUAL_XML}<default><geom contype="0" conaffinity="0" mass="0.1"/></default><worldbody>
<light directional="true" pos="0 0 1" dir="0.25 -0.3 -1" diffuse="0.6 0.6 0.6" ambient="0.4 0.4 0.4" specular="0 0 0" castshadow="false"/>
<camera name="view" {view}/>
<geom type="box" size="1.5 1.5 0.01" pos="0 0 -0.01" rgba="{_rgba(TABLE)}"/>
{pucks}{arm}{ends}</worldbody></mujoco>"""


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
        pucks = len(layout.starts)
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
        self._physics = mujoco.MjModel.from_xml_string(physics_xml(pucks, layout.radius))
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
        """A start (S,): pucks where the hand can get behind them, the hand anywhere free."""
        places = [[rng.uniform(*xs), rng.uniform(*ys)] for xs, ys in self.layout.starts]
        scene: list[float] = []
        if self.counted:
            count = int(rng.integers(self.pucks + 1)) if self.objects is None else self.objects
            scene = rng.permutation(np.arange(self.pucks) < count).astype(float).tolist()
        elif self.varied:
            scene = sample_color(rng, (TABLE, HAND)).tolist()
        return self._assemble(np.array(places).reshape(-1, 2), np.array(scene), rng)

    def sample_goal(self, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A goal (S,) in the start's scene: hand and pucks uniform over their ranges, clear of each other."""
        while True:
            pucks = np.stack(
                [rng.uniform(*self.layout.goal_x, self.pucks), rng.uniform(*self.layout.goal_y, self.pucks)], -1
            )
            apart = np.linalg.norm(pucks[:, None] - pucks, axis=-1)[np.triu_indices(self.pucks, 1)]
            if (apart > 2 * self.layout.radius + GAP).all():
                return self._assemble(pucks, start[self.moving :], rng)

    def _assemble(self, pucks: np.ndarray, scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        there = scene > 0.5 if self.counted else np.ones(self.pucks, bool)
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
