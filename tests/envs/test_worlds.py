"""The scenes of RIG and CC-RIG: episodes, physics, pictures, ground truth and refusals."""

import numpy as np
import pytest

from envs.arm_models import ELEVATION, HAND_RADIUS, PUSH, joint_angles
from envs.worlds import FAMILIES, World, make_world

NAMES = sorted(FAMILIES)
ARMS = [name for name in NAMES if name != "navigation"]


def walk(world: World, steps: int, seed: int = 0) -> list[np.ndarray]:
    """The states of a smooth random walk from the present ones."""
    rng, action, out = np.random.default_rng(seed), np.zeros((world.n, 2)), []
    for _ in range(steps):
        action = np.clip(0.85 * action + 0.5 * rng.normal(size=action.shape), -1, 1)
        world.step(action)
        out.append(world.states())
    return out


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide_episodes_and_pictures(name: str) -> None:
    world, again = make_world(name, 3), make_world(name, 1, 64)
    starts, goals = world.sample([5, 6, 7])
    other_starts, other_goals = again.sample(np.array([6, 5]))
    assert np.array_equal(starts[[1, 0]], other_starts) and np.array_equal(goals[[1, 0]], other_goals)
    assert starts.dtype == np.float32 and starts.shape == (3, world.state_dim)
    assert np.array_equal(world.picture(starts), make_world(name, 1).picture(starts))
    assert not np.array_equal(starts[0], starts[1]) and not np.array_equal(starts, goals)
    if world.scene_dims:
        assert np.array_equal(starts[:, -world.scene_dims :], goals[:, -world.scene_dims :])
    assert ((world.family.low <= starts) & (starts <= world.family.high)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_state_is_all_there_is(name: str) -> None:
    """States go in and come out, draw the same picture, and continue the same way in a fresh world."""
    world = make_world(name, 4)
    starts, goals = world.sample(range(4))
    world.reset(starts)
    assert np.array_equal(world.states(), starts)
    walk(world, 10)
    middle = world.states()
    assert np.array_equal(world.images(), world.picture(middle))
    assert not np.array_equal(world.picture(goals), world.images())
    assert np.array_equal(world.states(), middle)  # looking moves nothing
    fresh = make_world(name, 4)
    fresh.reset(middle)
    assert np.array_equal(walk(world, 10, seed=1)[-1], walk(fresh, 10, seed=1)[-1])
    if world.scene_dims:
        assert np.array_equal(world.states()[:, -world.scene_dims :], starts[:, -world.scene_dims :])
    assert world.images().shape == (4, 48, 48, 3) and world.images().dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_varied_scenes_look_different(name: str) -> None:
    world = make_world(name, 1)
    assert world.varied == (name in ("multicolor_pusher", "navigation"))
    starts, _ = world.sample(range(8))
    if world.varied:
        assert len(np.unique(starts[:, -3:], axis=0)) == 8


@pytest.mark.parametrize("name", ARMS)
def test_the_hand_goes_2_cm_and_stays_in_its_box(name: str) -> None:
    world = make_world(name, 2)
    layout = world.family.layout  # type: ignore[attr-defined]
    starts, _ = world.sample([0, 1])
    starts[:, :2] = layout.middle
    starts[:, 2 : world.family.moving] = 0.9  # pucks out of the way
    world.reset(starts)
    world.step(np.array([[1.0, -0.5], [-7.0, 0.0]]))  # beyond [-1, 1] is clipped
    moved = world.states()[:, :2] - starts[:, :2]
    assert np.allclose(moved, [[0.02, -0.01], [-0.02, 0.0]], atol=1e-5)
    low, high = np.array([layout.hand_x, layout.hand_y]).T
    for direction in ([1.0, 1.0], [-1.0, -1.0]):
        for _ in range(25):
            world.step(np.tile(direction, (2, 1)))
        corner = high if direction[0] > 0 else low
        assert np.allclose(world.states()[:, :2], corner, atol=1e-5)


def test_the_puck_moves_when_pushed_and_only_then() -> None:
    world = make_world("pusher", 1)
    world.reset(np.array([[0, 0.45, 0.005, 0.55]]))
    touched = []
    for _ in range(10):
        before = world.states()[0]
        world.step(np.array([[0.0, 1.0]]))
        after = world.states()[0]
        near = np.linalg.norm(before[2:] - before[:2]) < 0.02 + HAND_RADIUS + PUSH.radius
        assert near == (np.linalg.norm(after[2:] - before[2:]) > 1e-4)
        touched.append(near)
    assert not touched[0] and touched[-2] and world.states()[0, 3] > 0.67
    world.step(np.array([[0.0, -1.0]]))
    left = world.states()[0]
    for action in ([0.0, -1.0], [1.0, 0.0], [0.0, 0.0]):
        world.step(np.array([action]))
    assert np.array_equal(world.states()[0, 2:], left[2:])  # it stays where it was left


@pytest.mark.parametrize("name", [name for name in ARMS if name != "reacher"])
def test_pushing_is_robust(name: str) -> None:
    """No tunnelling, no explosion: things hardly overlap, move little faster than the hand (a pinched puck slips away), and pucks stay in the tray.

    The rim is soft: of 160,000 steps with one puck and as many with two, .0001 had a puck more than 6 mm beyond it, at most 10.4 mm (12.8 in a
    walk of this test), squeezed out of a corner by the hand for one step. It is 10 cm thick.
    """
    world = make_world(name, 8)
    starts, _ = world.sample(range(8))
    world.reset(starts)
    before, layout = starts, world.family.layout  # type: ignore[attr-defined]
    beyond = []
    for states in walk(world, 200):
        places = states[:, : world.family.moving].reshape(len(states), -1, 2)
        gap = np.linalg.norm(places[:, 1:] - places[:, :1], axis=-1) - HAND_RADIUS - layout.radius
        assert gap.min() > -0.006
        assert np.abs(states - before).max() < 0.05
        beyond.append((np.abs(places[:, 1:] - layout.tray[0]) - (layout.tray[1] - layout.radius)).max((1, 2)))
        before = states
    assert np.max(beyond) < 0.02 and np.mean(np.array(beyond) > 0.006) < 0.002
    pushed = np.abs(states - starts)[:, 2 : world.family.moving].max(-1) > 0.02
    assert pushed.mean() >= 0.75  # a random walk meets the pucks


def push(states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Actions (n, 2) of a scripted hand: around the puck on a circle until it is behind, then straight."""
    offset, way = states[:, :2] - states[:, 2:4], goals[:, 2:4] - states[:, 2:4]
    distance, left = (np.linalg.norm(v, axis=1, keepdims=True) for v in (offset, way))
    ahead, out = way / np.maximum(left, 1e-6), offset / distance
    along, tangent = (out * ahead).sum(1, keepdims=True), np.stack([-out[:, 1], out[:, 0]], 1)
    tangent *= np.where((tangent * ahead).sum(1, keepdims=True) > 0, -1, 1)
    around = 0.02 * tangent + 0.5 * (0.075 - distance) * out
    lateral = offset - along * distance * ahead
    forward = np.minimum(left, 0.02) * ahead - 0.9 * lateral
    move = np.where(along < -0.9, forward, around)
    return np.where(left < 0.012, 0, move / 0.02).clip(-1, 1)


def test_goals_can_be_reached() -> None:
    """A scripted hand pushes the puck to its goal."""
    world = make_world("pusher", 16)
    starts, goals = world.sample(range(16))
    world.reset(starts)
    for _ in range(world.horizon):
        world.step(push(world.states(), goals))
    apart = world.distances(world.states(), goals)["puck"]
    assert np.median(apart) < 0.02 and (apart < 0.03).mean() >= 0.75


def test_no_push_is_for_ever() -> None:
    """From every corner of the tray, where a push ended, the hand brings the puck back to the middle."""
    world = make_world("pusher", 4)
    layout = world.family.layout  # type: ignore[attr-defined]
    corners = np.array([[x, y] for x in layout.tray_x for y in layout.tray_y])
    world.reset(np.concatenate([np.repeat([layout.middle + np.array([0.0, 0.03])], 4, 0), corners], 1))
    goals = np.tile(layout.middle, (4, 2))
    for _ in range(world.horizon):
        world.step(push(world.states(), goals))
    assert (world.distances(world.states(), goals)["puck"] < 0.03).all()


@pytest.mark.parametrize("name", ARMS)
def test_sampled_states_are_clear(name: str) -> None:
    world = make_world(name, 1)
    layout = world.family.layout  # type: ignore[attr-defined]
    for states in world.sample(range(60)):
        places = states[:, : world.family.moving].reshape(60, -1, 2)
        assert (np.linalg.norm(places[:, 1:] - places[:, :1], axis=-1) > HAND_RADIUS + layout.radius).all()
        for lows, highs, k in ((layout.hand_x[0], layout.hand_x[1], 0), (layout.hand_y[0], layout.hand_y[1], 1)):
            assert (places[:, 0, k] >= lows).all() and (places[:, 0, k] <= highs).all()
        if places.shape[1] == 3:
            assert (np.linalg.norm(places[:, 1] - places[:, 2], axis=-1) > 2 * layout.radius).all()


def test_the_arm_reaches_the_hand_and_its_upper_part_is_out_of_the_picture() -> None:
    for name in ("reacher", "pusher", "multi_pusher"):
        world = make_world(name, 1)
        layout, model = world.family.layout, world.family.picture_model  # type: ignore[attr-defined]
        corners = np.array([[x, y] for x in layout.hand_x for y in layout.hand_y])
        states = np.repeat(world.sample([0])[0], 4, 0)
        states[:, :2] = corners
        for state in states:
            _, data = world.family.pose(state)
            assert np.allclose(data.geom_xpos[-1][:2], state[:2], atol=1e-6)  # the last geom is the hand
        shown = world.picture(states)
        model.geom_group[:] = 0
        assert np.array_equal(world.picture(states), shown)
    assert joint_angles(np.array([0.0, 0.6]))[0] == 0.0 and ELEVATION > 1


def test_the_colour_shows_at_the_puck() -> None:
    world = make_world("multicolor_pusher", 1)
    state = np.array([-0.1, 0.5, 0.0, 0.6, 1, 0, 0], np.float32)
    red, green = world.picture(np.stack([state, np.concatenate([state[:4], [0, 1, 0]])]))
    changed = np.abs(red.astype(int) - green).max(-1) > 60
    rows, columns = np.nonzero(changed)
    assert 40 < changed.sum() < 120  # about nine pixels across
    assert abs(rows.mean() - 23.5) < 2.5 and abs(columns.mean() - 23.5) < 1.5  # the middle of the table
    assert np.median(red[changed], 0).tolist() == [245, 0, 0] and np.median(green[changed], 0).tolist() == [0, 245, 0]
    moved = world.picture(np.array([[-0.1, 0.5, 0.1, 0.6, 1, 0, 0]]))[0]
    assert (moved[23, 8:16] == red[23, 20:28]).mean() > 0.5  # +10 cm in x is 11 pixels to the left: the camera faces the arm


def test_absent_pucks_are_not_seen_and_not_met() -> None:
    world = make_world("multi_pusher", 1)
    starts, _ = world.sample([3])
    counts = {objects: make_world("multi_pusher", 1, objects=objects).sample(range(12))[0][:, -2:].sum(1) for objects in (0, 1, 2)}
    assert all((counts[objects] == objects).all() for objects in counts)
    drawn = make_world("multi_pusher", 1, objects=None).sample(range(40))[0][:, -2:].sum(1)
    assert set(drawn.tolist()) == {0, 1, 2}
    hand = starts[0, :2]
    bare = np.array([[*hand, 0, 0.6, 0, 0.6, 0, 0]], np.float32)
    table = world.picture(bare)[0].astype(int)
    blue, green = (lambda p: (p[..., 2] > p[..., 0] + 60)), (lambda p: (p[..., 1] > p[..., 0] + 60))
    assert not blue(table).any() and not green(table).any()
    one = world.picture(np.array([[*hand, -0.08, 0.6, 0, 0.6, 1, 0]]))[0].astype(int)
    assert blue(one).any() and not green(one).any()
    world.reset(np.array([[0, 0.52, 0, 0.6, 0, 0.6, 0, 0]]))
    for _ in range(8):
        world.step(np.array([[0.0, 1.0]]))
    assert np.allclose(world.states()[0], [0, 0.68, 0, 0.6, 0, 0.6, 0, 0], atol=1e-4)


def test_distances_by_hand() -> None:
    near = lambda value, by_hand: np.allclose(value, by_hand, atol=1e-6)  # noqa: E731
    world = make_world("pusher", 1)
    state, goal = np.array([[0.0, 0.5, 0.1, 0.6]]), np.array([[0.03, 0.54, 0.1, 0.61]])
    apart = world.distances(state, goal)
    assert near(apart["hand"], [0.05]) and near(apart["puck"], [0.01]) and near(world.distance(state, goal), [0.06])
    goals = goal - np.array([[0, 0, 0, -0.005], [0, 0, 0, 0.005]])
    assert world.success(state, goals).tolist() == [False, True]  # 6.5 cm and 5.5 cm
    assert near(world.oracle(state), [[0, -0.1 / 0.165, 0.1 / 0.165, 0]])

    world = make_world("multi_pusher", 1)
    state = np.array([0.0, 0.5, 0.1, 0.6, 0.0, 0.6, 1, 0])
    goal = np.array([0.0, 0.5, 0.1, 0.65, 0.3, 0.6, 1, 0])
    assert {k: round(float(v), 6) for k, v in world.distances(state, goal).items()} == {"hand": 0, "puck1": 0.05, "puck2": 0}
    assert world.success(state, goal)  # 5 cm < 2 x 3 cm
    both = np.r_[[0] * 6, 1, 1] + np.r_[state[:6], 0, 0]
    assert not world.success(both, np.r_[goal[:6], 1, 1]) and near(world.distance(both, np.r_[goal[:6], 1, 1]), 0.35)

    world = make_world("reacher", 1)
    assert world.success(np.array([[0, 0.6], [0, 0.6]]), np.array([[0.02, 0.62], [0.02, 0.63]])).tolist() == [True, False]
    assert near(world.oracle(np.array([0.2, 0.75])), [1, 0.5])

    world = make_world("navigation", 1)
    here, there = np.array([0.1, 0.1, 3, 0, 0, 1]), np.array([0.4, 0.5, 3, 0, 0, 1])
    assert near(world.distance(here, there), 0.5) and not world.success(here, there)
    assert near(world.oracle(here), [0.2, 0.2])


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("pushr", {}, "unknown world 'pushr'.*did you mean 'pusher'"),
        ("kitchen", {}, "unknown world"),
        ("pusher", {"objects": 1}, "pusher knows no option 'objects': it has no options"),
        ("multi_pusher", {"object": 1}, "did you mean 'objects'"),
        ("multi_pusher", {"objects": 3}, "objects must be between 0 and 2"),
        ("multi_pusher", {"objects": -1}, "objects must be between 0 and 2"),
        ("navigation", {"layouts": (15,)}, "layouts must be numbers between 0 and 14"),
        ("navigation", {"layouts": ()}, "layouts must be"),
        ("pusher", {"n": 0}, "at least 1 copy"),
        ("pusher", {"image_size": 0}, "image size must be between"),
    ],
)
def test_bad_worlds(name: str, options: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        make_world(name, **{"n": 1, **options})


def test_bad_states_and_actions() -> None:
    world = make_world("multicolor_pusher", 2)
    starts, _ = world.sample([0, 1])
    for actions in (np.zeros(2), np.zeros((2, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"actions must be finite numbers \(2, 2\)"):
            world.step(actions)
    with pytest.raises(ValueError, match="2 copies need 2 states, not 1"):
        world.reset(starts[:1])
    with pytest.raises(ValueError, match=r"states must be finite numbers \(m, 7\)"):
        world.reset(starts[:, :4])
    starts[0, -1] = 1.5
    with pytest.raises(ValueError, match=r"a colour in \[0, 1\]"):
        world.picture(starts)
    with pytest.raises(ValueError, match="its layout, 0 to 14"):
        make_world("navigation", 1).reset(np.array([[0, 0, 3.5, 1, 1, 1]]))
    with pytest.raises(ValueError, match="which pucks are there"):
        make_world("multi_pusher", 1).reset(np.array([[0, 0.6, 0, 0.6, 0, 0.6, 0.5, 1]]))
