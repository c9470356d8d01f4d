"""VQ-VAE: the quantizer against NumPy, gradients, the moving codebook, and that it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vision.grids import pixel_weights
from vision.images import to_float
from vision.pixelcnn import PixelCNNConfig
from vision.protocols import LatentModel
from vision.vqvae import PROBATION, VQVAE, VQVAEConfig, ema_codebook, nearest_codes

TINY = VQVAEConfig(image_size=16, grid=4, codes=12, code_dim=3, hidden=16, residual_blocks=1, residual_hidden=8)
CONFIGS = Path(__file__).parents[2] / "configs" / "vision"


def tiny(**settings) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(replace(TINY, **settings))


def images(n: int = 4, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_nearest_codes_match_numpy():
    x, codebook = torch.randn(200, 5), torch.randn(40, 5)
    distance = np.linalg.norm(x.numpy()[:, None] - codebook.numpy()[None], axis=-1)
    assert np.array_equal(nearest_codes(x, codebook).numpy(), distance.argmin(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(nearest_codes(x, codebook).numpy(), distance.argmin(1))


def test_latents_flatten_as_channel_row_column():
    model = tiny().eval()
    assert isinstance(model, LatentModel) and model.grid_shape == (3, 4, 4) and model.latent_dim == 48
    codes = model.codes(images())
    z = model.encode(images())
    for row, column in ((0, 0), (1, 3), (3, 2)):
        assert torch.equal(z.view(4, 3, 4, 4)[:, :, row, column], model.codebook[codes[:, row, column]])
    assert torch.equal(model.quantize(z), codes)
    flat = model.lookup(codes.flatten(1).to(torch.int16))
    assert torch.equal(flat, z) and torch.equal(model.lookup(codes[None])[0], z)
    assert model.lookup(codes[0].flatten()).shape == (48,)
    picture = model.decode(z)
    assert picture.shape == (4, 3, 16, 16) and picture.min() >= 0 and picture.max() <= 1
    with pytest.raises(ValueError, match="expected codes"):
        model.lookup(torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected 16x16 images"):
        model.encode(images(side=32))


def test_straight_through_gradient():
    """The encoder receives the reconstruction's gradient at the quantized latent, as if quantization were not there."""
    model = tiny(commitment=0.0)
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda module, args, out: (out.retain_grad(), seen.append(out))[0])
    loss, _ = model.loss(images())
    loss.backward()
    z = model.encode(images()).detach().requires_grad_()
    (model.reconstruct(z) - images().permute(0, 3, 1, 2) / 255).square().mean().backward()
    torch.testing.assert_close(seen[0].grad.flatten(1), z.grad)
    assert model.codebook.grad.abs().sum() > 0


def test_each_term_moves_what_it_should_against_numpy():
    """The codebook moves by its own term alone, the encoder by the reconstruction (straight through) and the commitment."""
    model = tiny(commitment=0.7)
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda module, args, out: (out.retain_grad(), seen.append(out))[0])
    model.loss(images())[0].backward()
    x = seen[0].detach().permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    index = ((x[:, None] - model.codebook.detach().numpy()) ** 2).sum(-1).argmin(1)
    pull = 2 * (model.codebook.detach().numpy()[index] - x) / x.size
    codebook = np.zeros((12, 3), np.float32)
    np.add.at(codebook, index, pull)
    np.testing.assert_allclose(model.codebook.grad, codebook, rtol=1e-4, atol=1e-8)
    z = model.lookup(torch.from_numpy(index).view(4, 4, 4)).detach().requires_grad_()
    (model.reconstruct(z) - images().permute(0, 3, 1, 2) / 255).square().mean().backward()
    through = z.grad.view(4, 3, 4, 4).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    gradient = seen[0].grad.permute(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_allclose(gradient, through - 0.7 * pull, rtol=1e-4, atol=1e-8)


def test_loss_terms_against_numpy():
    model = tiny(commitment=0.7)
    loss, metrics = model.loss(images())
    with torch.no_grad():
        x = model.features(images()).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
        e = model.codebook.numpy()[((x[:, None] - model.codebook.numpy()) ** 2).sum(-1).argmin(1)]
        out = model.reconstruct(model.encode(images())).numpy()
    target = images().numpy().transpose(0, 3, 1, 2) / 255
    mse, gap = ((out - target) ** 2).mean(), ((x - e) ** 2).mean()
    assert loss.item() == pytest.approx(mse + 1.7 * gap, rel=1e-4)
    assert metrics["mse"].item() == pytest.approx(mse, rel=1e-4)
    assert metrics["commitment"].item() == pytest.approx(gap, rel=1e-4)
    assert all(value.dim() == 0 and not value.requires_grad for value in metrics.values())


def test_foreground_weighs_what_differs_from_the_context():
    model = tiny(foreground_weight=9.0)
    context = torch.full((1, 16, 16, 3), 128, dtype=torch.uint8)
    frame = context.clone()
    frame[0, :4, :4] = 250
    weights = pixel_weights(to_float(frame), to_float(context), 9.0, 0.1)
    assert weights[0, 0, :4, :4].eq(10).all() and weights.sum().item() == 16 * 10 + (256 - 16)
    assert model.loss(frame, context)[0] > model.loss(frame, frame)[0]
    model.prepare(context)
    assert model.loss(frame)[0] == model.loss(frame, context)[0], "without a context, what differs from the mean image"


def test_ema_update_matches_numpy():
    model = tiny(ema=True, ema_decay=0.9)
    assert not model.codebook.requires_grad
    usage, total = model.usage.numpy().copy(), model.total.numpy().copy()
    with torch.no_grad():
        x = model.features(images()).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
        index = model.codes(images()).flatten().numpy()
    one_hot = np.eye(12, dtype=np.float32)[index] * 12 / len(index)
    usage = 0.9 * usage + 0.1 * one_hot.sum(0)
    total = 0.9 * total + 0.1 * one_hot.T @ x
    smoothed = (usage + 1e-5) / (usage.sum() + 12e-5) * usage.sum()
    model.loss(images())
    model.after_step()
    np.testing.assert_allclose(model.usage, usage, rtol=1e-5)
    np.testing.assert_allclose(model.codebook, total / smoothed[:, None], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ema_codebook(torch.ones(2), torch.tensor([[3.0], [4.0]])), [[3.0], [4.0]], rtol=1e-5)
    before = model.codebook.clone()
    model.eval().loss(images())
    model.after_step()
    assert torch.equal(before, model.codebook), "evaluation must not move the codebook"


def test_usage_is_smoothed_so_that_an_unused_code_stays_finite():
    """By hand, e = 0.1: N = 2, smoothed usage 0.1 / 2.2 * 2 = 1 / 11 and 2.1 / 2.2 * 2 = 21 / 11."""
    codebook = ema_codebook(torch.tensor([0.0, 2.0]), torch.tensor([[1.0], [4.0]]), epsilon=0.1)
    np.testing.assert_allclose(codebook, [[11.0], [44 / 21]], rtol=1e-6)


@pytest.mark.parametrize("ema", [True, False])
def test_dead_codes_restart_on_the_batch(ema):
    model = tiny(ema=ema, restart_dead=True)
    model.usage[3] = 1e-4
    model.codebook.data[3] = 1e3  # far from everything: never chosen
    model.loss(images())
    with torch.no_grad():
        x = model.features(images()).permute(0, 2, 3, 1).reshape(-1, 3)
    model.after_step()
    assert (x - model.codebook[3]).abs().amax(1).min() < 1e-5
    assert model.usage[3] == PROBATION and torch.allclose(model.total[3], PROBATION * model.codebook[3])
    assert model.steps == 1


def test_restarts_bring_a_collapsed_codebook_into_use():
    model = tiny(ema=True, restart_dead=True, ema_decay=0.8)
    for _ in range(60):
        model.loss(images(64))
        model.after_step()
    assert model.loss(images(64))[1]["perplexity"] > 6


def test_codebook_begins_uniform_or_on_data_and_once():
    model = tiny()
    assert model.codebook.abs().max() <= 1 / 12 and model.codebook.std() > 0.2 / 12
    model = tiny(data_init=True, center=True)
    model.prepare(images(32))
    torch.testing.assert_close(model.mean_image, images(32).permute(0, 3, 1, 2).float().mean(0) / 255)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert model.loss(images(32))[1]["perplexity"] > 4
    model.prepare(images(8))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_centred_model_works_on_the_difference_from_the_mean_image():
    model, plain = tiny(center=True), tiny()
    model.prepare(images(32))
    difference = images().permute(0, 3, 1, 2) / 255 - model.mean_image
    torch.testing.assert_close(model.features(images()), plain.encoder(difference))
    z = torch.randn(4, 48)
    torch.testing.assert_close(model.reconstruct(z), plain.reconstruct(z) + model.mean_image)


@pytest.mark.parametrize("stem", [2, 4])
@pytest.mark.parametrize("blocks", [0, 2])
def test_a_local_code_is_of_its_own_patch_alone(stem, blocks):
    """Another patch changes the features of its own cell and of no other; with the paper's encoder also of its neighbours."""
    a = images(1, 32)
    b = a.clone()
    b[:, 8:12, 16:20] = 255 - b[:, 8:12, 16:20]  # row 2, column 4 of a grid of 8
    for local in (True, False):
        model = tiny(image_size=32, grid=8, stem=stem, residual_blocks=blocks, local=local)
        with torch.no_grad():
            changed = (model.features(a) - model.features(b)).abs().amax(1)[0] > 1e-6
        assert changed[2, 4] and (changed.sum() == 1) == local


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": 5}, "power of two"),
        ({"grid": 16}, "power of two"),
        ({"stem": 8}, "stem=8"),
        ({"codes": 40000}, "int16"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"hidden": 15}, "divisible"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **settings)


@pytest.mark.parametrize(("name", "shape"), [("vqvae", (5, 12, 12)), ("vqvae_small", (8, 6, 6))])
def test_the_configs_build_models_that_fit(name, shape):
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert values.pop("name") == "vqvae"
    prior = values.pop("prior")
    model = VQVAE(VQVAEConfig(**values))
    assert model.grid_shape == shape
    assert model.decode(model.encode(images(2, 48))).shape == (2, 3, 48, 48)
    PixelCNNConfig(codes=model.config.codes, grid=model.config.grid, context_dim=model.latent_dim, **prior)
