"""The models of the scenes with an arm (`envs.arm_scenes`): where things are, the physics, and what the camera sees."""

from dataclasses import dataclass, replace

import numpy as np

from envs.render import HIDDEN_GROUP, VISUAL_XML

SUBSTEPS, TIMESTEP = 10, 0.005  # one control step is 50 ms
HAND_RADIUS = 0.03  # metres
RIM = 0.05  # metres: half the thickness of the tray's walls in the physics; nothing squeezes through them
SHOULDER, UPPER, FOREARM, WRIST = 0.32, 0.44, 0.44, 0.19  # metres: height, two link lengths, height of the wrist
ELEVATION = np.radians(62)  # of the camera, which looks at the arm from across the table
ARM = (0.75, 0.28, 0.15)
ARM_ALPHA = 0.15  # see-through: it passes over pucks, and a latent model should spend itself on hand and pucks
PUCKS = ((0.10, 0.25, 0.95), (0.10, 0.70, 0.20))  # colours
Range = tuple[float, float]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """Colours of what is the same in all episodes."""

    table: Color
    tray: Color
    hand: Color


LIGHT = Look((0.82, 0.80, 0.74), (0.88, 0.86, 0.81), (0.07, 0.07, 0.10))
# for a puck of any colour: most are brighter than this tray and the hand is darker, so that a latent model sees where each is before it knows the colour
GREY = Look((0.45, 0.45, 0.43), (0.30, 0.30, 0.32), (0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Layout:
    """Where things are on a table, in metres from the arm's base.

    Attributes:
        hand_x, hand_y: the box that the hand stays in; it starts and has its goals anywhere there.
        pucks: how many. radius: of each of them.
        tray_x, tray_y: where their centres can be: a tray with a rim that stops pucks and that the hand passes over. They start and
            have their goals anywhere there. The hand's box is larger by more than hand and puck, so that the hand gets
            behind a puck wherever it lies, and no push is for ever.
        view: half the width of what the camera sees.
        look: its colours.
    """

    hand_x: Range
    hand_y: Range
    pucks: int = 0
    tray_x: Range = (0.0, 0.0)
    tray_y: Range = (0.0, 0.0)
    radius: float = 0.03
    view: float = 0.2
    look: Look = LIGHT

    @property
    def middle(self) -> np.ndarray:
        """The middle of the hand's box, (2,)."""
        return np.array([sum(self.hand_x), sum(self.hand_y)]) / 2

    @property
    def tray(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle (2,) and half sides (2,) of the tray's floor, to the rim."""
        x, y = self.tray_x, self.tray_y
        return np.array([sum(x), sum(y)]) / 2, np.array([x[1] - x[0], y[1] - y[0]]) / 2 + self.radius


REACH = Layout((-0.2, 0.2), (0.55, 0.75), view=0.235)
PUSH = Layout((-0.165, 0.165), (0.435, 0.765), 1, (-0.08, 0.08), (0.52, 0.68), radius=0.045, view=0.225)
PUSH_COLORS = replace(PUSH, look=GREY)
PUSH_TWO = Layout((-0.19, 0.19), (0.42, 0.78), 2, (-0.11, 0.11), (0.5, 0.7), radius=0.04, view=0.25)


def joint_angles(hand: np.ndarray) -> np.ndarray:
    """The arm's seven angles (7,) in radians for the hand at (x, y): elbow up, in the vertical plane of base and hand."""
    x, y = float(hand[0]), float(hand[1])
    yaw, reach, rise = np.arctan2(-x, y), np.hypot(x, y), WRIST - SHOULDER
    span = min(np.hypot(reach, rise), 0.999 * (UPPER + FOREARM))
    at_shoulder = np.arccos((UPPER**2 + span**2 - FOREARM**2) / (2 * UPPER * span))
    at_elbow = np.pi - np.arccos((UPPER**2 + FOREARM**2 - span**2) / (2 * UPPER * FOREARM))
    raised = np.arctan2(rise, reach) + at_shoulder
    return np.array([yaw, raised, 0.0, -at_elbow, 0.0, -np.pi / 2 - raised + at_elbow, 0.0])


def _rgba(color: Color, alpha: float = 1.0) -> str:
    return " ".join(f"{c:.3f}" for c in (*color, alpha))


def physics_xml(layout: Layout) -> str:
    """Hand and pucks as spheres whose centres stay in one plane: discs, in the cheapest shape to collide.

    The hand weighs so much that pucks do not slow it. The rim collides with pucks only, by the second bit of the masks.
    """
    slides = '<joint type="slide" axis="1 0 0" {0}/><joint type="slide" axis="0 1 0" {0}/>'
    things = [(HAND_RADIUS, 100, "", 1)] + [(layout.radius, 0.1, 'damping="3"', 3)] * layout.pucks
    bodies = "".join(
        f'<body>{slides.format(damping)}<geom type="sphere" size="{size}" mass="{mass}" conaffinity="{meets}"/></body>'
        for size, mass, damping, meets in things
    )
    (x, y), (a, b) = layout.tray
    walls = [(x - a - RIM, y, RIM, b + 2 * RIM), (x + a + RIM, y, RIM, b + 2 * RIM), (x, y - b - RIM, a, RIM), (x, y + b + RIM, a, RIM)]
    rim = "".join(
        f'<geom type="box" pos="{u} {v} 0" size="{p} {q} 0.05" contype="2" conaffinity="0"/>' for u, v, p, q in walls if layout.pucks
    )
    return f"""<mujoco><option timestep="{TIMESTEP}" integrator="implicitfast" gravity="0 0 0"/>
<default><geom friction="0.3" solref="0.01 1"/></default><worldbody>{rim}{bodies}</worldbody></mujoco>"""


def picture_xml(layout: Layout) -> str:
    """What the camera sees: table, pucks, hand and arm. Never stepped, only posed."""
    s, c, far = np.sin(ELEVATION), np.cos(ELEVATION), layout.view / np.tan(np.radians(15))
    x, y = layout.middle
    view = f'pos="{x} {y + far * c:.4f} {far * s:.4f}" xyaxes="-1 0 0 0 {-s:.4f} {c:.4f}" fovy="30"'
    slides = '<joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>'
    pucks = "".join(
        f'<body>{slides}<geom name="puck{i}" type="cylinder" size="{layout.radius} 0.012" pos="0 0 0.012" rgba="{_rgba(PUCKS[i])}"/></body>'
        for i in range(layout.pucks)
    )
    (u, v), (a, b) = layout.tray
    tray = f'<geom type="box" size="{a} {b} 0.001" pos="{u} {v} -0.0005" rgba="{_rgba(layout.look.tray)}"/>' if layout.pucks else ""
    lengths, axes = (0.0, UPPER / 2, UPPER / 2, FOREARM / 2, FOREARM / 2, WRIST - 0.06, 0.0), "zxyxyxy"
    thickness = (0.035, 0.03, 0.028, 0.025, 0.02, 0.016, 0.0)
    arm, ends = "", ""
    for i, (length, axis, thick) in enumerate(zip(lengths, axes, thickness, strict=True)):
        along = {"x": "1 0 0", "y": "0 1 0", "z": "0 0 1"}[axis]
        arm += f'<body pos="0 {lengths[i - 1] if i else 0} {0 if i else SHOULDER}"><joint type="hinge" axis="{along}"/>'
        if thick:  # the first is a ball at the shoulder
            shape = f'capsule" fromto="0 0 0 0 {length} 0' if length else "sphere"
            group = f'group="{HIDDEN_GROUP}"' if i < 3 else ""  # the upper arm is never in the picture: a sixth faster
            arm += f'<geom type="{shape}" size="{thick}" {group} rgba="{_rgba(ARM, ARM_ALPHA)}"/>'
        ends += "</body>"
    arm += f'<geom type="cylinder" size="{HAND_RADIUS} 0.026" pos="0 0.032 0" euler="90 0 0" rgba="{_rgba(layout.look.hand)}"/>'
    return f"""<mujoco>{VISUAL_XML}<default><geom contype="0" conaffinity="0" mass="0.1"/></default><worldbody>
<light directional="true" pos="0 0 1" dir="0.25 -0.3 -1" diffuse="0.6 0.6 0.6" ambient="0.4 0.4 0.4" specular="0 0 0" castshadow="false"/>
<camera name="view" {view}/>
<geom type="box" size="1.5 1.5 0.01" pos="0 0 -0.01" rgba="{_rgba(layout.look.table)}"/>{tray}
{pucks}{arm}{ends}</worldbody></mujoco>"""
