"""The desk scene family: drawers, a button, a tray or box and an object, differing in what there is, where, how it is turned and its colours.

A scene is named `train/N` or `held_out/N`, and the name is all that is needed to rebuild it. Held-out scenes draw from other seeds and from
shapes of objects that no training scene has.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from envs.scenes import HUES, Color, parse_name, vivid

SHAPES = 100  # objects there are
HELD_OUT_SHAPES = range(80, SHAPES)  # those that no training scene has
PRESENCE = 0.75  # each element is there with this probability
SLOTS = (-0.125, 0.0, 0.125)  # metres, y of the three places for drawers and container
TRAVEL = 0.11  # metres a drawer opens
Part = tuple[tuple[float, float, float], tuple[float, float, float]]  # half sizes and centre of a box, metres


@dataclass(frozen=True)
class Element:
    """A cabinet with its drawer, or a container: where it stands, metres and radians about the vertical; its colour and that of what is in it."""

    x: float
    y: float
    yaw: float
    color: Color
    inner: Color


@dataclass(frozen=True)
class DeskScene:
    """Everything that varies between scenes; an element that is None is not there.

    Attributes: drawer: opened by its handle; button_drawer: opened and closed by the button on its top; tray; deep: the tray is a box with high
    walls; shape: number of the object's shape, -1 for no object; color: of the object; table: colour.
    """

    name: str
    drawer: Element | None
    button_drawer: Element | None
    tray: Element | None
    deep: bool
    shape: int
    color: Color
    table: Color


def shape_parts(number: int) -> list[Part]:
    """Shape `number` as one to three boxes that touch or overlap, its centre of volume near the origin; it fits between the fingers.

    Raises ValueError for a number that is not in 0 .. SHAPES - 1.
    """
    if not 0 <= number < SHAPES:
        raise ValueError(f"shapes are numbered 0 to {SHAPES - 1}, not {number}")
    rng = np.random.default_rng([41, number])
    wide, deep, high = rng.uniform(0.012, 0.018), rng.uniform(0.012, 0.018), rng.uniform(0.012, 0.022)
    parts: list[Part] = [((float(deep), float(wide), float(high)), (0.0, 0.0, 0.0))]
    kind = number % 5
    thin, long = rng.uniform(0.005, 0.008), rng.uniform(0.010, 0.016)
    if kind == 1:  # a knob on top
        parts.append(((float(thin), float(thin), float(long / 2)), (0.0, 0.0, float(high + long / 2))))
    elif kind == 2:  # an arm at one end, as an L
        parts.append(((float(long), float(wide), float(thin)), (float(deep + long), 0.0, float(-high + thin))))
    elif kind == 3:  # a bar through it, as a cross
        parts.append(((float(deep + long), float(thin), float(thin)), (0.0, 0.0, float(rng.uniform(-0.5, 0.5) * high))))
    elif kind == 4:  # two ears
        ear = (float(thin), float(thin), float(long))
        parts += [(ear, (float(side * (deep - thin)), 0.0, float(high + long))) for side in (-1, 1)]
    return parts


def draw_shape(split: int, rng: np.random.Generator) -> int:
    """The number of a shape that a split's scenes may have (2: held out)."""
    return int(rng.choice(HELD_OUT_SHAPES)) if split == 2 else int(rng.integers(HELD_OUT_SHAPES.start))


@lru_cache(maxsize=4096)
def sample_desk(name: str) -> DeskScene:
    """Builds the scene of this name: at least one of its elements is something to act on. Raises ValueError for an unknown name."""
    split, number = parse_name(name)
    rng = np.random.default_rng([split, number, 43])
    hues = rng.permutation(HUES) / HUES
    slots = rng.permutation(SLOTS)
    there = rng.uniform(size=4) < PRESENCE
    while not (there[0] or there[1] or there[3]):
        there = rng.uniform(size=4) < PRESENCE

    def element(i: int, x: float, jitter: float) -> Element:
        grey = float(rng.uniform(0.25, 0.9))
        inner = (grey, grey, grey)
        return Element(
            float(x + rng.uniform(-0.01, 0.01)), float(slots[i] + rng.uniform(-0.008, 0.008)), float(rng.uniform(-jitter, jitter)), vivid(rng, float(hues[i])), inner
        )

    drawer, button, tray = element(0, 0.575, 0.12), element(1, 0.575, 0.12), element(2, 0.585, 0.3)
    shape = draw_shape(split, rng)
    deep, shade, color = bool(rng.integers(2)), rng.uniform(0.45, 0.75), vivid(rng, float(hues[3]))
    table = tuple(float(shade + rng.uniform(-0.06, 0.06)) for _ in range(3))
    return DeskScene(
        name, drawer if there[0] else None, button if there[1] else None, tray if there[2] else None, deep, shape if there[3] else -1, color, table  # type: ignore[arg-type]
    )
