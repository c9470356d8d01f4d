"""Physics of a tabletop scene: the MuJoCo model, its state vector, and where things stand as oriented boxes.

State vector (float32): hand x, hand y in metres, then one outcome q in [0, 1] per thing.
"""

from dataclasses import dataclass

import mujoco
import numpy as np

from envs.render import VISUAL_XML
from envs.scenes import HAND_ALPHA, Scene, Thing

HAND_RADIUS = 0.014  # metres
HAND_LIMIT = 0.235  # metres: the hand stays within this square
STEP_SIZE = 0.06  # metres the hand's target lies ahead for an action of 1; the hand goes four fifths of it in a step
SUBSTEPS, TIMESTEP = 5, 0.01  # one control step is 50 ms
SOLID, FLAT, BUMPING = 'conaffinity="1"', 'conaffinity="0"', 'contype="2" conaffinity="3"'  # what the hand bumps into, nothing, the hand and others of its kind
WALL_COLOR = (0.25, 0.25, 0.28)
WALL, BAR, GAP = 0.008, 0.006, 0.046  # metres: channel walls, handle bars (half widths), gap behind the handle


@dataclass(frozen=True)
class Box:
    """An oriented rectangle on the table: centre, yaw and half sizes in metres."""

    x: float
    y: float
    yaw: float
    hx: float
    hy: float

    def contains(self, points: np.ndarray, margin: float) -> np.ndarray:
        """Which of the points (..., 2) lie within `margin` of the box, as a mask (...)."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        dx, dy = points[..., 0] - self.x, points[..., 1] - self.y
        along, across = np.abs(c * dx + s * dy) - self.hx, np.abs(c * dy - s * dx) - self.hy
        return np.hypot(np.maximum(along, 0), np.maximum(across, 0)) < margin


def to_world(thing: Thing, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) of the thing's own frame, on the table."""
    c, s = np.cos(thing.yaw), np.sin(thing.yaw)
    x, y = points[..., 0], points[..., 1]
    return np.stack([thing.x + c * x - s * y, thing.y + s * x + c * y], -1)


def _local_boxes(thing: Thing, q: float) -> list[Box]:
    """The boxes a thing occupies at outcome q, in its own frame."""
    half, size = thing.travel / 2, thing.size
    shift = (q - 0.5) * thing.travel
    if thing.kind in ("block", "disc"):
        return [Box(shift, 0, 0, size, size)]
    if thing.kind == "puck":
        y, length = size + 0.004 + WALL, half + size
        return [Box(shift, 0, 0, size, size), Box(0, y, 0, length, WALL), Box(0, -y, 0, length, WALL)]
    if thing.kind == "lever":
        root = -size / 2
        return [Box(np.sin(shift) * size / 2, root + np.cos(shift) * size / 2, -shift, 0.011, size / 2)]
    front = -0.075 + q * thing.travel
    return [
        Box(-0.145, 0, 0, 0.065, size),
        Box(front - 0.03, 0, 0, 0.036, size - 0.006),
        Box(front + GAP / 2, 0, 0, GAP / 2, BAR),
        Box(front + GAP + BAR, 0, 0, BAR, 0.036),
    ]


def boxes(thing: Thing, q: float) -> list[Box]:
    """The boxes a thing occupies at outcome q, on the table."""
    out = []
    for box in _local_boxes(thing, q):
        x, y = to_world(thing, np.array([box.x, box.y]))
        out.append(Box(float(x), float(y), thing.yaw + box.yaw, box.hx, box.hy))
    return out


def _rgba(color: tuple[float, float, float], alpha: float = 1.0) -> str:
    return " ".join(f"{c:.3f}" for c in (*color, alpha))


def _thing_xml(i: int, thing: Thing) -> str:
    """A thing as MJCF: a fixed base and one moving body with joint `q{i}`."""
    color, base, half = _rgba(thing.color), _rgba(thing.base), thing.travel / 2
    slide = f'<joint name="q{i}" type="slide" axis="1 0 0" range="{-half} {half}" damping="8" frictionloss="2"/>'

    def geom(kind: str, size: str, pos: str, rgba: str, touch: str = SOLID) -> str:
        return f'<geom type="{kind}" size="{size}" pos="{pos}" rgba="{rgba}" mass="0.1" {touch}/>'

    s = thing.size
    if thing.kind == "block":
        fixed = geom("box", f"{half + s} 0.008 0.002", "0 0 0.002", base, touch=FLAT)
        moving = slide + geom("box", f"{s} {s} 0.022", "0 0 0.026", color)
    elif thing.kind == "disc":
        fixed = geom("box", f"{half} 0.005 0.001", "0 0 0.001", base, touch=FLAT)
        moving = slide + geom("cylinder", f"{s} 0.018", "0 0 0.02", color, touch=BUMPING)
    elif thing.kind == "puck":
        y, length = s + 0.004 + WALL, half + s
        fixed = geom("box", f"{length} {WALL} 0.015", f"0 {y} 0.015", base)
        fixed += geom("box", f"{length} {WALL} 0.015", f"0 {-y} 0.015", base)
        moving = slide + geom("cylinder", f"{s} 0.018", "0 0 0.02", color)
    elif thing.kind == "lever":
        fixed = geom("cylinder", "0.018 0.012", f"0 {-s / 2} 0.012", base, touch=FLAT)
        # turning by -z moves the tip towards +x, as q grows
        joint = f'<joint name="q{i}" type="hinge" axis="0 0 -1" range="{-half} {half}" damping="0.06" frictionloss="0.12"/>'
        bar = geom("box", f"0.011 {s / 2} 0.014", f"0 {s / 2} 0.03", color)
        moving = f'<body pos="0 {-s / 2} 0">{joint}{bar}</body>'
        return f'<body pos="{thing.x} {thing.y} 0" euler="0 0 {thing.yaw}">{fixed}{moving}</body>'
    else:
        front = -0.075 + half
        fixed = geom("box", f"0.065 {s} 0.024", "-0.145 0 0.024", base)
        moving = slide + geom("box", f"0.036 {s - 0.006} 0.02", f"{front - 0.03} 0 0.021", color)
        moving += geom("box", f"{GAP / 2} {BAR} 0.01", f"{front + GAP / 2} 0 0.02", color)
        moving += geom("box", f"{BAR} 0.036 0.014", f"{front + GAP + BAR} 0 0.02", color)
    return f'<body pos="{thing.x} {thing.y} 0" euler="0 0 {thing.yaw}">{fixed}<body>{moving}</body></body>'


def scene_xml(scene: Scene) -> str:
    """The scene as MJCF. Only hand against thing collides, the hand having contype 1 and things conaffinity 1, and disc against disc."""
    tilt_x, tilt_y, strength = scene.light
    light = " ".join([f"{strength:.3f}"] * 3)
    things = "".join(_thing_xml(i, thing) for i, thing in enumerate(scene.things))
    things += "".join(f'<geom type="box" size="{hx} {hy} 0.02" pos="{x} {y} 0.02" rgba="{_rgba(WALL_COLOR)}" {SOLID}/>' for x, y, hx, hy in scene.walls)
    axis = f'type="slide" damping="2" range="{-HAND_LIMIT} {HAND_LIMIT}"'
    return f"""<mujoco model="tabletop">
<compiler angle="radian"/>{VISUAL_XML}
<option timestep="{TIMESTEP}" integrator="implicitfast" gravity="0 0 0"/>
<default><geom contype="0" conaffinity="0" friction="0.2" solref="0.02 1"/></default>
<worldbody>
<light directional="true" pos="0 0 1" dir="{tilt_x:.3f} {tilt_y:.3f} -1" diffuse="{light}" ambient="0.3 0.3 0.3" specular="0 0 0" castshadow="false"/>
<camera name="view" pos="0 -0.1 0.66" xyaxes="1 0 0 0 0.989 0.15" fovy="46"/>
<geom type="box" size="0.4 0.4 0.01" pos="0 0 -0.01" rgba="{_rgba(scene.table)}"/>
{things}
<body name="hand" pos="0 0 0.03"><joint name="x" axis="1 0 0" {axis}/><joint name="y" axis="0 1 0" {axis}/>
<geom type="cylinder" size="{HAND_RADIUS} 0.03" rgba="{_rgba(scene.hand, HAND_ALPHA)}" mass="0.4" contype="1"/></body>
</worldbody>
<actuator><position joint="x" kp="1000" kv="40" forcerange="-25 25"/><position joint="y" kp="1000" kv="40" forcerange="-25 25"/></actuator>
</mujoco>"""


class Simulation:
    """One scene's model, and the operations on its states. Many `MjData` may share it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.model = mujoco.MjModel.from_xml_string(scene_xml(scene))
        joints = [self.model.joint(name).qposadr[0] for name in ("x", "y")]
        self._hand = np.array(joints)
        self._things = np.array([self.model.joint(f"q{i}").qposadr[0] for i in range(len(scene.things))])
        self._travel = np.array([thing.travel for thing in scene.things])
        self.state_dim = 2 + len(scene.things)

    def state(self, data: mujoco.MjData) -> np.ndarray:
        """The state vector (2 + things,) float32."""
        q = data.qpos[self._things] / self._travel + 0.5
        return np.concatenate([data.qpos[self._hand], q]).astype(np.float32)

    def set_state(self, data: mujoco.MjData, state: np.ndarray) -> None:
        """Puts the scene at rest in this state; the hand's target is where it stands."""
        mujoco.mj_resetData(self.model, data)
        data.qpos[self._hand] = state[:2]
        data.qpos[self._things] = (np.asarray(state[2:], np.float64) - 0.5) * self._travel
        data.ctrl[:] = state[:2]
        mujoco.mj_forward(self.model, data)

    def step(self, data: mujoco.MjData, action: np.ndarray) -> None:
        """One control step (50 ms): the hand's target is action * 6 cm ahead of where the hand is."""
        target = data.qpos[self._hand] + np.clip(action, -1, 1) * STEP_SIZE
        data.ctrl[:] = np.clip(target, -HAND_LIMIT, HAND_LIMIT)
        mujoco.mj_step(self.model, data, SUBSTEPS)

    def boxes(self, state: np.ndarray) -> list[Box]:
        """Everything the hand can bump into in this state."""
        things = [box for thing, q in zip(self.scene.things, state[2:], strict=True) for box in boxes(thing, float(q))]
        return things + [Box(x, y, 0.0, hx, hy) for x, y, hx, hy in self.scene.walls]

    def free(self, state: np.ndarray, points: np.ndarray, margin: float = 0.008) -> np.ndarray:
        """Which points (..., 2) the hand can stand at, as a mask (...)."""
        blocked = np.zeros(points.shape[:-1], bool)
        for box in self.boxes(state):
            blocked |= box.contains(points, HAND_RADIUS + margin)
        return ~blocked & (np.abs(points) <= HAND_LIMIT).all(-1)

    def sample_hand(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A place (2,) for the hand, uniform over the free table."""
        points = rng.uniform(-HAND_LIMIT, HAND_LIMIT, (64, 2))
        free = points[self.free(state, points)]
        if not len(free):
            raise ValueError(f"no room for the hand in scene {self.scene.name}")
        return free[0]

    def sample_start(self, rng: np.random.Generator) -> np.ndarray:
        """A start state: every thing at (or within 6% of) one of its two ends, the hand anywhere free."""
        return self.at_ends(rng.integers(0, 2, len(self.scene.things)), rng)

    def at_ends(self, ends: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A state with every thing at, or within 6% of, the given end (things,), 0 or 1, and the hand anywhere free."""
        return self._with_hand(self._near(ends.astype(np.float64), rng), rng)

    def sample_goal(self, start: np.ndarray, changes: int, rng: np.random.Generator) -> np.ndarray:
        """A goal state: `changes` of the things at their other end, the rest as they are, the hand anywhere free.

        Raises:
            ValueError: if there are fewer things than changes.
        """
        n = len(self.scene.things)
        if not 1 <= changes <= n:
            raise ValueError(f"changes must be between 1 and {n}, the number of things, not {changes}")
        q = start[2:].astype(np.float64).copy()
        for i in rng.permutation(n)[:changes]:
            q[i] = self._near(np.round(1 - q[i : i + 1]), rng)[0]
        return self._with_hand(q, rng)

    @staticmethod
    def _near(ends: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.abs(ends - rng.uniform(0, 0.06, ends.shape))

    def _with_hand(self, q: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        state = np.concatenate([[9.0, 9.0], q])
        state[:2] = self.sample_hand(state, rng)
        return state.astype(np.float32)


SUCCESS_TOLERANCE = 0.2  # share of a thing's travel


def outcome_success(state: np.ndarray, goal: np.ndarray, tolerance: float = SUCCESS_TOLERANCE) -> np.ndarray:
    """Ground truth, for evaluation only: every thing within `tolerance` of its goal outcome; the hand does not count.

    Args:
        state, goal: state vectors (..., 2 + things).

    Returns:
        A mask (...).
    """
    return (np.abs(np.asarray(state)[..., 2:] - np.asarray(goal)[..., 2:]) <= tolerance).all(-1)
