"""The probe of imagined goals: what is to read, what counts as the scene and as a change, and that it can be learned."""

import numpy as np
import pytest
import torch

pytest.importorskip("pybullet", reason="wheels exist up to Python 3.11")

from envs.desk import DeskBatch
from envs.desk_scenes import sample_desk
from envs.desk_simulation import BUTTON_DRAWER, DRAWER, OBJECT, TABLE
from envs.desk_tasks import TASKS, possible
from imagoal import affordances as aff

FULL = next(f"train/{n}" for n in range(100) if len(possible(sample_desk(f"train/{n}"))) == len(TASKS))
BARE = next(f"train/{n}" for n in range(100) if sample_desk(f"train/{n}").drawer is None)


def reading(name: str, **state: float) -> np.ndarray:
    """What a perfect probe reads."""
    split, number = name.split("/")
    states = np.zeros((1, 15), np.float32)
    states[0, OBJECT] = 0.75, 0.05, TABLE + 0.02
    states[0, DRAWER], states[0, BUTTON_DRAWER] = state.get("drawer", 0), state.get("button", 0)
    states[0, 7] += state.get("x", 0)
    return aff.targets(split, np.array([int(number)]), states)[0][0]


def test_what_is_not_there_does_not_count():
    value, weight = aff.targets("train", np.array([int(BARE.split("/")[1])]), np.zeros((1, 15), np.float32))
    assert value.shape == weight.shape == (1, aff.READ)
    assert value[0, 0] == 0 and weight[0, 0] == 1  # that there is no drawer is to be read
    assert weight[0, 4] == 0 and not weight[0, 7:10].any() and weight[0, 19] == 0  # its place, colour and opening are not


def test_a_perfect_reading_shows_its_scene_and_no_other():
    found = reading(FULL)[None]
    assert aff.shows_scene(found, FULL)[0]
    assert not any(aff.shows_scene(found, f"train/{n}")[0] for n in range(40) if f"train/{n}" != FULL)
    for column, by in ((0, -1.0), (4, 0.6), (7, 0.4)):  # an element less, elsewhere, of another colour
        other = found.copy()
        other[0, column] += by
        assert not aff.shows_scene(other, FULL)[0]
    hidden = found.copy()
    hidden[0, 3] = 0  # the object does not count
    assert aff.shows_scene(hidden, FULL)[0]


def test_changes_are_told_apart():
    first = reading(FULL)
    found = np.stack([first, reading(FULL, drawer=1), reading(FULL, button=1), reading(FULL, x=0.08), reading(FULL, x=0.03, drawer=0.2)])
    changed = aff.changes(found, FULL, first)
    assert changed["drawer"].tolist() == [False, True, False, False, False]
    assert changed["button_drawer"].tolist() == [False, False, True, False, False]
    assert changed["object"].tolist() == [False, False, False, True, False]


@pytest.mark.slow
def test_a_probe_reads_pictures_and_judges_samples():
    """Taught by few scenes, it tells true pictures of them from those of another, and changes from none."""
    images, value, weight = [], [], []
    names = [f"train/{n}" for n in range(4)]
    rng = np.random.default_rng(0)
    for n, name in enumerate(names):
        world = DeskBatch(name, 0)
        states = world.starts(range(60))
        states[:, [DRAWER, BUTTON_DRAWER]] = rng.integers(0, 2, (60, 2)) * np.array([world.scene.drawer is not None, world.scene.button_drawer is not None])
        images.append(world.picture(states))
        found = aff.targets("train", np.full(60, n), states)
        value.append(found[0])
        weight.append(found[1])
        world.close()
    probe = aff.fit_probe(np.concatenate(images), np.concatenate(value), np.concatenate(weight), 400, 0, torch.device("cpu"), batch=32)
    truth = aff.judge_samples(probe, names, np.stack([i[0] for i in images]), np.stack([i[1:] for i in images]))
    still = aff.judge_samples(probe, names, np.stack([i[0] for i in images]), np.stack([i[:1] for i in images]))
    others = aff.judge_samples(probe, names, np.stack([i[0] for i in images]), np.stack([images[n - 1] for n in range(4)]))
    assert truth.coherent > 0.9 and truth.affords > 0.4 and truth.kinds > 1
    assert still.affords == 0 and others.coherent < 0.1 and others.affords < 0.1
    pictures = np.stack(images)
    assert aff.judge_samples(probe, names, pictures, pictures).affords == 0  # each beside itself
    assert set(truth.shares) == {"drawer", "button_drawer", "object"}
