"""Data-parallel training on two processes of the CPU: the batch's mathematics, one writer, and no process left behind."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from training_cases import TINY, squares

import vision.distributed
from vision.data import ImageData
from vision.distributed import leaves_parameters_out
from vision.streams import BatchStream
from vision.train import fit
from vision.vqvae import VQVAE

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="forks, which CUDA does not survive; see start_method")


@pytest.fixture(autouse=True)
def nothing_is_left():
    def here():
        return os.environ.get("RANK"), torch.get_num_threads(), signal.getsignal(signal.SIGINT)

    before = here()
    yield
    assert not multiprocessing.active_children() and here() == before


class Union:
    """For one process: at each step the rows that two processes draw there."""

    def __init__(self, data, batch_size, seed):
        self.data, self.step = data, 0
        self.streams = [BatchStream(data, batch_size // 2, seed, 0, rank, 2) for rank in range(2)]

    def __len__(self):
        return len(self.data)

    def batch(self, rows):
        if len(rows) == len(self.data):  # what `prepare` looks at
            return self.data.batch(rows)
        self.step += 1
        return tuple(torch.cat(parts) for parts in zip(*(s.at(self.step - 1) for s in self.streams), strict=True))


class Telling(VQVAE):
    """Every process writes what it has after each step."""

    folder = None

    def after_step(self):
        super().after_step()
        rank = os.environ.get("RANK", "one")
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, f"{self.folder}/{rank}-{int(self.steps)}.safetensors")


def build(config, folder):
    torch.manual_seed(0)
    model = Telling(config)
    model.folder = folder
    return model


def test_two_processes_take_the_steps_of_the_whole_batch(tmp_path):
    """Without restarts (whose vectors come from the first process) all is as if one process had the union of the rows."""
    config, data, logs = replace(TINY, restart_dead=False, learning_rate=1e-3), ImageData(squares(32)), {2: [], 1: []}
    two, one = build(config, tmp_path), build(config, tmp_path)
    assert fit(two, data, 4, batch_size=16, seed=5, devices=2, log=lambda s, m: logs[2].append((s, m)), log_every=2) == 4
    fit(one, Union(data, 16, 5), 4, batch_size=16, seed=5, log=lambda s, m: logs[1].append((s, m)), log_every=2)
    for step in range(1, 5):
        a, b, whole = (load_file(tmp_path / f"{who}-{step}.safetensors") for who in ("0", "1", "one"))
        for key in a:
            assert torch.equal(a[key], b[key]), (step, key)
            assert torch.allclose(a[key].double(), whole[key].double(), rtol=1e-3, atol=1e-4), (step, key)
        assert torch.isclose(a["usage"].mean(), whole["usage"].mean()), "the averages are of the global batch"
    assert all(torch.equal(x, two.state_dict()[key]) for key, x in a.items()), "and come back"
    assert [s for s, _ in logs[2]] == [2, 4] and set(logs[2][0][1]) == set(logs[1][0][1])
    assert logs[2][1][1]["loss"] == pytest.approx(logs[1][1][1]["loss"], rel=1e-3), "means over both processes"


def test_they_learn_validate_restart_and_resume(tmp_path):
    data, saved, logged, seen = ImageData(squares(32)), {}, {}, []
    settings = {"batch_size": 16, "devices": 2, "validation": data, "validate_every": 10, "checkpoint_every": 20}
    model, half = build(TINY, tmp_path), VQVAE(TINY)
    fit(model, data, 60, checkpoint=lambda s, t: saved.update({s: t}), log=lambda s, m: logged.update({s: m}), log_every=10,
        progress=lambda *a: seen.append(a), **settings)  # fmt: skip
    assert seen == [(k, 60) for k in range(1, 61)] and sorted(saved) == [20, 40, 60], "called here, once each"
    assert logged[60]["mse"] < 0.8 * logged[10]["mse"] and all(p.isfinite().all() for p in model.parameters())
    best = min((m["val_loss"], s) for s, m in logged.items())[1]
    assert int(saved[60]["best_step"]) == best and torch.equal(saved[60]["best.codebook"], model.codebook)
    a, b = (load_file(tmp_path / f"{rank}-60.safetensors") for rank in range(2))
    assert all(torch.equal(a[key], b[key]) for key in a), "restarted codes are the same ones"
    fit(half, data, 60, resume=saved[40], **settings)
    assert all(torch.equal(x, half.state_dict()[key]) for key, x in model.state_dict().items())


@dataclass(frozen=True)
class Config:
    learning_rate: float = 0.1


class Pair(nn.Module):
    """Two weights, of which `loss` uses one; and it fails when told to."""

    def __init__(self, fails=None, rank="1"):
        super().__init__()
        self.config, self.a, self.b, self.fails, self.rank = Config(), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(1)), fails, rank
        self.calls = 0

    def loss(self, images):
        self.calls += 1
        factor = 1.0
        if self.fails is not None and self.calls == 3 and os.environ.get("RANK") == self.rank:
            factor = self.fails()
        loss = (images.float().mean((0, 1, 2)) / 255 - self.a).square().sum() * factor
        return loss, {"loss": loss.detach()}


def test_parameters_without_gradients_are_allowed():
    model, data = Pair(), ImageData(squares(32))
    assert leaves_parameters_out(model, data, 8) and not leaves_parameters_out(VQVAE(TINY), data, 8)
    state = torch.random.get_rng_state()
    fit(model, data, 30, batch_size=8, devices=2)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers are left alone"
    assert torch.equal(model.b, torch.ones(1)) and (model.a > 0.2).all()


def broken():
    raise ValueError("this picture is odd")


def unknown():
    raise KeyError("no such thing")


def not_a_number():
    return float("nan")


def gone():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "fails, error, text",
    [
        (broken, ValueError, "training process 1 of 2: this picture is odd"),
        (unknown, RuntimeError, "training process 1 of 2: KeyError: 'no such thing'"),
        (gone, RuntimeError, "training process 1 of 2 died .exit code -9.*lower batch_size"),
    ],
)
def test_what_a_child_raises_ends_the_run(fails, error, text, capfd):
    began = time.monotonic()
    with pytest.raises(error, match=text):
        fit(Pair(fails), ImageData(squares(32)), 1000, batch_size=8, devices=2)
    assert time.monotonic() - began < 20


def test_a_loss_that_is_not_finite_gives_the_whole_batch():
    kept = {}
    data = ImageData(squares(32))
    with pytest.raises(FloatingPointError, match="not finite at step 3; lower learning_rate"):
        fit(Pair(not_a_number), data, 10, batch_size=8, devices=2, bad_batch=lambda s, t: kept.update(t))
    union = Union(data, 8, 0)
    assert torch.equal(kept["images"], [union.batch(np.arange(8))[0] for _ in range(3)][2])


def test_ctrl_c_and_stop():
    with pytest.raises(KeyboardInterrupt):
        fit(Pair(), ImageData(squares(32)), 10_000, batch_size=8, devices=2,
            progress=lambda step, _: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None)  # fmt: skip
    seen, saved = [], []
    reached = fit(Pair(), ImageData(squares(32)), 10_000, batch_size=8, devices=2, progress=lambda step, _: seen.append(step),
                  stop=lambda: len(seen) >= 5, checkpoint=lambda step, _: saved.append(step), checkpoint_every=10_000)  # fmt: skip
    assert 5 <= reached < 2000 and saved == [reached] == seen[-1:]


def test_mapped_files_travel_by_name(tmp_path):
    np.save(tmp_path / "images.npy", squares(32))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    ForkingPickler.register(np.memmap, vision.distributed.reduce_memmap)
    sent = ForkingPickler.dumps(mapped)
    assert len(sent) < 1000 < mapped.nbytes
    received = ForkingPickler.loads(sent)
    assert isinstance(received, np.memmap) and np.array_equal(received, mapped)
    part = ForkingPickler.loads(ForkingPickler.dumps(mapped[3:5]))
    assert part.dtype == np.uint8 and np.array_equal(part, mapped[3:5])


@pytest.mark.parametrize("held", [lambda: 0, open(os.devnull)], ids=["lambda", "file"])
def test_what_cannot_be_sent_to_a_fresh_process_is_refused(held, monkeypatch):
    monkeypatch.setattr(vision.distributed, "start_method", lambda: "spawn")
    data = ImageData(squares(32))
    data.held = held
    with pytest.raises(ValueError, match=r"cannot be sent to another process .*devices=2 use functions and classes"):
        fit(Pair(), data, 10, batch_size=8, devices=2)


def test_mixed_precision_and_clipping_work_there_too():
    model, logged = VQVAE(TINY), []
    fit(model, ImageData(squares(32)), 4, batch_size=8, devices=2, precision="bf16-mixed", gradient_clip=0.5,
        log=lambda s, m: logged.append(m["loss"]), log_every=1)  # fmt: skip
    assert len(logged) == 4 and np.isfinite(logged).all() and all(p.dtype == torch.float32 for p in model.parameters())
