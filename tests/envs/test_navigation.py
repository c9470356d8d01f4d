"""Point navigation: 15 rooms, walls that hold, goals that can be reached."""

import numpy as np
import pytest

from envs.navigation import LAYOUTS, RADIUS, ROOM, blocked
from envs.worlds import make_world


def grid(layout: int, spacing: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Places (k, k, 2) of a grid over the room and which of them are free."""
    axis = np.arange(-ROOM, ROOM + 1e-9, spacing)
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    return places, ~blocked(layout, places)


@pytest.mark.parametrize("layout", range(len(LAYOUTS)))
def test_every_room_is_connected(layout: int) -> None:
    """Breadth first from one free place reaches all: so every goal can be reached from every start."""
    _, free = grid(layout)
    reached, front = np.zeros_like(free), [tuple(np.argwhere(free)[0])]
    reached[front[0]] = True
    while front:
        cells, front = front, []
        for i, j in cells:
            for cell in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if free[cell] and not reached[cell]:
                    reached[cell] = True
                    front.append(cell)
    assert np.array_equal(reached, free) and free.mean() > 0.3


def test_there_are_15_different_rooms() -> None:
    world = make_world("navigation", 1)
    states = np.array([[0.42, 0.42, k, 1, 0, 0] for k in range(15)])
    pictures = world.picture(states).reshape(15, -1)
    assert len(LAYOUTS) == 15 and len(np.unique(pictures, axis=0)) == 15
    starts, goals = make_world("navigation", 1, layouts=(4, 9)).sample(range(20))
    assert set(starts[:, 2].tolist()) == {4.0, 9.0}
    for states in (starts, goals):
        assert not any(blocked(int(s[2]), s[:2]) for s in states)


def test_walls_stop_the_point_and_it_slides_along_them() -> None:
    world = make_world("navigation", 2)
    world.reset(np.array([[0.0, 0.3, 0, 1, 0, 0], [0.0, 0.3, 1, 1, 0, 0]]))  # layout 0: a bar across; 1: a bar up
    for _ in range(12):
        world.step(np.array([[0.0, -1.0], [0.0, 0.0]]))
    assert world.states()[0, 1] == pytest.approx(0.03 + RADIUS, abs=0.004)
    world.reset(np.array([[0.0, 0.12, 0, 1, 0, 0], [0.3, 0.4, 1, 1, 0, 0]]))
    for _ in range(4):
        world.step(np.array([[0.7, -0.7], [1.0, 0.0]]))
    slid, stopped = world.states()
    assert slid[0] == pytest.approx(4 * 0.035, abs=0.005) and slid[1] > 0.08
    assert stopped[0] == pytest.approx(ROOM - RADIUS, abs=0.004) and stopped[1] == pytest.approx(0.4, abs=1e-4)


def test_the_point_is_never_inside_a_wall() -> None:
    world = make_world("navigation", 15)
    world.reset(np.array([[0.42, 0.42, k, 1, 0, 0] for k in range(15)]))
    rng, action = np.random.default_rng(0), np.zeros((15, 2))
    for _ in range(150):
        action = np.clip(0.85 * action + 0.5 * rng.normal(size=action.shape), -1, 1)
        world.step(action)
        assert not any(blocked(int(s[2]), s[:2], margin=-0.006) for s in world.states())
