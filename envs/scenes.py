"""The tabletop scene family: which things stand where, their sizes and colours, the table and the light.

A scene is named `train/N` or `held_out/N`; the name is all that is needed to rebuild it. The two splits draw from
disjoint seeds, so no held-out scene is ever in the training data.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

KINDS = ("block", "puck", "lever", "drawer")
SPLITS = {"train": 1, "held_out": 2}
HELD_OUT = tuple(f"held_out/{i}" for i in range(10))  # the named set that results are reported on
Color = tuple[float, float, float]
HUES = 6  # the things of a scene have different ones, evenly spread over the colour circle
HAND_COLOR: Color = (0.2, 0.2, 0.25)
HAND_ALPHA = 0.2  # a finger of clear acrylic: a picture is about the things; the hand's place is read by proprioception


@dataclass(frozen=True)
class Thing:
    """One thing of few outcomes, in a frame of its own whose x axis is the direction it moves in.

    Its outcome is a number q in [0, 1]: where it stands between its two ends.
    """

    kind: str
    x: float  # metres, the frame's origin on the table
    y: float
    yaw: float  # radians
    size: float  # metres: half width of the block, radius of the puck, length of the lever, half width of the drawer
    travel: float  # metres between q = 0 and q = 1 (radians for the lever)
    color: Color
    base: Color


@dataclass(frozen=True)
class Scene:
    """Everything that varies between scenes. Colours are RGB in [0, 1]; `light` is a direction and a strength.

    Attributes: walls: x, y and half sizes of what stands fixed, metres.
    """

    name: str
    things: tuple[Thing, ...]
    table: Color
    hand: Color
    light: tuple[float, float, float]  # x and y tilt of the light's direction, its strength
    walls: tuple[tuple[float, float, float, float], ...] = ()


def vivid(rng: np.random.Generator, hue: float) -> Color:
    """A saturated colour of the given hue (in turns), slightly varied."""
    hue = (hue + rng.uniform(-0.02, 0.02)) % 1.0
    saturation, value = rng.uniform(0.85, 1.0), rng.uniform(0.8, 1.0)
    r, g, b = (np.clip(np.abs((hue * 6 + shift) % 6 - 3) - 1, 0, 1) for shift in (0, 4, 2))
    return tuple(float(value * (1 - saturation * (1 - c))) for c in (r, g, b))  # type: ignore[return-value]


def _thing(rng: np.random.Generator, kind: str, x: float, y: float, yaw: float, hue: float) -> Thing:
    size, travel = {
        "block": (rng.uniform(0.030, 0.038), rng.uniform(0.15, 0.18)),
        "puck": (rng.uniform(0.028, 0.034), rng.uniform(0.15, 0.18)),
        "lever": (rng.uniform(0.12, 0.14), rng.uniform(1.3, 1.5)),
        "drawer": (rng.uniform(0.050, 0.060), rng.uniform(0.085, 0.10)),
    }[kind]
    grey = float(rng.uniform(0.15, 0.35))
    return Thing(kind, x, y, yaw, float(size), float(travel), vivid(rng, hue), (grey, grey, grey))


def parse_name(name: str) -> tuple[int, int]:
    """The split's seed and the number in a scene's name. Raises ValueError for a name that is neither `train/N` nor `held_out/N`."""
    match = re.fullmatch(r"(\w+)/(\d+)", name)
    if not match or match[1] not in SPLITS:
        near = get_close_matches(name.split("/")[0], list(SPLITS), n=1)
        hint = f"; did you mean {near[0]}/0?" if near else ""
        raise ValueError(f"unknown scene {name!r}: scenes are named train/N or held_out/N{hint}")
    return SPLITS[match[1]], int(match[2])


def sample_scene(name: str, kinds: tuple[str, ...] = KINDS) -> Scene:
    """Builds the scene of this name: two different things side by side.

    Args:
        name: `train/N` or `held_out/N`, N >= 0.
        kinds: the kinds of things to draw from, at least two of `KINDS`.

    Raises:
        ValueError: if the name or a kind is unknown.
    """
    split, number = parse_name(name)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or len(set(kinds)) < 2:
        raise ValueError(f"a scene needs at least two different kinds of {KINDS}, not {tuple(kinds)}")
    rng = np.random.default_rng([split, number])
    chosen = rng.permutation(sorted(set(kinds)))[:2]
    hues = rng.permutation(HUES) / HUES
    things = []
    for i, kind in enumerate(chosen):
        x = (-0.115, 0.115)[i] + rng.uniform(-0.015, 0.015)
        y = rng.uniform(-0.02, 0.02)
        # the long axes lie along y: q = 1 is away from the camera, but for drawers, which open towards it
        yaw = -np.pi / 2 if kind == "drawer" else np.pi / 2
        things.append(_thing(rng, str(kind), float(x), float(y), float(yaw), float(hues[i])))
    return Scene(name, tuple(things), *table_and_light(rng))


def table_and_light(rng: np.random.Generator) -> tuple[Color, Color, tuple[float, float, float]]:
    """The table's colour, the hand's and the light of a scene."""
    shade = rng.uniform(0.6, 0.8)
    r, g, b = (float(shade + rng.uniform(-0.06, 0.06)) for _ in range(3))
    light = (float(rng.uniform(-0.4, 0.4)), float(rng.uniform(-0.4, 0.4)), float(rng.uniform(0.6, 0.7)))
    return (r, g, b), HAND_COLOR, light
