"""2-D Point Navigation (CC-RIG; seed 003, section 3.5.2): a disc of random colour finds its way around the walls of a square
room, which has one of 15 layouts, to a place. Seen from above.

The state is x, y in metres from the room's middle, then the scene part: layout 0 to 14, and the disc's r, g, b.
An action of 1 moves the disc 5 cm; walls stop it and it slides along them (MuJoCo contacts without friction). Every
control step begins at rest.
"""

from functools import cache

import mujoco
import numpy as np

from envs.arm_scenes import sample_color
from envs.render import VISUAL_XML

ROOM = 0.5  # metres: half the room's side
RADIUS = 0.085  # metres, of the disc
THICK = 0.03  # metres: half a wall's thickness
STEP = 0.05  # metres for an action of 1
SUBSTEPS, TIMESTEP = 25, 0.002  # one control step is 50 ms; 2 mm at a time keeps the disc out of walls
TOLERANCE = 0.06  # metres: success
GAP = 0.01  # metres between the disc and walls where a place is drawn
FLOOR, WALLS = (0.10, 0.10, 0.12), (0.72, 0.70, 0.68)
Wall = tuple[float, float, float, float]  # centre x, y and half sizes


def _across(y: float, left: float, right: float) -> Wall:
    return (left + right) / 2, y, (right - left) / 2, THICK


def _up(x: float, bottom: float, top: float) -> Wall:
    return x, (bottom + top) / 2, THICK, (top - bottom) / 2


_U = 0.24
LAYOUTS: tuple[tuple[Wall, ...], ...] = (
    (_across(0, -0.25, 0.25),),
    (_up(0, -0.25, 0.25),),
    (_across(0, -ROOM, 0.2),),
    (_across(0, -0.2, ROOM),),
    (_up(0, -ROOM, 0.2),),
    (_up(0, -0.2, ROOM),),
    (_across(-_U, -_U, _U), _up(-_U, -_U, _U), _up(_U, -_U, _U)),
    (_across(_U, -_U, _U), _up(-_U, -_U, _U), _up(_U, -_U, _U)),
    (_up(-_U, -_U, _U), _across(-_U, -_U, _U), _across(_U, -_U, _U)),
    (_up(_U, -_U, _U), _across(-_U, -_U, _U), _across(_U, -_U, _U)),
    (_across(0, -0.27, 0.27), _up(0, -0.27, 0.27)),
    (_across(0, -0.25, 0.22), _up(0.22, 0, ROOM)),
    (_across(0.17, -ROOM, 0.15), _across(-0.17, -0.15, ROOM)),
    (_up(0.17, -ROOM, 0.15), _up(-0.17, -0.15, ROOM)),
    (_up(-0.2, -0.27, 0.27), _up(0.2, -0.27, 0.27), _across(0, -0.2, 0.2)),
)
_BORDER: tuple[Wall, ...] = tuple(
    wall
    for side in (-1, 1)
    for wall in ((0, side * (ROOM + THICK), ROOM + 2 * THICK, THICK), (side * (ROOM + THICK), 0, THICK, ROOM + 2 * THICK))
)


def room_xml(layout: int) -> str:
    """A room as MJCF; physics and picture are one model."""
    walls = "".join(
        f'<geom type="box" pos="{x} {y} 0.02" size="{hx} {hy} 0.02" rgba="{WALLS[0]} {WALLS[1]} {WALLS[2]} 1"/>'
        for x, y, hx, hy in (*_BORDER, *LAYOUTS[layout])
    )
    # contacts damped beyond critical: at 1 m/s the disc would bounce off by 7 mm
    fovy = 2 * np.degrees(np.arctan((ROOM + 1.4 * THICK) / 3))
    return f"""<mujoco>{VISUAL_XML}<option timestep="{TIMESTEP}" integrator="implicitfast" gravity="0 0 0"/>
<default><geom condim="1" solref="0.004 4"/></default><worldbody>
<light directional="true" pos="0 0 1" dir="0.2 -0.2 -1" diffuse="0.6 0.6 0.6" ambient="0.4 0.4 0.4" specular="0 0 0" castshadow="false"/>
<camera name="view" pos="0 0 3" xyaxes="1 0 0 0 1 0" fovy="{fovy:.3f}"/>
<geom type="box" size="1 1 0.01" pos="0 0 -0.01" contype="0" conaffinity="0" rgba="{FLOOR[0]} {FLOOR[1]} {FLOOR[2]} 1"/>
{walls}
<body pos="0 0 0.02"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>
<geom type="sphere" size="{RADIUS}" mass="1" group="5"/>
<geom name="point" type="cylinder" size="{RADIUS} 0.01" contype="0" conaffinity="0" mass="0"/></body>
</worldbody></mujoco>"""


def blocked(layout: int, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Which points (..., 2) the disc's middle cannot be at, as a mask (...)."""
    room = RADIUS + margin
    out = (np.abs(points) > ROOM - room).any(-1)
    for x, y, hx, hy in LAYOUTS[layout]:
        beyond = np.maximum(np.abs(points - np.array([x, y])) - np.array([hx, hy]), 0)
        out |= np.linalg.norm(beyond, axis=-1) < room
    return out


class Navigation:
    """The rooms: their states, how the disc moves, how they look, and how far a state is from a goal.

    Args:
        layouts: the numbers of the layouts that episodes are drawn from.

    Raises:
        ValueError: for a layout that is not between 0 and 14, or none.
    """

    name, horizon, varied = "navigation", 50, True
    moving, scene_dims, state_dim = 2, 4, 6
    low = np.array([-ROOM, -ROOM, 0, 0, 0, 0], np.float32)
    high = np.array([ROOM, ROOM, len(LAYOUTS) - 1, 1, 1, 1], np.float32)

    def __init__(self, layouts: tuple[int, ...] = tuple(range(len(LAYOUTS)))) -> None:
        if not layouts or any(k not in range(len(LAYOUTS)) for k in layouts):
            raise ValueError(f"layouts must be numbers between 0 and {len(LAYOUTS) - 1}, not {layouts!r}")
        self.layouts = tuple(layouts)
        self._room = cache(self._build)  # rooms are built when first met

    @staticmethod
    def _build(layout: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = mujoco.MjModel.from_xml_string(room_xml(layout))
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        return model, data

    def check(self, states: np.ndarray) -> None:
        """Raises ValueError where the scene parts of states (m, 6) are not such."""
        if not np.isin(states[:, 2], range(len(LAYOUTS))).all():
            raise ValueError(f"navigation: the third number of a state is its layout, 0 to {len(LAYOUTS) - 1}")
        if not ((states[:, 3:] >= 0) & (states[:, 3:] <= 1)).all():
            raise ValueError("navigation: the last 3 numbers of a state are a colour in [0, 1]")

    def advance(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """The state (6,) one control step after this one."""
        model, data = self._room(int(state[2]))
        data.qpos[:] = state[:2]
        data.qvel[:] = STEP * action / (SUBSTEPS * TIMESTEP)
        data.qacc_warmstart[:] = 0  # nothing is left of other copies
        mujoco.mj_step(model, data, SUBSTEPS)
        after = state.copy()
        after[:2] = data.qpos
        return after

    def pose(self, state: np.ndarray) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """What to draw for a state; the next call changes it."""
        model, data = self._room(int(state[2]))
        data.qpos[:] = state[:2]
        mujoco.mj_kinematics(model, data)
        model.geom("point").rgba[:] = *state[3:], 1
        return model, data

    def _free(self, layout: int, rng: np.random.Generator) -> np.ndarray:
        points = rng.uniform(-ROOM, ROOM, (64, 2))
        free = points[~blocked(layout, points, GAP)]
        return free[0] if len(free) else self._free(layout, rng)

    def sample_start(self, rng: np.random.Generator) -> np.ndarray:
        """A start (6,): any layout, any colour that shows, anywhere free."""
        layout = int(rng.choice(self.layouts))
        color = sample_color(rng, (FLOOR, WALLS))
        return np.concatenate([self._free(layout, rng), [layout], color]).astype(np.float32)

    def sample_goal(self, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A goal (6,) anywhere free in the start's room, which is connected."""
        return np.concatenate([self._free(int(start[2]), rng), start[2:]]).astype(np.float32)

    def distances(self, states: np.ndarray, goals: np.ndarray) -> dict[str, np.ndarray]:
        """Metres between states and goals (..., 6): `point` (...), straight through walls."""
        return {"point": np.linalg.norm((states - goals)[..., :2], axis=-1)}

    def success(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Whether the disc is within 6 cm of the goal, (...)."""
        return self.distances(states, goals)["point"] < TOLERANCE

    def oracle(self, states: np.ndarray) -> np.ndarray:
        """x and y (..., 2) float32 in [-1, 1]."""
        return (states[..., :2] / ROOM).astype(np.float32)
