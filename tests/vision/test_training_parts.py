"""What training does besides stepping: validation and early stop, hooks, precision, bad batches, waiting, prefetching."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import training_cases
from torch import nn
from training_cases import squares

from vision.data import ImageData
from vision.streams import BatchStream
from vision.train import fit
from vision.vqvae import VQVAE

TINY = replace(training_cases.TINY, codes=64, hidden=32)


@dataclass(frozen=True)
class LineConfig:
    learning_rate: float = 0.05
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)


class Line(nn.Module):
    """y = w x, with noise in its loss and dropout-like behaviour in training mode, and what it was told."""

    def __init__(self, config=LineConfig()):
        super().__init__()
        self.config, self.weight, self.progress = config, nn.Parameter(torch.zeros(3)), -1.0
        self.unused = nn.Parameter(torch.ones(2))
        self.seen, self.modes = [], []

    def loss(self, x, y):
        self.seen.append(self.progress)
        self.modes.append(self.training)
        noise = torch.randn(len(x)) * 0.1
        loss = ((x @ self.weight + noise - y) ** 2).mean() + (0.3 if self.training else 0.0)
        return loss, {"loss": loss.detach(), "error": (x @ self.weight - y).abs().mean().detach()}


class Points:
    """Rows of a fixed line; `shift` moves the answers, so that fitting the one unfits the other."""

    def __init__(self, n=64, shift=0.0, delay=0.0):
        rng = np.random.default_rng(0)
        self.x = torch.from_numpy(rng.standard_normal((n, 3))).float()
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5]) * (1 - shift)
        self.delay, self.asked = delay, []

    def __len__(self):
        return len(self.x)

    def batch(self, rows):
        time.sleep(self.delay)
        self.asked.append(rows)
        return self.x[torch.from_numpy(rows)], self.y[torch.from_numpy(rows)]


def test_validation_is_logged_and_the_best_weights_stay():
    """The answers of the validation lie half way: its loss falls, then rises, and the weights of the turn are kept."""
    model, logged, validation = Line(LineConfig(learning_rate=0.02)), {}, Points(40, shift=0.5)
    fit(model, Points(), 100, batch_size=16, validation=validation, validate_every=10,
        log=lambda step, m: logged.setdefault(step, m), log_every=25)  # fmt: skip
    assert sorted(logged) == sorted({*range(10, 101, 10), 25, 75}), "one row a step, also where both are due"
    assert {"loss", "error", "val_loss", "val_error"} <= set(logged[50]) and "val_loss" not in logged[25]
    losses = {step: m["val_loss"] for step, m in logged.items() if "val_loss" in m}
    best = min(losses, key=losses.get)
    assert 10 < best < 90, "it turns"
    error = (validation.x @ model.weight - validation.y).abs().mean()
    assert torch.isclose(error, torch.tensor(logged[best]["val_error"]), atol=1e-6), "the weights of the best step"
    assert logged[best]["val_loss"] < 0.3 + logged[best]["val_error"] ** 2 * 3, "in evaluation mode, without the 0.3"
    assert False in model.modes and True in model.modes and not model.training
    assert all(np.array_equal(rows, validation.asked[0][: len(rows)]) for rows in validation.asked[::3]), "the same rows"


def test_validating_changes_nothing_of_the_training():
    weights = []
    for validation in (None, Points(40)):
        model = Line()
        model.select_best = False
        state = torch.random.get_rng_state()
        fit(model, Points(), 30, batch_size=16, validation=validation, validate_every=7)
        assert torch.equal(torch.random.get_rng_state(), state)
        weights.append(model.weight.detach())
    assert torch.equal(*weights) and weights[0].abs().sum() > 0.5
    seen = []
    model = Line(LineConfig(learning_rate=0.0))
    fit(model, Points(), 12, batch_size=16, validation=Points(40), validate_every=4, log=lambda s, m: seen.append(m))
    assert len({m["val_loss"] for m in seen}) == 1, "random losses repeat"


@pytest.mark.parametrize("patience", [0, 2])
def test_resumed_anywhere_a_validated_run_ends_the_same(patience):
    settings = {"batch_size": 16, "validation": Points(40, shift=0.5), "validate_every": 5, "patience": patience}
    whole, saved, ended = Line(), {}, {}
    reached = fit(whole, Points(), 80, checkpoint=lambda s, state: saved.update({s: state}), checkpoint_every=1, **settings)
    assert (reached == 80) == (patience == 0) and max(saved) == reached
    best = int(saved[reached]["best_step"])
    assert best + 5 * max(patience, 1) <= reached and int(saved[reached]["bad"]) == (reached - best) // 5
    assert torch.equal(saved[reached]["best.weight"], whole.weight) and not torch.equal(saved[reached]["model.weight"], whole.weight)
    for step in (3, best - 1, best, best + 2, reached - 1, reached):
        other = Line()
        assert fit(other, Points(), 80, resume=saved[step], checkpoint=lambda s, state: ended.update(state), **settings) == reached
        assert torch.equal(other.weight, whole.weight), step
    assert all(torch.equal(ended[key], saved[reached][key]) for key in saved[reached]), "and with the same checkpoint"


def test_a_stop_and_a_resume_with_validation():
    settings = {"batch_size": 16, "validation": Points(40, shift=0.5), "validate_every": 5}
    whole, half, saved, calls = Line(), Line(), {}, []
    fit(whole, Points(), 40, **settings)
    assert fit(half, Points(), 40, stop=lambda: calls.append(1) or len(calls) == 23, checkpoint=lambda s, t: saved.update(t), **settings) == 23
    fit(half, Points(), 40, resume=saved, **settings)
    assert torch.equal(whole.weight, half.weight)


def test_models_that_cannot_be_compared_keep_their_last_weights():
    class Adversary(Line):
        select_best = False

    model, saved = Adversary(), {}
    fit(model, Points(), 60, batch_size=16, validation=Points(40, shift=0.9), validate_every=5, checkpoint=lambda s, t: saved.update(t))
    assert torch.equal(model.weight, saved["model.weight"]) and not [key for key in saved if "best" in key]
    with pytest.raises(ValueError, match="cannot stop early; set patience=0 instead of 3"):
        fit(Adversary(), Points(), 60, validation=Points(), patience=3)
    with pytest.raises(ValueError, match="patience=3 needs validation"):
        fit(Line(), Points(), 60, patience=3)
    with pytest.raises(ValueError, match=r"validation data \(0 rows\)"):
        fit(Line(), Points(), 60, validation=Points(0))


def test_progress_goes_from_nothing_to_almost_one_and_resumes():
    model, saved = Line(), {}
    fit(model, Points(), 8, batch_size=4, checkpoint=lambda s, t: saved.update({s: t}), checkpoint_every=2)
    assert model.seen == [k / 8 for k in range(8)]
    half = Line()
    fit(half, Points(), 8, batch_size=4, resume=saved[4])
    assert half.seen == [0.5, 0.625, 0.75, 0.875] and torch.equal(half.weight, model.weight)


def test_weight_decay_is_decoupled_and_betas_are_used():
    weights = {}
    for name, config in {
        "plain": LineConfig(), "decay": LineConfig(weight_decay=0.5), "betas": LineConfig(betas=[0.0, 0.9]),
    }.items():  # fmt: skip
        model = Line(config)
        fit(model, Points(), 10, batch_size=64)
        weights[name] = model
    assert torch.allclose(weights["plain"].unused, torch.ones(2))
    parameter = nn.Parameter(torch.zeros(3))
    model, optimizer = Line(), torch.optim.AdamW([parameter], lr=0.05, weight_decay=0.5)
    fit(model := Line(LineConfig(weight_decay=0.5)), Points(), 1, batch_size=64)
    rows = np.random.default_rng((0, 0)).integers(64, size=64)
    torch.manual_seed(int(np.random.default_rng((0, 0)).integers(2**62)))
    model.weight, moved = parameter, model.weight.detach().clone()
    model.loss(*Points().batch(rows))[0].backward()
    optimizer.step()
    assert torch.allclose(parameter, moved, atol=1e-7), "AdamW's step"
    assert weights["decay"].weight.norm() < weights["plain"].weight.norm()
    assert not torch.allclose(weights["betas"].weight, weights["plain"].weight)


def test_mixed_precision_learns_as_well():
    errors, types = {}, set()
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        model, logged = VQVAE(replace(TINY, hidden=16)), []
        model.decoder[0].register_forward_hook(lambda m, a, out: types.add(out.dtype))
        fit(model, ImageData(squares()), 120, batch_size=12, precision=precision, log=lambda s, m, seen=logged: seen.append(m),
            log_every=20, validation=ImageData(squares()), validate_every=120)  # fmt: skip
        assert logged[-1]["mse"] < 0.75 * logged[0]["mse"]
        errors[precision] = logged[-1]["val_mse"]
    assert types == {torch.float32, torch.bfloat16}
    assert errors["bf16-mixed"] < 1.5 * errors["32-true"], errors


def test_a_bad_batch_is_kept_and_named(tmp_path):
    images, kept, saved = squares(), {}, []
    images[7] = 250

    class Brittle(VQVAE):
        def loss(self, images, context=None):
            loss, metrics = super().loss(images)
            return (loss * float("inf") if (images == 250).all(-1).all(-1).all(-1).any() else loss), metrics

    def write(step, tensors):
        kept.update({step: tensors})
        return tmp_path / "bad.safetensors"

    with pytest.raises(FloatingPointError, match=r"not finite at step (\d+); lower learning_rate .*batch is in .*bad.safetensors") as error:
        fit(Brittle(TINY), ImageData(images), 50, batch_size=2, seed=1, bad_batch=write, checkpoint=lambda s, t: saved.append(s), checkpoint_every=1)
    (step,) = kept
    assert f"step {step};" in str(error.value) and list(kept[step]) == ["images"]
    assert torch.equal(kept[step]["images"], BatchStream(ImageData(images), 2, 1).at(step - 1)[0])
    assert (kept[step]["images"] == 250).all(-1).all(-1).all(-1).any(), "the very batch"
    assert saved == list(range(1, step)), "every good step was saved, the bad one was not"


def test_waiting_is_measured():
    shares = []
    for delay in (0.0, 0.05):
        logged = []
        fit(Line(), Points(delay=delay), 12, batch_size=8, log=lambda s, m, seen=logged: seen.append(m["waiting"]), log_every=6)
        assert all(0 <= share <= 1 for share in logged)
        shares.append(logged[-1])
    assert shares[0] < 0.4 and shares[1] > 0.6, shares


def test_batches_are_drawn_ahead_in_order_and_errors_come_through():
    class Failing(Points):
        def batch(self, rows):
            if len(self.asked) == 5:
                raise OSError("the disk is gone")
            return super().batch(rows)

    stream, plain = BatchStream(Points(), 4, 3, start=2), Points()
    for step, (x, _) in zip(range(2, 8), stream, strict=False):
        rows = np.random.default_rng((3, step)).integers(64, size=4)
        assert torch.equal(x, plain.batch(rows)[0])
    assert 6 <= len(stream.data.asked) <= 10, "a few ahead, not all"
    thread = stream.thread
    stream.close()
    assert thread is not None and not thread.is_alive()
    with pytest.raises(OSError, match="the disk is gone"):
        fit(Line(), Failing(), 20, batch_size=4)
    slow = Points(delay=0.02)
    stream = BatchStream(slow, 4, 0)
    reader = iter(stream)
    next(reader)
    time.sleep(0.15)
    waited = stream.waited
    next(reader)
    assert stream.waited - waited < 0.015, "drawn while the model was busy"
    stream.close()


def test_settings_of_devices_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="batch_size=15 must be divisible by devices=2"):
        fit(Line(), Points(), 3, batch_size=15, devices=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"devices=2, but this machine has 1 GPU\(s\)"):
        fit(Line(), Points(), 3, batch_size=16, devices=2, device="cuda")
