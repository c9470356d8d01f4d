"""The contact sheet of docs/worlds.md: `python -m envs.sheet docs/worlds.png`. A row per family: starts, each with its goal on the right."""

import sys

import numpy as np
from PIL import Image

from envs.worlds import FAMILIES, make_world

PAIRS, SCALE, MARGIN = 4, 2, 3


def sheet() -> np.ndarray:
    """The sheet (H, W, 3) uint8 of 48-pixel pictures, twice as large."""
    rows = []
    for name in FAMILIES:
        world = make_world(name, 1)
        starts, goals = (world.picture(states) for states in world.sample(range(PAIRS)))
        row = []
        for pair in zip(starts, goals, strict=True):
            for picture, margin in zip(pair, (3 * MARGIN, MARGIN), strict=True):
                large = picture.repeat(SCALE, 0).repeat(SCALE, 1)
                row.append(np.pad(large, ((MARGIN, 0), (margin, 0), (0, 0)), constant_values=255))
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows)


if __name__ == "__main__":
    Image.fromarray(sheet()).save(sys.argv[1], optimize=True)
