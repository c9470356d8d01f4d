"""Augmentation: alike for a pair, repeatable, different by row; and torchvision beside a PyTorch it was not built for."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from vision.augment import AugmentConfig, Augmented
from vision.data import ImageData
from vision.torchvision_import import import_torchvision
from vision.train import fit
from vision.vqvae import VQVAE, VQVAEConfig


def images(n=24, side=16):
    return np.random.default_rng(0).integers(30, 200, (n, side, side, 3)).astype(np.uint8)


FULL = AugmentConfig(crop_pad=3, color_jitter=0.4, brightness=0.2)


def test_nothing_asked_is_nothing_changed():
    data = ImageData(images(), np.zeros(24, np.int64))
    rows = np.array([3, 3, 5])
    same = Augmented(data, AugmentConfig())
    assert len(same) == 24 and all(torch.equal(a, b) for a, b in zip(same.batch(rows), data.batch(rows), strict=True))


def test_a_pair_changes_alike_and_rows_differ():
    """Frame and context agree but for one corner; wherever they agreed they still do, also about the contrast's mean."""
    first, later = images(1, 32)[0] // 2 + 60, None
    later = first.copy()
    later[:8, :8] = 255
    data = ImageData(np.stack([first, later] * 12), np.arange(24) // 2 * 2)
    rows = np.arange(1, 24, 2)
    a, b = Augmented(data, FULL).batch(rows)
    assert a.shape == b.shape == (12, 32, 32, 3) and a.dtype == torch.uint8 and a.is_contiguous()
    assert (a[:, 12:, 12:] == b[:, 12:, 12:]).all() and (a != b).any(-1).any(-1).any(-1).all()
    assert len({x.numpy().tobytes() for x in b}) == 12, "the same picture, changed in twelve ways"


def test_it_is_a_function_of_rows_and_seed():
    rows, data = np.array([4, 9, 4, 1]), ImageData(images())
    (once,), (again,), (other,) = (Augmented(data, FULL, seed).batch(rows) for seed in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, other)
    (elsewhere,) = Augmented(data, FULL).batch(rows[::-1].copy())
    assert not torch.equal(once.flip(0), elsewhere) and not torch.equal(once[0], once[2])
    state = torch.random.get_rng_state()
    Augmented(data, FULL).batch(rows)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_crops_are_the_picture_moved_with_its_border_repeated():
    data = ImageData(images())
    (moved,) = Augmented(data, AugmentConfig(crop_pad=2)).batch(np.arange(24))
    found = set()
    for original, crop in zip(images(), moved.numpy(), strict=True):
        padded = np.pad(original, ((2, 2), (2, 2), (0, 0)), mode="edge")
        places = [(y, x) for y in range(5) for x in range(5) if np.array_equal(padded[y : y + 16, x : x + 16], crop)]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 8


def test_colours_stay_within_their_strength():
    grey = ImageData(np.full((64, 8, 8, 3), 100, np.uint8))
    (out,) = Augmented(grey, AugmentConfig(brightness=0.3)).batch(np.arange(64))
    levels = out[:, 0, 0, 0].int()
    assert (out == out[:, :1, :1, :1]).all() and 69 <= levels.min() < 85 and 115 < levels.max() <= 130
    assert 4 < len(levels.unique()) <= 16, "a draw for each group of rows"
    assert len(Augmented(grey, AugmentConfig(brightness=0.3, groups=64)).batch(np.arange(64))[0][:, 0, 0, 0].unique()) > 16
    red = ImageData(np.full((64, 8, 8, 3), (200, 40, 40), np.uint8))
    (out,) = Augmented(red, AugmentConfig(color_jitter=0.5, groups=64)).batch(np.arange(64))
    hue_moves = (out[:, 0, 0, 1].int() - out[:, 0, 0, 2].int()).abs()
    assert (hue_moves > 10).sum() > 30, "red leaves red, either way"
    (weak,) = Augmented(red, AugmentConfig(color_jitter=0.05, groups=64)).batch(np.arange(64))
    assert (weak.int() - torch.tensor([200, 40, 40])).abs().max() < 45


def test_a_resumed_run_sees_the_same_pictures():
    config = VQVAEConfig(image_size=16, grid=4, codes=16, code_dim=4, hidden=8, residual_blocks=0, residual_hidden=4)
    data, saved = Augmented(ImageData(images()), FULL, seed=3), {}
    whole, half = VQVAE(config), VQVAE(config)
    fit(whole, data, 6, batch_size=8, checkpoint=lambda s, t: saved.update({s: t}), checkpoint_every=3)
    fit(half, data, 6, batch_size=8, resume=saved[3])
    assert all(torch.equal(x, half.state_dict()[key]) for key, x in whole.state_dict().items())


def test_it_costs_milliseconds():
    """A hundred pairs of 48 pixels, everything on: about 70 ms here, half a training step of the small VQ-VAE."""
    data, times = Augmented(ImageData(images(128, 48), np.zeros(128, np.int64)), FULL), []
    for _ in range(4):
        began = time.perf_counter()
        data.batch(np.arange(100))
        times.append(time.perf_counter() - began)
    assert min(times) < 0.4, times


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"color_jitter=1.5 .* must lie in \[0, 1\]"):
        AugmentConfig(color_jitter=1.5)
    with pytest.raises(ValueError, match="crop_pad=-1"):
        AugmentConfig(crop_pad=-1)


def test_torchvision_is_imported_once_and_its_transforms_work():
    module = import_torchvision()
    assert import_torchvision() is module is sys.modules["torchvision"]
    from torchvision.transforms import v2

    assert v2.functional.adjust_hue(torch.full((1, 3, 2, 2), 7, dtype=torch.uint8), 0.2).shape == (1, 3, 2, 2)


FAKE = """
import torch
torch.ops.torchvision.{0}.default if hasattr(torch.ops.torchvision, "{0}") else None
open({1!r}, "a").write("x")
if not hasattr(torch.ops.torchvision, "{0}"):
    raise RuntimeError("operator torchvision::{0} does not exist")
"""


@pytest.mark.parametrize(
    "body, tries, says",
    [
        (FAKE.format("odd_one", "{log}") + "import torchvision.more\n", 3, "imported"),
        ("open({log!r}, 'a').write('x')\nraise RuntimeError('operator torchvision::odd_one does not exist')\n", 2, "does not work with torch"),
        ("open({log!r}, 'a').write('x')\n", 1, "imported"),
    ],
)
def test_missing_operators_are_defined_one_by_one(body, tries, says, tmp_path):
    """A torchvision that lacks operators this release does not know, in another process."""
    package, log = tmp_path / "torchvision", str(tmp_path / "log")
    package.mkdir()
    (package / "__init__.py").write_text(body.replace("{log!r}", repr(log)).replace("'{log}'", repr(log)))
    (package / "more.py").write_text(FAKE.format("other_one", log).replace(f"open({log!r}", f"open({log + '2'!r}"))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from vision.torchvision_import import import_torchvision\n"
        "try: import_torchvision(); print('imported')\nexcept ImportError as e: print(e)\n"
        "import torch; print(hasattr(torch.ops.torchvision, 'nms'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert says in out.stdout, out
    assert len(open(log).read()) == tries
    assert out.stdout.endswith("True\n") == (tries > 1), "where it imports nothing is defined"
