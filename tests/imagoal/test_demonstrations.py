"""Which demonstrations show what a goal shows."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imagoal.demonstrations import CHANGED, PARTS, Demonstrations, beginning, changed, correlation, edges

CPU = torch.device("cpu")
SIZE = 48


def room(drawer: tuple[int, int] | None, colour: int, wall: int) -> np.ndarray:
    """A picture: a box of a colour with its corner there, in front of a wall."""
    picture = np.full((SIZE, SIZE, 3), wall, np.uint8)
    if drawer is not None:
        y, x = drawer
        picture[y : y + 10, x : x + 8] = colour
    return picture


def trajectories(*pairs: tuple[np.ndarray, np.ndarray]) -> Any:
    """Of ten frames each: three quarters as it begins, then as it ends."""
    image = np.concatenate([np.stack([before] * 7 + [after] * 3) for before, after in pairs])
    ends = 10 * np.arange(1, len(pairs) + 1)
    return SimpleNamespace(image=image, start=ends - 10, end=ends)


def test_a_part_changes_when_its_pixels_do_by_enough():
    """One 4 x 4 part wholly by 20 of 255 in one colour, another by half as much as counts."""
    before = np.full((1, SIZE, SIZE, 3), 100, np.uint8)
    after = before.copy()
    after[0, 4:8, 8:12, 1] += 20
    after[0, 20:24, 20:24] += round(CHANGED * 255 / 2)
    found = changed(before, after, CPU)
    assert found.shape == (1, PARTS**2) and found.nonzero()[:, 1].tolist() == [PARTS * 1 + 2]


def test_edges_are_where_brightness_steps_whatever_the_colours():
    red, blue = (room((12, 12), 0, 0) for _ in range(2))
    red[12:22, 12:20], blue[12:22, 12:20] = (200, 0, 0), (0, 0, 200)
    both = edges(np.stack([red, blue, room(None, 0, 90)]), CPU)
    assert both.shape == (3, 2 * (2 * PARTS) ** 2) and torch.equal(both[0], both[1]) and not both[2].any()
    across = both[0][: (2 * PARTS) ** 2].view(2 * PARTS, 2 * PARTS)
    assert sorted(set(across.nonzero()[:, 0].tolist())) == list(range(6, 11))  # rows 12 to 21: edges across are its sides
    assert sorted(set(across.nonzero()[:, 1].tolist())) == [5, 9]  # between columns 11 and 12, and 19 and 20


def test_correlation_is_pearsons_over_the_places_that_count():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(3, 20, generator=generator), torch.rand(4, 20, generator=generator)
    where = (torch.rand(3, 20, generator=generator) < 0.6).float()
    where[2] = 0
    found = correlation(x, y, where)
    for i in range(2):
        on = where[i] > 0
        assert found[i].tolist() == pytest.approx([np.corrcoef(x[i][on], one[on])[0, 1] for one in y], abs=1e-4)
    assert not found[2].any()


def test_a_beginning_is_what_stays_while_something_passes():
    frames = np.stack([room((i * 5, 20), 255, 40) for i in range(8)] + [room(None, 0, 200)] * 8)
    assert (beginning(frames) == 40).all()
    assert (beginning(frames[:1]) == frames[0]).all()


def test_the_likest_demonstration_changes_the_same_from_what_looks_the_same():
    """Of four demonstrations in other colours: a drawer opened on the left and shut there, opened on the right, and a thing gone from elsewhere."""
    left, out, right, far = (10, 4), (18, 4), (10, 32), (18, 32)
    shown = Demonstrations(trajectories(
        (room(left, 220, 60), room(out, 220, 60)), (room(out, 90, 250), room(left, 90, 250)), (room(right, 0, 120), room(far, 0, 120)), (room((36, 20), 10, 70), room(None, 0, 70)),
    ), CPU)  # fmt: skip
    pairs = [(left, out), (out, left), (right, far), ((36, 20), None)]
    before, after = (np.stack([room(pair[i], 150, 30) for pair in pairs]) for i in (0, 1))
    alike = shown.likeness(before, after)
    assert alike.shape == (4, 4) and alike.argmax(1).tolist() == [0, 1, 2, 3]
    assert alike.diagonal().tolist() == pytest.approx([3, 3, 3, 2], abs=1e-4)  # the same but for its colours; where a thing is gone no edges are left to compare
    assert float(alike[0, 1]) < 2 and alike[0, 2] == -torch.inf  # the way back, and elsewhere
    assert (shown.likeness(before, before) == -torch.inf).all()  # a goal that shows no change is like none
    noise = np.random.default_rng(0).integers(256, size=before.shape, dtype=np.uint8)
    assert (shown.likeness(before, noise) == -torch.inf).all()  # nor is one that shows another scene
