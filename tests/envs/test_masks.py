"""Masks against the scene's own colours."""

import numpy as np
import pytest

import envs  # noqa: F401
from envs.masks import scene_masks
from envs.scenes import KINDS
from envs.tabletop import TabletopBatch


@pytest.mark.parametrize("number", range(4))
def test_masks_show_things_in_their_colours_and_what_never_moves(number):
    batch = TabletopBatch(f"held_out/{number}", 1)
    starts, goals = batch.sample([number], changes=2)
    before, after = batch.picture(np.concatenate([starts, goals]))
    masks = scene_masks(f"held_out/{number}", starts[0], 48, KINDS)
    assert masks.things.shape == (2, 48, 48) and not (masks.things[0] & masks.things[1]).any()
    for mask, thing in zip(masks.things, batch.simulation.scene.things, strict=True):
        shown = before[mask].mean(0) / 255
        assert mask.sum() > 10 and np.corrcoef(shown, thing.color)[0, 1] > 0.9
        assert not (mask & masks.background).any()
    hand = np.abs(before.astype(int) - batch.picture(np.concatenate([[0.2, 0.2], starts[0][2:]])[None])[0]).max(-1) > 0
    hand |= np.abs(after.astype(int) - batch.picture(np.concatenate([[0.2, 0.2], goals[0][2:]])[None])[0]).max(-1) > 0
    still = masks.background & ~hand
    assert still.mean() > 0.5 and np.abs(before.astype(int) - after)[still].max() <= 2
