"""Physics of PTP's desk: the desk's arm, drawer and object, and a can, which locks the drawer while it stands before it.

State vector (float32, 18): the desk's 15, of which the button's drawer is always 0, and 15-17 the can's middle, x, y and z in metres.
"""

import numpy as np

from envs.bullet import Bodies
from envs.desk_scenes import TRAVEL
from envs.desk_simulation import BAR, DRAWER, FRONT, GAP, STATE, DeskSimulation, on_table, to_element
from envs.ptp_scenes import RADIUS, PTPScene

PTP_STATE = STATE + 3
CAN = slice(STATE, PTP_STATE)
LOCK = 200.0  # newtons that hold a locked drawer


def blocks(scene: PTPScene, state: np.ndarray) -> np.ndarray:
    """Whether the can stands in the way that the drawer has yet to go; states (..., PTP_STATE) -> (...)."""
    at, bar = to_element(scene.drawer, np.asarray(state[..., CAN], np.float64)), FRONT + GAP + 2 * BAR[0]
    ahead = (at[..., 0] > bar + state[..., DRAWER] * TRAVEL) & (at[..., 0] < bar + TRAVEL + RADIUS)
    return ahead & (np.abs(at[..., 1]) < BAR[1] + RADIUS)


class PTPSimulation(DeskSimulation):
    """One copy of a scene.

    Args: scene: what stands there.
    Raises ValueError where PyBullet is missing, or cannot make another simulation.
    """

    view = ((0.655, 0.0, -0.335), 0.385, 90.0, -54.0)

    def __init__(self, scene: PTPScene) -> None:
        self.ptp = scene
        super().__init__(scene.desk)

    def _build(self) -> None:
        super()._build()
        self._locked = False
        self.can = Bodies(self.bullet, self.client).can(RADIUS, self.ptp.can.height, self.ptp.can.color, 0.25)
        self.bullet.changeDynamics(self.can, -1, lateralFriction=2.0, physicsClientId=self.client)

    def show(self, state: np.ndarray) -> None:
        """Puts everything at rest in this state (PTP_STATE,), to be looked at."""
        super().show(state)
        at = np.asarray(state[CAN], np.float64)
        self.bullet.resetBasePositionAndOrientation(self.can, at, (0, 0, 0, 1), physicsClientId=self.client)
        self.bullet.resetBaseVelocity(self.can, [0, 0, 0], [0, 0, 0], physicsClientId=self.client)

    def state(self) -> np.ndarray:
        """The state vector (PTP_STATE,) float32."""
        at = self.bullet.getBasePositionAndOrientation(self.can, physicsClientId=self.client)[0]
        return np.append(super().state(), np.array(at, np.float32))

    def step(self, action: np.ndarray) -> None:
        """One control step of 42 ms; action (5,) as at the desk."""
        self._lock()
        super().step(action)

    def _lock(self) -> None:
        """The drawer is held where it is as long as the can stands before it, as in PTP's own environment."""
        state = self.state()
        locked = bool(blocks(self.ptp, state))
        if locked == self._locked or self.drawer is None:
            return
        self._locked, p = locked, self.bullet
        if locked:
            at = float(state[DRAWER]) * TRAVEL
            p.setJointMotorControl2(self.drawer.body, 0, p.POSITION_CONTROL, at, force=LOCK, positionGain=0.2, physicsClientId=self.client)
        else:
            self._rub(self.drawer)

    def lost(self) -> bool:
        """Whether the object or the can has left the table, or anything is not a number."""
        return super().lost() or not on_table(self.state()[CAN])
