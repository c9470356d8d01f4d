"""A stage of a run: one writer of metrics, TensorBoard and pictures, continued where it was cut off."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from imagoal import fitting
from imagoal.config import JobConfig
from imagoal.fitting import fit_stage
from imagoal.run import RunFolder, read_metrics
from vision.data import ImageData


class Config:
    learning_rate = 0.05


class Mean(nn.Module):
    """Learns the mean colour; `dies` at a call of its loss."""

    def __init__(self, dies=0, nan=0):
        super().__init__()
        self.config, self.colour, self.calls, self.dies, self.nan = Config(), nn.Parameter(torch.zeros(3)), 0, dies, nan

    def loss(self, images):
        if self.training:
            self.calls += 1
            if self.calls == self.dies:
                raise RuntimeError("killed")
        loss = (images.float().mean((1, 2)) / 255 - self.colour + torch.randn(()) * 0.01).square().mean()
        return loss * (float("nan") if self.nan and self.calls == self.nan else 1), {"loss": loss.detach()}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY", 10)
    monkeypatch.setattr(fitting, "PICTURES_EVERY", 20)


def data(n=40):
    return ImageData(np.random.default_rng(n).integers(0, 255, (n, 4, 4, 3)).astype(np.uint8) // 2 + 60)


def stage(folder, network, resume=False, steps=60, **settings):
    run = RunFolder("train", JobConfig(run=str(folder), resume=resume))

    def pictures():
        assert not network.training and not torch.is_grad_enabled()
        torch.rand(3)
        return np.broadcast_to((network.colour.detach().numpy() * 255).astype(np.uint8), (6, 8, 3)).copy()

    reached = fit_stage(run, "model", network, data(), steps, 8, 0, torch.device("cpu"), pictures=pictures, **settings)
    return run, reached


def events(folder):
    board = EventAccumulator(str(folder / "tensorboard" / "model"), size_guidance={"scalars": 0, "images": 0}).Reload()
    scalars = {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    return scalars, [e.step for e in board.Images("pictures")]


def test_a_run_cut_off_continues_with_the_same_weights_metrics_boards_and_pictures(tmp_path):
    """Killed at step 57, after the log and picture of steps 50 and 40: both are there once."""
    validated = {"validation": data(24), "validate_every": 10}
    whole, part = Mean(), Mean(dies=57)
    stage(tmp_path / "whole", whole, **validated)
    with pytest.raises(RuntimeError, match="killed"):
        stage(tmp_path / "part", part, **validated)
    assert (tmp_path / "part" / "pictures" / "model-40.png").is_file() and not (tmp_path / "part/pictures/model-60.png").exists()
    checkpoints = tmp_path / "part" / "checkpoints"
    pointer = json.loads((checkpoints / "model.json").read_text())  # as if the last checkpoint had not been finished
    pointer |= {"kept": pointer["kept"][1:], "rows": 4}
    (checkpoints / "model.json").write_text(json.dumps(pointer))
    again = Mean()
    _, reached = stage(tmp_path / "part", again, resume=True, **validated)
    assert reached == 60 and again.calls == 20 and torch.equal(again.colour, whole.colour)
    a, b = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "part")
    timed = {"model.images_per_s", "model.waiting"}
    assert set(a) == set(b) >= {"model.loss", "model.val_loss"} | timed
    assert all(a[key] == b[key] for key in a if key not in timed)
    (one, pictures), (two, repeated) = events(tmp_path / "whole"), events(tmp_path / "part")
    assert pictures == repeated == [20, 40, 60] and [s for s, _ in one["val_loss"]] == list(range(10, 61, 10))
    assert one["val_loss"] == two["val_loss"] and one["loss"] == two["loss"], "what was written after the checkpoint is purged"
    files = sorted(p.name for p in (tmp_path / "whole" / "pictures").iterdir())
    assert files == ["model-20.png", "model-40.png", "model-60.png"]
    for name in files:
        assert np.array_equal(*(np.asarray(Image.open(tmp_path / which / "pictures" / name)) for which in ("whole", "part")))
    shown = np.asarray(Image.open(tmp_path / "whole" / "pictures" / "model-60.png"))
    assert shown.shape == (6, 8, 3) and (shown[0, 0] == (whole.colour.detach().numpy() * 255).astype(np.uint8)).all()


def test_early_stop_and_a_second_call_does_nothing(tmp_path):
    dark = ImageData(np.full((8, 4, 4, 3), 40, np.uint8))  # passed on the way to the data's mean
    settings = {"validation": dark, "validate_every": 2, "patience": 2, "steps": 100}
    _, reached = stage(tmp_path / "run", network := Mean(), **settings)
    assert reached < 30
    _, again = stage(tmp_path / "run", repeated := Mean(), resume=True, **settings)
    assert again == reached and repeated.calls == 0 and torch.equal(repeated.colour, network.colour)


def test_a_bad_batch_lies_in_the_run_folder(tmp_path):
    with pytest.raises(FloatingPointError, match=r"not finite at step 33; lower learning_rate .*run/bad_batch-33.safetensors"):
        stage(tmp_path / "run", Mean(nan=33))
    images = load_file(tmp_path / "run" / "bad_batch-33.safetensors")["images"]
    assert images.shape == (8, 4, 4, 3) and images.dtype == torch.uint8
    checkpoint = RunFolder("train", JobConfig(run=str(tmp_path / "run"), resume=True)).load_checkpoint("model")
    assert checkpoint.state["step"] == 30 and checkpoint.tensors["model.colour"].isfinite().all(), "the last good one stays"


@pytest.mark.skipif(torch.cuda.is_available(), reason="forks")
def test_two_processes_have_one_writer(tmp_path):
    run, reached = stage(tmp_path / "run", network := Mean(), devices=2, validation=data(24), validate_every=10)
    metrics = read_metrics(run.path)
    assert metrics["step"] == [10, 20, 30, 40, 50, 60] and reached == 60 and (network.colour > 0.3).all()
    early, late = (np.asarray(Image.open(run.path / "pictures" / f"model-{step}.png"))[0, 0, 0] for step in (20, 60))
    assert early > 100 and late > 100, "drawn with what the processes had learned"
