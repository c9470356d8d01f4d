"""Every latent model alike: the protocol, contexts, files, and that a short training beats drawing the mean picture."""

import dataclasses
import importlib.util
import inspect
import json
from typing import Any

import pytest
import torch

import vision
from vision.autoencoder import AutoencoderConfig
from vision.bigan import BiGANConfig
from vision.cbigan import CBiGANConfig
from vision.ccvae import CCVAEConfig
from vision.cvae import CVAEConfig
from vision.data import ImageData
from vision.dsae import DSAE, DSAEConfig, spatial_softmax
from vision.fsq import FSQConfig
from vision.images import to_float
from vision.pixelcnn import PixelCNN, PixelCNNConfig
from vision.pretrained import PretrainedConfig
from vision.prior import AffordancePrior
from vision.protocols import CodeModel, LatentModel
from vision.store import CLASSES, build, describe
from vision.train import fit
from vision.vae import VAEConfig
from vision.vqvae import VQVAEConfig

SIDE = 24
GRID: dict[str, Any] = dict(image_size=SIDE, grid=6, hidden=16, residual_blocks=1, residual_hidden=8, center=True)
SMALL: dict[str, Any] = dict(image_size=SIDE, channels=8, hidden=64)
CONFIGS: dict[str, Any] = {
    "ae": AutoencoderConfig(**SMALL),
    "vae": VAEConfig(**SMALL),
    "cvae": CVAEConfig(**SMALL, features=32),
    "ccvae": CCVAEConfig(**SMALL),
    "dsae": DSAEConfig(image_size=SIDE, features=8, channels=8, decoder_channels=8, hidden=64, stride=2),
    "vqvae": VQVAEConfig(**GRID, codes=32, code_dim=4, ema=True, restart_dead=True, data_init=True),
    "fsq": FSQConfig(**GRID, levels=[5, 4, 3]),
    "bigan": BiGANConfig(**SMALL, latents=8),
    "cbigan": CBiGANConfig(**SMALL, latents=8),
    "timm": PretrainedConfig(**SMALL, model="resnet10t", weights="random", input_size=32),
}
CODES, GANS = ("vqvae", "fsq"), ("bigan", "cbigan")
EVERY = pytest.mark.parametrize("name", list(CONFIGS))


def make(name: str, **settings: Any) -> Any:
    """A fresh model, always the same; the test is skipped where its extra is not installed."""
    if name == "timm" and importlib.util.find_spec("timm") is None:
        pytest.skip("the extra `timm` is not installed")
    torch.manual_seed(0)
    return build(dataclasses.replace(CONFIGS[name], **settings))


def scenes(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(pictures, contexts): a bright square somewhere on a ground whose colour is the scene's; in the context it is in the corner."""
    g = torch.Generator().manual_seed(seed)
    ground = torch.randint(20, 120, (n, 1, 1, 3), generator=g, dtype=torch.uint8)
    context = ground.expand(n, SIDE, SIDE, 3).clone()
    image, colour = context.clone(), torch.tensor([250, 230, 40], dtype=torch.uint8)
    place = torch.randint(0, SIDE - 8, (n, 2), generator=g)
    context[:, :8, :8] = colour
    for i, (y, x) in enumerate(place.tolist()):
        image[i, y : y + 8, x : x + 8] = colour
    return image, context


def seen(model: LatentModel, context: torch.Tensor) -> torch.Tensor | None:
    return context if model.needs_context else None


def attached(model: Any, conditional: bool = True) -> Any:
    """The model; one of codes with a small untrained prior."""
    if isinstance(model, CodeModel):
        c = model.config
        sizes: dict[str, Any] = dict(layers=2, width=4, head=8, codes=c.codes, grid=c.grid, context_dim=model.latent_dim)
        AffordancePrior(PixelCNN(PixelCNNConfig(**sizes, conditional=conditional)).eval(), model).attach()
    return model


def test_no_model_is_left_out():
    assert {type(c) for c in CONFIGS.values()} == {config for _, config in CLASSES.values()} - {PixelCNNConfig}


@EVERY
def test_python_3_12_sees_the_protocol_too(name):
    """Its isinstance looks at classes and instances without calling __getattr__, so it finds no parameter, buffer or submodule of an nn.Module."""
    model, protocol = make(name), CodeModel if name in CODES else LatentModel
    for member in {*dir(protocol), *(field for owner in protocol.__mro__ for field in vars(owner).get("__annotations__", {}))}:
        if not member.startswith("_"):
            inspect.getattr_static(model, member)


@EVERY
def test_protocol_shapes_and_ranges(name):
    model = attached(make(name).eval())
    assert isinstance(model, LatentModel) and isinstance(model, CodeModel) == (name in CODES)
    json.dumps(dataclasses.asdict(model.config))
    image, context = scenes(5)
    given = seen(model, context)
    z = model.encode(image, given)
    assert z.shape == (5, model.latent_dim) and z.dtype == torch.float32
    assert torch.equal(z, model.encode(image, given)), "encoding is deterministic"
    assert torch.allclose(z[:2], model.encode(image[:2], None if given is None else given[:2]), atol=1e-4), "and each image's own"
    picture = model.decode(z, given)
    assert picture.shape == (5, 3, SIDE, SIDE) and picture.min() >= 0 and picture.max() <= 1
    model.train()
    loss, metrics = model.loss(image, given)
    assert loss.dim() == 0 and loss.requires_grad and {"loss", "mse"} <= set(metrics)
    assert all(value.dim() == 0 and not value.requires_grad for value in metrics.values())
    model.eval()
    ask = context[:1] if model.needs_context or name in CODES else None
    drawn = model.sample(7, ask, generator=torch.Generator().manual_seed(3))
    assert (drawn.shape == (7, model.latent_dim) and not drawn.requires_grad) or name == "ccvae"
    assert torch.equal(drawn, model.sample(7, ask, generator=torch.Generator().manual_seed(3)))
    assert model.decode(drawn, None if ask is None else ask).shape == (7, 3, SIDE, SIDE)
    with pytest.raises(ValueError, match="expected 24x24 images"):
        model.encode(torch.zeros(1, 12, 12, 3, dtype=torch.uint8), torch.zeros(1, 12, 12, 3, dtype=torch.uint8))


@EVERY
def test_a_context_is_needed_or_makes_no_difference(name):
    model = make(name).eval()
    image, context = scenes(3)
    z = model.encode(image, context)
    if not model.needs_context:
        assert torch.equal(z, model.encode(image)) and torch.equal(model.decode(z), model.decode(z, context))
        return
    with pytest.raises(ValueError, match="needs the first picture"):
        model.encode(image)
    with pytest.raises(ValueError, match="give one for each, or one for all"):
        model.encode(image, context[:2])
    with pytest.raises(ValueError, match="needs the first picture"):
        model.loss(image)
    if name != "ccvae":  # its latent holds the context already
        with pytest.raises(ValueError, match="needs the first picture"):
            model.decode(z)
    one = model.encode(image, context[:1])
    assert torch.allclose(one, model.encode(image, context[:1].expand(3, -1, -1, -1)), atol=1e-5), "one for all"


@EVERY
def test_files_keep_a_model_whole(name, tmp_path):
    model = make(name)
    image, context = scenes(6)
    model.train().loss(image, seen(model, context))  # moves what a training step moves beside the weights
    vision.save(model.eval(), tmp_path)
    again = vision.load(tmp_path, type(model))
    assert again.config == model.config and not again.training
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    z = model.encode(image, seen(model, context))
    assert torch.equal(z, again.encode(image, seen(model, context)))
    assert torch.equal(model.decode(z, context), again.decode(z, context))


# (steps, settings for learning in so few, the share of the mean picture's error to stay below)
LEARNING: dict[str, tuple[int, dict[str, Any], float]] = {
    "ae": (400, {"learning_rate": 4e-3}, 0.5),
    "vae": (400, {"learning_rate": 4e-3, "beta": 0.3}, 0.5),
    "cvae": (450, {"learning_rate": 4e-3, "beta": 0.3}, 0.5),
    "ccvae": (500, {"learning_rate": 2e-3, "beta": 0.3, "beta_start": 0.3, "dropout": 0.0}, 0.5),
    "dsae": (400, {}, 0.6),
    "vqvae": (250, {}, 0.5),
    "fsq": (250, {}, 0.5),
    "timm": (150, {"learning_rate": 4e-3}, 0.98),  # the features are random, only the decoder learns
}


@pytest.mark.parametrize("name", list(LEARNING))
def test_a_short_training_beats_the_mean_picture(name):
    """On held-out pictures, by minibatches. BiGANs are not here: nothing asks them to reconstruct."""
    steps, settings, share = LEARNING[name]
    model = make(name, **settings)
    image, context = scenes(512)
    held, held_context = scenes(128, seed=1)
    fit(model, Pairs(image, context) if model.needs_context else ImageData(image.numpy()), steps, batch_size=32)
    target = to_float(held)
    floor = (to_float(image).mean(0) - target).square().mean()
    given = seen(model, held_context)
    with torch.no_grad():
        error = (model.decode(model.encode(held, given), given) - target).square().mean()
    assert error < share * floor, f"{error:.4f} against {floor:.4f} of the mean picture"
    if name == "dsae":
        untrained, trained = probe(make(name).eval(), held), probe(model, held)
        assert trained > 0.97 and 1 - trained < 0.5 * (1 - untrained), "a linear probe reads the square's place"


class Pairs:
    """Batches of (picture, context)."""

    def __init__(self, image: torch.Tensor, context: torch.Tensor) -> None:
        self.columns = image, context

    def __len__(self) -> int:
        return len(self.columns[0])

    def batch(self, rows):
        return tuple(column[torch.from_numpy(rows)] for column in self.columns)


@EVERY
@pytest.mark.parametrize("side", [25, 0])
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(name, side):
    with pytest.raises(ValueError, match=r"image_size=\d+ must be .*(for instance|choose)"):
        dataclasses.replace(CONFIGS[name], image_size=side)


# -- code models and their priors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODES)
def test_codes_and_latents_name_each_other(name):
    model = make(name).eval()
    image, _ = scenes(4)
    codes = model.codes(image)
    assert codes.shape == (4, 6, 6) and 0 <= codes.min() and codes.max() < model.config.codes
    assert torch.equal(model.quantize(model.encode(image)), codes)
    z = model.encode(image) + 0.01 * model.codebook.std() * torch.randn(4, model.latent_dim)
    assert torch.equal(model.quantize(z), codes), "the nearest code of a latent a little off"
    every = torch.arange(model.config.codes).repeat(2)[: 36 * (model.config.codes // 36)].view(-1, 36)
    assert torch.equal(model.quantize(model.lookup(every)).flatten(1), every)


@pytest.mark.parametrize("name", CODES)
def test_a_train_run_is_loaded_with_its_prior(name, tmp_path):
    model = attached(make(name).eval())
    prior = model.sampler.__self__
    vision.save(model, tmp_path / "model")
    assert vision.load(tmp_path).sampler is None, "a run without a prior"
    _, context = scenes(3)
    with pytest.raises(ValueError, match="no prior is attached"):
        vision.load(tmp_path / "model").sample(2, context)
    vision.save(prior.pixelcnn, tmp_path / "prior", {"model": describe(tmp_path / "model")["sha256"]})
    again = vision.load(tmp_path, type(model))
    drawn = [m.sample(3, context, generator=torch.Generator().manual_seed(0)) for m in (model, again)]
    assert torch.equal(*drawn) and torch.equal(drawn[0], prior.sample(3, model.encode(context), generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="the first picture of a scene; give it as `context`"):
        again.sample(3)
    assert vision.load(tmp_path / "model").sampler is None, "a model's own folder is the model alone"
    with pytest.raises(ValueError, match="not a PixelCNN"):
        vision.load(tmp_path, "PixelCNN")
    vision.save(prior.pixelcnn, tmp_path / "prior", {"model": "another"})
    with pytest.raises(ValueError, match="another latent model"):
        vision.load(tmp_path)


@pytest.mark.parametrize("blocks", [0, 1])
def test_an_unconditional_prior_hears_no_context(blocks):
    model = make("fsq").eval()
    c = model.config
    sizes: dict[str, Any] = dict(layers=2, width=4, head=8, codes=c.codes, grid=c.grid, context_dim=model.latent_dim, context_blocks=blocks)
    codes = torch.randint(0, c.codes, (2, 6, 6))
    for conditional in (True, False):
        torch.manual_seed(0)
        prior = AffordancePrior(PixelCNN(PixelCNNConfig(**sizes, conditional=conditional)).eval(), model)
        prior.pixelcnn.set_codebook(model.codebook)
        model = prior.attach()
        one, other = (prior.pixelcnn.log_prob(codes, torch.full((2, model.latent_dim), v)) for v in (0.0, 1.0))
        assert torch.equal(one, other) != conditional
        if not conditional:
            _, context = scenes(2)
            drawn = [model.sample(2, x, generator=torch.Generator().manual_seed(0)) for x in (None, context)]
            assert torch.equal(*drawn)


# -- DSAE ---------------------------------------------------------------------------------------------------------------------


def test_spatial_softmax_by_hand():
    peak = 100.0
    maps = torch.zeros(1, 3, 5, 9)
    maps[0, 0, 1, 6] = peak  # row 1 of 5: -0.5; column 6 of 9: 0.5
    maps[0, 1, 0, 0] = maps[0, 1, 4, 4] = peak  # corner (-1, -1) and (0, 1): the midpoint
    z = spatial_softmax(maps, torch.tensor(1.0))
    torch.testing.assert_close(z, torch.tensor([[0.5, -0.5, 0.0, -0.5, 0.0, 0.0]]))  # x of each feature, then y; the third is flat
    maps = torch.zeros(1, 1, 1, 3)
    maps[0, 0, 0, 2] = 1.0
    for t in (0.5, 2.0):  # softmax of (0, 0, 1/t): x = (e^(1/t) - 1) / (e^(1/t) + 2)
        e = torch.tensor(1 / t).exp()
        torch.testing.assert_close(spatial_softmax(maps, torch.tensor(t))[0, 0], (e - 1) / (e + 2))


def test_features_follow_what_moves():
    """The encoder is equivariant: what moves by k strides moves its maps by as much, away from the edges."""
    model = DSAE(DSAEConfig(image_size=36, features=4, channels=8, decoder_channels=8, hidden=32, stride=2)).eval()
    image = torch.zeros(2, 36, 36, 3, dtype=torch.uint8)
    image[0, 14:18, 14:18], image[1, 16:20, 18:22] = 255, 255  # 1 and 2 strides further
    with torch.no_grad():
        inner = model.maps(to_float(image))[:, :, 6:-6, 6:-6]  # where the padding is out of sight
        assert torch.allclose(inner[0, :, :-1, :-2], inner[1, :, 1:, 2:], atol=1e-5) and inner.std() > 0.01


def probe(model: Any, image: torch.Tensor) -> float:
    """R^2 of a linear map from latents to the square's place, fitted on one half and judged on the other."""
    bright = (image[..., 0] > 200).float()
    place = torch.stack([(bright.sum(d) * torch.arange(SIDE)).sum(1) / 64 for d in (1, 2)], 1)
    with torch.no_grad():
        z = torch.cat([model.encode(image), torch.ones(len(image), 1)], 1)
    n = len(image) // 2
    weights = torch.linalg.lstsq(z[:n], place[:n]).solution
    rest = (z[n:] @ weights - place[n:]).square().sum()
    return float(1 - rest / (place[n:] - place[n:].mean(0)).square().sum())


# -- BiGAN --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GANS)
def test_each_player_gets_its_own_gradient_alone(name):
    model = make(name).train()
    image, context = scenes(8)
    of_d, of_eg, _ = model.losses(image, seen(model, context))
    for loss, owner in ((of_d, True), (of_eg, False)):
        model.zero_grad()
        loss.backward(retain_graph=True)
        for parameter, p in model.named_parameters():
            touched = p.grad is not None and bool(p.grad.abs().sum() > 0)
            if parameter.startswith("discriminator."):
                assert touched == owner, parameter
            elif parameter.startswith("averaged."):
                assert p.grad is None and not p.requires_grad, parameter
            else:  # a bias before a normalisation has a gradient of nearly 0
                assert not (touched and owner) and (owner or p.grad is not None), parameter
    assert model.select_best is False


def test_the_game_of_bigan_by_hand():
    """With D(x, z) = mean(x) + mean(z) every term can be written down."""
    model = make("bigan", noise=0.0, invert=0.5).eval()

    class Sum(torch.nn.Module):
        def forward(self, x, z):
            return x.mean((1, 2, 3)) + z.mean(1)

    model.discriminator = Sum()
    image, _ = scenes(4)
    model.prepare(image)
    torch.manual_seed(5)
    of_d, of_eg, metrics = model.losses(image)
    torch.manual_seed(5)
    z = torch.randn(4, 8)
    with torch.no_grad():
        truth = model.standard(image).mean((1, 2, 3)) + model.encode(image).mean(1)
        drawn = model.players["generator"](z)
        lie = drawn.mean((1, 2, 3)) + z.mean(1)
        missed = (model.players["encoder"](drawn) - z).square().mean()
    sigmoid = torch.sigmoid
    torch.testing.assert_close(of_d, -(sigmoid(truth).log() + (1 - sigmoid(lie)).log()).mean())
    torch.testing.assert_close(of_eg, -((1 - sigmoid(truth)).log() + sigmoid(lie).log()).mean() + 0.5 * missed)
    torch.testing.assert_close(metrics["missed"], missed)
    assert metrics["accuracy"] == 0.5 * ((truth > 0).float().mean() + (lie < 0).float().mean())
    assert torch.allclose(model.decode(z), (drawn * model.standard.spread + model.standard.mean).clamp(0, 1))


@pytest.mark.parametrize("name", GANS)
def test_encode_and_decode_use_the_averaged_weights(name):
    model = make(name, average=0.75).train()
    before = [p.clone() for p in model.averaged.parameters()]
    with torch.no_grad():
        for p in model.players.parameters():
            p.add_(1.0)
    image, context = scenes(2)
    z = model.encode(image, seen(model, context))
    model.after_step()
    for old, p in zip(before, model.averaged.parameters(), strict=True):
        torch.testing.assert_close(p, old + 0.25)
    assert not torch.equal(model.encode(image, seen(model, context)), z)


@pytest.mark.parametrize("name", GANS)
def test_a_short_game_draws_pictures_near_the_data(name):
    """Their mean picture is near, and they differ among each other about as much as pictures do."""
    model = make(name)
    image, context = scenes(512)
    fit(model, Pairs(image, context) if model.needs_context else ImageData(image.numpy()), 150, batch_size=32)
    with torch.no_grad():
        z = model.sample(512, context, generator=torch.Generator().manual_seed(0))
        drawn = model.decode(z, context)
    x = to_float(image)
    spread = model.standard.spread
    assert (drawn.mean(0) - x.mean(0)).square().mean().sqrt() < 0.5 * spread
    assert 0.5 * spread < drawn.std(0).mean() < 1.5 * spread
    assert 0.2 < model.encode(image, seen(model, context)).std(0).mean() < 1.5, "the encoder has not collapsed"


# -- pretrained ---------------------------------------------------------------------------------------------------------------


def test_pretrained_weights_are_the_users_and_stay_frozen(tmp_path):
    from safetensors.torch import save_file

    model = make("timm").train()
    before = {k: v.clone() for k, v in model.trunk.state_dict().items()}
    image, _ = scenes(32)
    fit(model, ImageData(image.numpy()), 5, batch_size=8)
    assert all(torch.equal(v, before[k]) for k, v in model.trunk.state_dict().items()), "statistics included"
    file = tmp_path / "model.safetensors"
    save_file({**before, "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}, file)  # the classifier is left out
    torch.manual_seed(9)
    given = build(dataclasses.replace(CONFIGS["timm"], weights=str(file))).eval()
    assert torch.equal(given.encode(image), model.encode(image))
    vision.save(given, tmp_path / "stored")
    file.unlink()
    assert torch.equal(vision.load(tmp_path / "stored").encode(image), given.encode(image)), "whole without the file"


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path):
    from safetensors.torch import save_file

    make("timm")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for settings, message in (
        ({"weights": ""}, "give the path of a .safetensors file"),
        ({"weights": "net.pth"}, "only .safetensors files are read"),
        ({"weights": str(tmp_path / "none.safetensors")}, "there is no such file"),
        ({"weights": str(tmp_path / "broken.safetensors")}, "is not a safetensors file"),
        ({"weights": str(tmp_path / "other.safetensors")}, "does not fit resnet10t"),
        ({"model": "resnet19"}, "knows no model 'resnet19'"),
    ):
        with pytest.raises(ValueError, match=message):
            build(dataclasses.replace(CONFIGS["timm"], **settings))
