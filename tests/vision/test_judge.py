"""The judge's numbers, each against a case worked by hand."""

import numpy as np
import pytest
import torch

from vision.judge import codebook_use, probe, psnr, rank_correlation, scene_errors


def test_psnr_of_a_known_error():
    images = np.full((2, 4, 4, 3), 51, np.uint8)  # 0.2
    assert psnr(images, np.full((2, 4, 4, 3), 0.3, np.float32)) == pytest.approx(20.0, abs=1e-4)  # error 0.1


def test_codebook_use():
    perplexity, used, share = codebook_use(torch.tensor([[0, 1], [0, 1], [2, 2]]), 6)
    assert perplexity == pytest.approx(3.0) and used == pytest.approx(0.5) and share.tolist() == pytest.approx([1 / 3] * 3 + [0] * 3)


def test_the_probe_finds_what_is_linear_and_nothing_else():
    rng = np.random.default_rng(0)
    z, new = rng.standard_normal((2, 500, 4)).astype(np.float32)
    weights = rng.standard_normal((4, 1))

    def state(x):
        return np.concatenate([x @ weights + 3, rng.standard_normal((500, 1)), np.ones((500, 1))], 1).astype(np.float32)

    linear, noise, constant = probe(z, state(z), new, state(new))
    assert linear > 0.999 and noise < 0.05 and np.isnan(constant)
    wide = np.concatenate([z, rng.standard_normal((500, 900)).astype(np.float32)], 1)
    assert np.isfinite(probe(wide, state(z), wide, state(z))[:2]).all(), "more numbers than pictures"


def test_rank_correlation_of_monotone_and_reversed_distances():
    state = np.array([[0.0], [1.0], [3.0], [7.0], [0.0], [2.0], [5.0], [11.0]], np.float32)
    start, end = np.array([0, 4]), np.array([4, 8])
    assert rank_correlation(np.sqrt(state), state, start, end) < 1.0  # distances of square roots are in another order
    assert rank_correlation(5 * state, state, start, end) == pytest.approx(1.0)
    assert rank_correlation(np.zeros_like(state), state, start, end) == 0.0
    mixed = np.concatenate([state[:4], 100 + state[4:]])  # trajectories apart from each other do not matter
    assert rank_correlation(mixed, state, start, end) == pytest.approx(1.0)
    assert np.isnan(rank_correlation(state, np.zeros_like(state), start, end))


def test_scene_errors_see_colour_wherever_it_is_and_the_background_where_it_is():
    context = np.full((8, 8, 3), 100, np.uint8)
    context[1:3, 1:3] = (250, 0, 0)
    things, background = np.zeros((1, 8, 8), bool), np.ones((8, 8), bool)
    things[0, 1:3, 1:3] = True
    background[:4] = False
    moved = np.full((8, 8, 3), 100, np.uint8)
    moved[0:2, 5:7] = (250, 0, 0)
    kept = scene_errors(moved[None], context, things, background)
    assert kept.color_error == 0 and kept.background_error == 0 and kept.variety == pytest.approx((150 + 2 * 100) * 2 * 4 / (32 * 3))
    assert scene_errors(context[None], context, things, background).variety == 0, "a copy"
    blue = moved.copy()
    blue[0:2, 5:7] = (0, 0, 250)
    gone = np.full((1, 8, 8, 3), 110, np.uint8)
    lost = scene_errors(gone, context, things, background)
    assert lost.background_error == 10 and lost.color_error == pytest.approx(np.sqrt((140**2 + 2 * 110**2) / 3))
    assert scene_errors(blue[None], context, things, background).color_error > 100
