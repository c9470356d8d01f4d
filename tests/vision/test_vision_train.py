"""Training: it learns, it resumes exactly, it says when it cannot go on."""

import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

sys.path.insert(0, str(Path(__file__).parent))
from training_cases import TINY, squares

from vision.data import CodePairs, ImageData, JitteredPairs, first_rows, jitter, later_rows
from vision.encoding import encode_dataset
from vision.pixelcnn import PixelCNN, PixelCNNConfig
from vision.train import fit
from vision.vqvae import VQVAE, VQVAEConfig

GRADIENT = VQVAEConfig(image_size=16, grid=4, codes=16, code_dim=4, hidden=16, residual_blocks=1, residual_hidden=8)


def build(config: VQVAEConfig = TINY) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(config)


def test_it_overfits_a_handful_of_pictures():
    model, logged = build(replace(TINY, codes=64, hidden=32)), {}
    fit(model, ImageData(squares()), 250, batch_size=24, log=lambda step, m: logged.update({step: m}), log_every=25)
    assert list(logged) == list(range(25, 251, 25)) and not model.training
    assert set(logged[250]) == {"loss", "mse", "commitment", "perplexity", "images_per_s", "waiting"}
    assert logged[250]["mse"] < 0.3 * logged[25]["mse"]
    x = torch.from_numpy(squares())
    error = (model.decode(model.encode(x)) - x.permute(0, 3, 1, 2) / 255).square().mean()
    assert error < 0.3 * (x.float() / 255).var(0).mean(), "better than the mean image by far"


@pytest.mark.parametrize("config", [TINY, GRADIENT], ids=["ema", "gradient"])
def test_a_resumed_run_ends_with_the_same_weights(config):
    data, saved, resumed = ImageData(squares()), {}, {}
    whole = build(config)
    fit(whole, data, 14, batch_size=8, seed=3, gradient_clip=1.0,
        checkpoint=lambda step, state: saved.update({step: save_bytes(state)}), checkpoint_every=5)  # fmt: skip
    assert sorted(saved) == [5, 10, 14]
    half = VQVAE(config)  # other initial weights
    state = load_bytes(saved[5])
    reached = fit(half, data, 14, batch_size=8, seed=3, gradient_clip=1.0, resume=state,
                  checkpoint=lambda step, state: resumed.update({step: save_bytes(state)}), checkpoint_every=5)  # fmt: skip
    assert reached == 14
    for key, value in whole.state_dict().items():
        assert torch.equal(value, half.state_dict()[key]), key
    assert saved[14] == resumed[14], "optimiser state included"
    assert fit(half, data, 10, resume=load_bytes(saved[14])) == 14, "nothing left to do"
    other = build(config)
    fit(other, data, 14, batch_size=8, seed=4, gradient_clip=1.0)
    assert not torch.equal(other.encoder[0].weight, whole.encoder[0].weight)


def test_mixed_precision_and_clipping():
    model, logged = build(), []
    fit(model, ImageData(squares()), 4, batch_size=8, precision="bf16-mixed", gradient_clip=0.5,
        log=lambda step, metrics: logged.append(metrics["loss"]), log_every=1)  # fmt: skip
    assert all(p.dtype == torch.float32 for p in model.parameters()) and np.isfinite(logged).all()
    clipped, free = build(GRADIENT), build(GRADIENT)
    weight = clipped.encoder[0].weight.detach().clone()
    fit(clipped, ImageData(squares()), 1, batch_size=8, gradient_clip=1e-12)  # Adam's epsilon outweighs such gradients
    fit(free, ImageData(squares()), 1, batch_size=8)
    assert (clipped.encoder[0].weight - weight).abs().max() < 1e-6 < (free.encoder[0].weight - weight).abs().max()
    with pytest.raises(ValueError, match="precision='16-mixed'"):
        fit(model, ImageData(squares()), 4, precision="16-mixed")


def test_the_prior_learns_and_resumes():
    """Two scenes, each with its own two outcomes: the prior must not imagine the other scene's."""
    torch.manual_seed(0)
    lookup_table = torch.randn(6, 3)

    def lookup(codes):
        return lookup_table[codes.long()].transpose(-1, -2).flatten(-2)

    episodes = [[[0] * 4, [1, 0, 0, 0], [2, 0, 0, 0]], [[5] * 4, [5, 5, 5, 3], [5, 5, 5, 4]]] * 2
    codes = torch.tensor(episodes, dtype=torch.int16).flatten(0, 1)
    first = first_rows(np.array([0, 3, 6, 9]), np.array([3, 6, 9, 12]))
    assert first.tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9]
    data = CodePairs(codes, first, lookup)
    batch, context = data.batch(np.array([1, 5]))
    assert batch.shape == (2, 2, 2) and torch.equal(context, lookup(codes[[0, 3]]))

    config = PixelCNNConfig(layers=3, width=16, head=32, codes=6, grid=2, context_dim=12, kernel=3, learning_rate=5e-3)
    model, saved = PixelCNN(config), {}
    fit(
        model, data, 120, batch_size=12, checkpoint=lambda step, state: saved.update({step: state}), checkpoint_every=60
    )
    half = PixelCNN(config)
    fit(half, data, 120, batch_size=12, resume=saved[60])
    assert all(torch.equal(value, half.state_dict()[key]) for key, value in model.state_dict().items())
    samples = model.sample_codes(lookup(codes[:1]).expand(200, -1), generator=torch.Generator().manual_seed(0))
    possible = (samples.flatten(1)[:, None] == codes[:3]).all(-1).any(1)
    assert possible.float().mean() > 0.9
    assert samples.flatten(1).unique(dim=0).shape[0] >= 3


def test_later_rows_are_the_ends_of_episodes():
    start, end = np.array([0, 5, 6]), np.array([5, 6, 10])
    assert later_rows(start, end, 0.5).tolist() == [2, 3, 4, 5, 8, 9]
    assert later_rows(start, end, 1.0).tolist() == [4, 5, 9]
    assert later_rows(start, end, 0.0).tolist() == list(range(10))
    with pytest.raises(ValueError, match="must lie in"):
        later_rows(start, end, 1.5)


def test_jitter_changes_the_pictures_of_a_scene_alike():
    images = np.random.default_rng(0).integers(10, 100, (64, 1, 4, 4, 3), np.uint8).repeat(2, 1)
    out = jitter(images, 0.0, np.random.default_rng(1))
    assert out.shape == images.shape and out.dtype == np.uint8 and (out[:, 0] == out[:, 1]).all()
    assert (np.sort(out.reshape(64, -1)) == np.sort(images.reshape(64, -1))).all(), "orders and mirrors, no new numbers"
    same = [(x == y).all() for x, y in zip(out, images, strict=True)]
    assert 0 < sum(same) < 20, "a twelfth stays as it is"
    bright = jitter(np.full_like(images, 250), 0.5, np.random.default_rng(1))
    assert bright.max() == 255 and bright.min() < 200, "clipped, not wrapped round"
    assert (bright == bright[:, :1, :1, :1]).all()


def test_jittered_pairs_repeat_and_without_effect_are_code_pairs():
    torch.manual_seed(0)
    model, images = VQVAE(VQVAEConfig(image_size=16, grid=4, codes=8)).eval(), np.full((12, 16, 16, 3), 120, np.uint8)
    images += np.arange(12, dtype=np.uint8)[:, None, None, None] * 10  # greys, which neither mirrors nor orders change
    first, rows = np.repeat([0, 4, 8], 4), np.array([2, 3, 6, 7, 10, 11])
    pairs = JitteredPairs(images, first, model, 0.0, rows)
    assert len(pairs) == 6
    plain = CodePairs(torch.from_numpy(encode_dataset(model, images)), first, model.lookup, rows).batch(np.array([0, 3, 5]))
    for a, b in zip(pairs.batch(np.array([0, 3, 5])), plain, strict=True):
        assert torch.equal(a.to(b.dtype), b)
    strong = JitteredPairs(images, first, model, 0.5, rows)
    assert all(torch.equal(a, b) for a, b in zip(strong.batch(np.arange(6)), strong.batch(np.arange(6)), strict=True))


def test_a_learning_rate_that_decays_is_resumed_where_it_was():
    codes, first = torch.randint(6, (8, 4), dtype=torch.int16), np.zeros(8, np.int64)
    data = CodePairs(codes, first, lambda c: c.float())
    config = PixelCNNConfig(layers=2, width=8, head=8, codes=6, grid=2, context_dim=4, kernel=3, learning_rate=1e-2, decay=True)
    torch.manual_seed(0)
    model, half, saved = PixelCNN(config), PixelCNN(config), {}
    fit(model, data, 20, batch_size=4, checkpoint=lambda step, state: saved.update({step: state}), checkpoint_every=1)
    fit(half, data, 20, batch_size=4, resume=saved[10])
    assert all(torch.equal(value, half.state_dict()[key]) for key, value in model.state_dict().items())
    moved = [sum((saved[i + 1][key] - saved[i][key]).abs().sum() for key in saved[i] if key.startswith("model.")) for i in (2, 18)]
    assert moved[1] < 0.2 * moved[0]


def test_a_loss_that_is_not_finite_stops_and_names_the_step():
    class Broken(VQVAE):
        calls = 0

        def loss(self, images, context=None):
            self.calls += 1
            loss, metrics = super().loss(images)
            return (loss * float("nan"), metrics) if self.calls == 4 else (loss, metrics)

    model = Broken(TINY)
    with pytest.raises(FloatingPointError, match="not finite at step 4; lower learning_rate"):
        fit(model, ImageData(squares()), 10, batch_size=4)
    assert all(p.isfinite().all() for p in model.parameters()), "the bad step was not taken"


def test_stop_progress_and_silence(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen, saved, model = [], [], build()
    state = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reached = fit(model, ImageData(squares()), 100, batch_size=4, progress=lambda *a: seen.append(a),
                      checkpoint=lambda step, _: saved.append(step), stop=lambda: len(seen) == 6)  # fmt: skip
    assert reached == 7 and saved == [7] and seen[0] == (1, 100) and seen[-1] == (7, 100)
    out, err = capfd.readouterr()
    assert out == "" and err == "" and not list(tmp_path.iterdir()), "no noise, no files"
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers are left alone"


def test_ctrl_c_comes_through_and_leaves_ctrl_c_working():
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(build(), ImageData(squares()), 50, batch_size=4,
            progress=lambda step, _: os.kill(os.getpid(), signal.SIGINT) if step == 3 else None)  # fmt: skip
    assert signal.getsignal(signal.SIGINT) is handler


def test_wrong_checkpoints_and_settings_are_refused():
    saved = {}
    fit(build(), ImageData(squares()), 1, batch_size=2, checkpoint=lambda step, state: saved.update(state))
    with pytest.raises(ValueError, match="does not fit this VQVAE"):
        fit(VQVAE(VQVAEConfig(image_size=16, grid=4, codes=8)), ImageData(squares()), 2, resume=saved)
    with pytest.raises(ValueError, match="no step"):
        fit(build(), ImageData(squares()), 2, resume={})
    with pytest.raises(ValueError, match="batch_size=0"):
        fit(build(), ImageData(squares()), 2, batch_size=0)
    with pytest.raises(ValueError, match="needs uint8"):
        ImageData(squares().astype(np.float32))
    with pytest.raises(ValueError, match="one after another"):
        first_rows(np.array([0, 4]), np.array([3, 6]))


def test_a_dataset_is_encoded_whole_from_a_memmap(tmp_path):
    np.save(tmp_path / "images.npy", squares(11))
    images, model, calls = np.load(tmp_path / "images.npy", mmap_mode="r"), build().eval(), []
    codes = encode_dataset(model, images, batch_size=4, progress=lambda done, total: calls.append((done, total)))
    assert codes.shape == (11, 16) and codes.dtype == np.int16 and calls == [(4, 11), (8, 11), (11, 11)]
    assert (codes == model.codes(torch.from_numpy(squares(11))).flatten(1).numpy()).all()
    contexts = ImageData(images, first=np.zeros(11, np.int64)).batch(np.array([3, 4]))
    assert torch.equal(contexts[1], torch.from_numpy(squares(11))[[0, 0]])
