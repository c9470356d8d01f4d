"""The scenes of PTP's desk (thesis ch. 10): a drawer turned any way the arm reaches, a can that may stand before it, and an object to grasp.

A scene is named `train/N` or `held_out/N`, and the name is all that is needed to rebuild it. Held-out scenes draw from other seeds and from
shapes of objects that no training scene has.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from envs.desk_scenes import DeskScene, Element, draw_shape
from envs.desk_simulation import BAR, FRONT, GAP, HIGH, LOW, to_world
from envs.scenes import HUES, Color, parse_name, vivid

OUTWARD, INWARD = 0.35, 1.2  # radians a drawer is turned at most, away from the middle and towards it
BEFORE = 0.032  # metres between the bar of the closed drawer and the can that blocks it
RADIUS = 0.026  # metres, of the can: it does not fit between the fingers
ROOM = 0.075  # metres from the can's middle to where a gripper begins to push it


@dataclass(frozen=True)
class Can:
    """A can of a colour, and its two places (2,) on the table in metres: `before` the drawer, which it blocks there, and `beside` it."""

    color: Color
    before: tuple[float, float]
    beside: tuple[float, float]
    height: float

    @property
    def places(self) -> np.ndarray:
        """Before and beside the drawer, (2, 2)."""
        return np.array([self.before, self.beside])


@dataclass(frozen=True)
class PTPScene:
    """Everything that varies: a desk with one drawer and an object, and a can."""

    desk: DeskScene
    can: Can

    @property
    def name(self) -> str:
        """Of the scene."""
        return self.desk.name

    @property
    def drawer(self) -> Element:
        """The only one."""
        assert self.desk.drawer is not None
        return self.desk.drawer


def _beside(e: Element, before: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A place (2,) out of the drawer's way that the can can be pushed to and back from, or None where 50 draws found none."""
    for _ in range(50):
        side, turn, far = rng.choice([-1, 1]), rng.uniform(-0.1, 0.3), rng.uniform(0.11, 0.13)
        along = to_world(e, np.array([[0.0, 0.0, 0.0], [-np.sin(turn), side * np.cos(turn), 0.0]]))[:, :2]
        way = along[1] - along[0]
        ends = np.stack([before - ROOM * way, before + (far + ROOM) * way])
        if (ends > LOW[:2] + 0.01).all() and (ends < HIGH[:2] - 0.01).all():
            return np.asarray(before + far * way)
    return None


@lru_cache(maxsize=4096)
def sample_ptp(name: str) -> PTPScene:
    """Builds the scene of this name. Raises ValueError for an unknown name."""
    split, number = parse_name(name)
    rng = np.random.default_rng([split, number, 47])
    hues = rng.permutation(HUES) / HUES
    shape = draw_shape(split, rng)
    grey, shade = float(rng.uniform(0.25, 0.9)), rng.uniform(0.45, 0.75)
    table = tuple(float(shade + rng.uniform(-0.06, 0.06)) for _ in range(3))
    colors = [vivid(rng, float(hue)) for hue in hues[:3]]
    while True:
        side = rng.choice([-1, 1])
        x, y, turn = rng.uniform(0.565, 0.60), side * rng.uniform(0.05, 0.11), -side * rng.uniform(-OUTWARD, INWARD)
        e = Element(float(x), float(y), float(turn), colors[0], (grey, grey, grey))
        before = to_world(e, np.array([FRONT + GAP + 2 * BAR[0] + BEFORE + RADIUS, 0.0, 0.0]))[:2]
        beside = _beside(e, before, rng)
        if beside is not None:
            break
    desk = DeskScene(name, e, None, None, False, shape, colors[2], table)  # type: ignore[arg-type]
    return PTPScene(desk, Can(colors[1], (float(before[0]), float(before[1])), (float(beside[0]), float(beside[1])), float(rng.uniform(0.052, 0.062))))
