"""Physics of a desk scene in PyBullet: an arm with a gripper, moved by its end effector, and what stands before it.

State vector (float32, 15): 0-2 tip between the fingers, x, y and z in metres; 3 its yaw in radians; 4 how far the fingers are open, 0 to 1; 5 the drawer
and 6 the button's drawer, 0 closed to 1 open; 7-9 the object, x, y and z; 10-13 its quaternion; 14 whether it is held. What is not there is 0.

All bodies are boxes, and the arm's inverse kinematics is solved in closed form once a step: that is what makes a step with its picture cost about
a millisecond (docs/desk.md).
"""

from dataclasses import dataclass

import numpy as np

from envs.bullet import Bodies, Box, Link, camera, import_pybullet, picture
from envs.desk_scenes import TRAVEL, DeskScene, Element, shape_parts

STATE = 15
TIP, YAW, GRIP, DRAWER, BUTTON_DRAWER, OBJECT, QUATERNION, HELD = slice(0, 3), 3, 4, 5, 6, slice(7, 10), slice(10, 14), 14
LOW, HIGH = np.array([0.50, -0.20, -0.348]), np.array([0.85, 0.20, -0.12])  # metres, where the tip can go
TABLE = -0.36  # metres, the height of its top
STEP = 0.03  # metres the tip's target lies ahead for an action of 1
TURN = np.radians(15.0)  # of an action of 1 for the gripper's yaw, where there is one
SUBSTEPS, TIMESTEP = 10, 1 / 240
OPEN = 0.028  # metres from the middle to an open finger
PAST = 0.06  # metres between tip and object from which they collide again
PRESSED = 0.006  # metres the button goes down to count
CABINET = (0.06, 0.055, 0.04)  # half sizes
WALL = 0.004
GAP = 0.030  # metres between a drawer's front and its handle's bar
BAR = np.array([0.005, 0.042, 0.007])  # half sizes of the bar
FRONT = CABINET[0] - WALL  # metres, the front of a closed drawer from the middle of its cabinet
DRAWER_BOX = (0.050, 0.047, 0.024)  # half sizes of the space in a drawer
TRAY_BOX = (0.055, 0.050)
TRAY_HEIGHT = {False: 0.014, True: 0.034}
_SHOULDER, _UPPER, _LOWER, _HAND = 0.10, 0.45, 0.45, 0.12  # metres: x of the shoulder, the arm's lengths, wrist above the tip
_JOINTS = [0, 1, 2, 3, 4]
_FINGERS = [5, 6]
_PALM = 4
_GREY, _DARK, _LIGHT, _RED = (0.3, 0.3, 0.33), (0.12, 0.12, 0.14), (0.85, 0.85, 0.88), (0.9, 0.1, 0.1)


def inverse_kinematics(tip: np.ndarray, yaw: float) -> list[float]:
    """The arm's five joint angles that put the tip (3,) there, fingers down, turned by yaw: two links in the plane through the base's axis."""
    x, y, z = tip[0] - _SHOULDER, tip[1], tip[2] + _HAND
    turn, reach = np.arctan2(y, x), np.hypot(x, y)
    bend = np.arccos(np.clip((reach**2 + z**2 - _UPPER**2 - _LOWER**2) / (2 * _UPPER * _LOWER), -1, 1))
    lift = np.arctan2(-z, reach) - np.arctan2(_LOWER * np.sin(bend), _UPPER + _LOWER * np.cos(bend))
    return [float(turn), float(lift), float(bend), float(np.pi / 2 - lift - bend), float(yaw - turn)]


def arm_links() -> list[Link]:
    """Yaw, shoulder, elbow, wrist, roll, and the two fingers. In the frame of the last ones x points down."""
    upper: Box = ((_UPPER / 2, 0.025, 0.025), (_UPPER / 2, 0, 0), _GREY)
    lower: Box = ((_LOWER / 2, 0.018, 0.018), (_LOWER / 2, 0, 0), _GREY)
    palm: Box = ((0.012, 0.042, 0.014), (0, 0, 0), _DARK)
    finger: Box = ((0.033, 0.005, 0.007), (0, 0, 0), _LIGHT)
    return [
        Link([((0.05, 0.05, 0.05), (0, 0, 0), _GREY)], "turn", (0, 0, 1), mass=1.0, solid=False),
        Link([upper], "turn", (0, 1, 0), parent=1, mass=1.0, solid=False),
        Link([lower], "turn", (0, 1, 0), (_UPPER, 0, 0), 2, 1.0, solid=False),
        Link([((0.02, 0.02, 0.02), (0, 0, 0), _GREY)], "turn", (0, 1, 0), (_LOWER, 0, 0), 3, 0.3, solid=False),
        Link([palm], "turn", (-1, 0, 0), (0.045, 0, 0), 4, 0.3),
        Link([finger], "slide", (0, 1, 0), (_HAND - 0.045 - 0.027, 0, 0), 5, 0.05),
        Link([finger], "slide", (0, -1, 0), (_HAND - 0.045 - 0.027, 0, 0), 5, 0.05),
    ]


def cabinet_boxes(e: Element) -> list[Box]:
    """A cabinet, open at its front (+x); its frame's origin lies on the table."""
    x, y, z = CABINET
    return [
        ((x, y, WALL), (0, 0, 2 * z - WALL), e.color), ((WALL, y, z), (-x + WALL, 0, z), e.color),
        ((x, WALL, z), (0, y - WALL, z), e.color), ((x, WALL, z), (0, WALL - y, z), e.color),
    ]  # fmt: skip


def drawer_boxes(e: Element, handle: bool) -> list[Box]:
    """A drawer: floor, sides, front, and the bar of its handle on a stem."""
    x, y, z = DRAWER_BOX
    front, middle = FRONT - WALL, FRONT - 2 * WALL - x
    boxes: list[Box] = [
        ((x, y, 0.003), (middle, 0, 0.006), e.inner), ((x, 0.003, z), (middle, y - 0.003, z + 0.004), e.inner), ((x, 0.003, z), (middle, 0.003 - y, z + 0.004), e.inner),
        ((0.003, y, z), (middle - x + 0.003, 0, z + 0.004), e.inner), ((WALL, CABINET[1] - 0.010, 0.033), (front, 0, 0.035), e.color if handle else e.inner),
    ]  # fmt: skip
    if handle:
        boxes += [((GAP / 2, 0.005, 0.006), (FRONT + GAP / 2, 0, 0.035), _DARK), (tuple(BAR), (FRONT + GAP + BAR[0], 0, 0.035), _DARK)]
    return boxes


def tray_boxes(e: Element, deep: bool) -> list[Box]:
    """A tray, or a box with high walls."""
    (x, y), z = TRAY_BOX, TRAY_HEIGHT[deep]
    return [
        ((x, y, 0.003), (0, 0, 0.003), e.inner), ((x, WALL, z), (0, y - WALL, z), e.color), ((x, WALL, z), (0, WALL - y, z), e.color),
        ((WALL, y, z), (x - WALL, 0, z), e.color), ((WALL, y, z), (WALL - x, 0, z), e.color),
    ]  # fmt: skip


def to_world(e: Element, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of an element's frame, on the table's top, in the world."""
    c, s = np.cos(e.yaw), np.sin(e.yaw)
    x, y = points[..., 0], points[..., 1]
    return np.stack([e.x + c * x - s * y, e.y + s * x + c * y, TABLE + points[..., 2]], -1)


def to_element(e: Element, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of the world in an element's frame."""
    c, s = np.cos(e.yaw), np.sin(e.yaw)
    x, y = points[..., 0] - e.x, points[..., 1] - e.y
    return np.stack([c * x + s * y, c * y - s * x, points[..., 2] - TABLE], -1)


def on_table(place: np.ndarray) -> bool:
    """Whether something at a place (3,) in the world is still on the table, or above it."""
    x, y, z = place
    return bool(0.35 < x < 1.1 and -0.5 < y < 0.5 and TABLE - 0.02 < z < 0.3)


@dataclass
class _Cabinet:
    """A cabinet in the simulation: its body, and the numbers of its joints (button -1 where there is none)."""

    body: int
    drawer: int = 0
    button: int = -1


class DeskSimulation:
    """One copy of a scene.

    Args: scene: what stands there.
    Raises ValueError where PyBullet is missing, or cannot make another simulation.
    """

    view = ((0.64, 0.0, -0.31), 0.42, 90.0, -46.0)  # of the camera: where it looks, metres; from how far; yaw and pitch in degrees

    def __init__(self, scene: DeskScene) -> None:
        self.scene, self.bullet = scene, import_pybullet()
        p = self.bullet
        self.client = p.connect(p.DIRECT)
        if self.client < 0:
            raise ValueError("PyBullet cannot make another simulation (it has room for about a thousand): close some")
        self._camera = camera(p, *self.view)
        self._build()

    def _build(self) -> None:
        """Everything anew: 2 ms. Nothing less makes what follows a function of the state alone, for the solver orders what it solves by its past."""
        self._pressed, self._weld, self._open, self._passing = False, -1, False, False
        self.bullet.resetSimulation(physicsClientId=self.client)
        p, scene, bodies, client = self.bullet, self.scene, Bodies(self.bullet, self.client), self.client
        p.setGravity(0, 0, -10, physicsClientId=client)
        p.setPhysicsEngineParameter(fixedTimeStep=TIMESTEP, numSolverIterations=20, deterministicOverlappingPairs=1, physicsClientId=client)
        bodies.fixed([((0.45, 0.6, 0.02), (0, 0, 0), scene.table)], (0.75, 0, TABLE - 0.02))
        self.arm = bodies.fixed([((0.06, 0.06, 0.18), (0, 0, -0.18), _DARK)], (_SHOULDER, 0, 0), links=arm_links(), solid=False)
        for link in range(7):
            p.changeDynamics(self.arm, link, linearDamping=0, angularDamping=0, lateralFriction=0.8, physicsClientId=client)
        self.drawer = self._cabinet(bodies, scene.drawer, button=False)
        self.button_drawer = self._cabinet(bodies, scene.button_drawer, button=True)
        if e := scene.tray:
            bodies.fixed(tray_boxes(e, scene.deep), (e.x, e.y, TABLE), e.yaw)
        self.object = bodies.loose([(half, at, scene.color) for half, at in shape_parts(scene.shape)], 0.05) if scene.shape >= 0 else -1
        if self.object >= 0:
            p.changeDynamics(self.object, -1, lateralFriction=0.8, rollingFriction=0.002, spinningFriction=0.002, angularDamping=0.5, physicsClientId=client)

    def _cabinet(self, bodies: Bodies, e: Element | None, button: bool) -> _Cabinet | None:
        if e is None:
            return None
        p, client = self.bullet, self.client
        links = [Link(drawer_boxes(e, handle=not button), "slide", (1, 0, 0), mass=0.3)]
        if button:
            links.append(Link([((0.018, 0.018, 0.010), (0, 0, 0), _RED)], "slide", (0, 0, 1), (0, 0, 2 * CABINET[2] + 0.008), mass=0.05))
        made = _Cabinet(bodies.fixed(cabinet_boxes(e), (e.x, e.y, TABLE), e.yaw, links), 0, 1 if button else -1)
        p.changeDynamics(made.body, 0, linearDamping=0, lateralFriction=0.5, physicsClientId=client)
        for link in range(-1, len(links)):
            p.setCollisionFilterPair(made.body, made.body, -1, link, 0, physicsClientId=client)
        if button:
            p.setJointMotorControl2(made.body, 1, p.POSITION_CONTROL, 0, force=3, positionGain=0.2, physicsClientId=client)
        else:
            self._rub(made)
        return made

    def _rub(self, cabinet: _Cabinet) -> None:
        """What resists is friction, so that the drawer stays where it is left."""
        p = self.bullet
        p.setJointMotorControl2(cabinet.body, 0, p.VELOCITY_CONTROL, targetVelocity=0, force=1.5, physicsClientId=self.client)

    # ---------------------------------------------------------------- state
    def reset(self, state: np.ndarray) -> None:
        """Puts everything at rest in this state (STATE,): what follows is a function of it and of the actions."""
        self._build()
        self.show(state)

    def show(self, state: np.ndarray) -> None:
        """Puts everything at rest in this state (STATE,), to be looked at."""
        p, client, state = self.bullet, self.client, np.asarray(state, np.float64)
        self._release()
        for joint, angle in zip(_JOINTS, inverse_kinematics(state[TIP], state[YAW]), strict=True):
            p.resetJointState(self.arm, joint, angle, physicsClientId=client)
        for joint in _FINGERS:
            p.resetJointState(self.arm, joint, self._finger(state[GRIP]), physicsClientId=client)
        for cabinet, q in ((self.drawer, state[DRAWER]), (self.button_drawer, state[BUTTON_DRAWER])):
            if cabinet:
                p.resetJointState(cabinet.body, 0, float(np.clip(q, 0, 1)) * TRAVEL, physicsClientId=client)
        self._pressed, self._open = False, bool(state[BUTTON_DRAWER] > 0.5)
        self._drive()
        if self.object >= 0:
            p.resetBasePositionAndOrientation(self.object, state[OBJECT], state[QUATERNION], physicsClientId=client)
            p.resetBaseVelocity(self.object, [0, 0, 0], [0, 0, 0], physicsClientId=client)
            self._collide(True)
            if state[HELD] > 0.5:
                self._hold()

    @staticmethod
    def _finger(opening: float) -> float:
        """How far a finger is from the middle."""
        return float(0.006 + np.clip(opening, 0, 1) * (OPEN - 0.006))

    def state(self) -> np.ndarray:
        """The state vector (STATE,) float32."""
        p, client = self.bullet, self.client
        out = np.zeros(STATE, np.float32)
        angles = [s[0] for s in p.getJointStates(self.arm, _JOINTS + _FINGERS, physicsClientId=client)]
        turn, lift, bend, _, roll, left, right = angles
        reach = _UPPER * np.cos(lift) + _LOWER * np.cos(lift + bend)
        out[TIP] = _SHOULDER + reach * np.cos(turn), reach * np.sin(turn), -_UPPER * np.sin(lift) - _LOWER * np.sin(lift + bend) - _HAND
        out[YAW] = turn + roll
        out[GRIP] = np.clip(((left + right) / 2 - 0.006) / (OPEN - 0.006), 0, 1)
        for index, cabinet in ((DRAWER, self.drawer), (BUTTON_DRAWER, self.button_drawer)):
            if cabinet:
                out[index] = p.getJointState(cabinet.body, 0, physicsClientId=client)[0] / TRAVEL
        if self.object >= 0:
            out[OBJECT], out[QUATERNION] = p.getBasePositionAndOrientation(self.object, physicsClientId=client)
            out[HELD] = self._weld >= 0
        return out

    def touching(self) -> bool:
        """Whether the arm touches anything where it is."""
        p, client = self.bullet, self.client
        p.performCollisionDetection(physicsClientId=client)
        return any(contact[2] != self.arm or contact[1] != self.arm for contact in p.getContactPoints(self.arm, physicsClientId=client))

    # ---------------------------------------------------------------- moving
    def step(self, action: np.ndarray) -> None:
        """One control step of 42 ms. action (4,) or (5,) in [-1, 1]: the tip's target ahead of it, x, y and z, 3 cm for 1; with five its yaw;
        last the gripper, closing above 0."""
        p, client = self.bullet, self.client
        action = np.clip(np.asarray(action, np.float64), -1, 1)
        now = self.state()
        target = np.clip(now[TIP] + STEP * action[:3], LOW, HIGH)
        yaw = float(np.clip(now[YAW] + TURN * action[3], -np.pi / 2, np.pi / 2)) if len(action) == 5 else 0.0
        p.setJointMotorControlArray(
            self.arm, _JOINTS, p.POSITION_CONTROL, inverse_kinematics(target, yaw), forces=[60, 60, 60, 20, 20], positionGains=[0.2] * 5, physicsClientId=client
        )
        closing = action[-1] > 0
        if not closing:
            self._release()
        finger = self._finger(now[GRIP] if now[HELD] else 0.0 if closing else 1.0)
        p.setJointMotorControlArray(self.arm, _FINGERS, p.POSITION_CONTROL, [finger] * 2, forces=[4, 4], positionGains=[0.1] * 2, physicsClientId=client)
        for _ in range(SUBSTEPS):
            p.stepSimulation(physicsClientId=client)
        self._stop()
        if self.object >= 0:
            self._touch(closing)
        self._button()

    def _stop(self) -> None:
        """Joints made in code have no limits of their own: a drawer or button past its end is put back there, at rest."""
        p, client = self.bullet, self.client
        for cabinet in (self.drawer, self.button_drawer):
            if cabinet is None:
                continue
            for joint, low, high in ((0, 0.0, TRAVEL), *([(cabinet.button, -0.014, 0.0)] if cabinet.button >= 0 else [])):
                at = p.getJointState(cabinet.body, joint, physicsClientId=client)[0]
                if not low <= at <= high:
                    p.resetJointState(cabinet.body, joint, min(max(at, low), high), physicsClientId=client)

    def _touch(self, closing: bool) -> None:
        """An object that both closing fingers touch is held; fingers collide again with one that was let go once they are away from it."""
        p, client = self.bullet, self.client
        if self._weld < 0 and self._passing:
            state = self.state()
            if np.linalg.norm(state[OBJECT] - state[TIP]) > PAST:
                self._collide(True)
        elif self._weld < 0 and closing and all(p.getContactPoints(self.arm, self.object, link, physicsClientId=client) for link in _FINGERS):
            self._hold()

    def _collide(self, whether: bool) -> None:
        """Let gripper and object collide, or pass through each other."""
        self._passing = not whether
        for link in (_PALM, *_FINGERS):
            self.bullet.setCollisionFilterPair(self.arm, self.object, link, -1, int(whether), physicsClientId=self.client)

    def _hold(self) -> None:
        """Fix the object to the palm, where it is: a grasp that does not slip (PTP's; facts)."""
        p, client = self.bullet, self.client
        palm = p.getLinkState(self.arm, _PALM, computeForwardKinematics=1, physicsClientId=client)
        at, turned = p.getBasePositionAndOrientation(self.object, physicsClientId=client)
        there, way = p.invertTransform(palm[4], palm[5])
        place, turn = p.multiplyTransforms(there, way, at, turned)
        self._weld = p.createConstraint(self.arm, _PALM, self.object, -1, p.JOINT_FIXED, [0, 0, 0], place, [0, 0, 0], turn, physicsClientId=client)
        p.changeConstraint(self._weld, maxForce=30, physicsClientId=client)
        self._collide(False)

    def _release(self) -> None:
        if self._weld < 0:
            return
        self.bullet.removeConstraint(self._weld, physicsClientId=self.client)
        self._weld = -1

    def _button(self) -> None:
        """A press, once until it is let go, sends the drawer to its other end."""
        if self.button_drawer is None:
            return
        depth = -self.bullet.getJointState(self.button_drawer.body, 1, physicsClientId=self.client)[0]
        if depth > PRESSED and not self._pressed:
            self._pressed, self._open = True, not self._open
            self._drive()
        elif depth < PRESSED / 2:
            self._pressed = False

    def _drive(self) -> None:
        """The motor of the button's drawer."""
        if self.button_drawer is not None:
            p = self.bullet
            p.setJointMotorControl2(
                self.button_drawer.body, 0, p.POSITION_CONTROL, TRAVEL if self._open else 0.0, force=4, maxVelocity=0.4, positionGain=0.1, physicsClientId=self.client
            )

    # ---------------------------------------------------------------- seeing
    def picture(self, size: int) -> np.ndarray:
        """(size, size, 3) uint8."""
        return picture(self.bullet, self.client, self._camera, size)

    def lost(self) -> bool:
        """Whether the object has left the table, or anything is not a number."""
        state = self.state()
        if not np.isfinite(state).all():
            return True
        return self.object >= 0 and not on_table(state[OBJECT])

    def close(self) -> None:
        """The end of it."""
        if self.client >= 0:
            self.bullet.disconnect(physicsClientId=self.client)
            self.client = -1
