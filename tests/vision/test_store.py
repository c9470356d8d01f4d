"""Models on disk: whole, readable, and refused when anything is wrong."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import vision
from imagoal.loading import load_model
from vision.pixelcnn import PixelCNN, PixelCNNConfig
from vision.store import describe
from vision.vqvae import VQVAE, VQVAEConfig

VQ = VQVAEConfig(image_size=16, grid=4, codes=12, code_dim=3, hidden=16, residual_blocks=1, residual_hidden=8, ema=True)
PIXEL = PixelCNNConfig(layers=2, width=4, head=8, codes=12, grid=4, context_dim=48)


@pytest.fixture
def stored(tmp_path):
    return vision.save(VQVAE(VQ), tmp_path / "model")


def edit(folder, **values):
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(description | values))


@pytest.mark.parametrize("model", [VQVAE(VQ), PixelCNN(PIXEL)], ids=["vqvae", "pixelcnn"])
def test_round_trip(tmp_path, model):
    vision.save(model, tmp_path, notes={"data": "somewhere"})
    again = vision.load(tmp_path, type(model))
    assert type(again) is type(model) and again.config == model.config and not again.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [p.stride() for p in again.parameters()] == [p.stride() for p in model.parameters()]
    assert describe(tmp_path)["notes"] == {"data": "somewhere"}


def test_a_prior_with_attention_comes_back_whole(tmp_path, monkeypatch):
    """What is not stored is made anew: it sees nothing that comes later."""
    prior = PixelCNN(replace(PIXEL, context_blocks=1, attention=1, width=8)).eval()
    for parameter in prior.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    monkeypatch.setattr(torch, "empty_like", lambda like, **kwargs: torch.full_like(like, 7, **kwargs))  # what memory may hold
    again = vision.load(vision.save(prior, tmp_path))
    codes, context = torch.randint(12, (3, 4, 4)), torch.randn(3, 48)
    torch.testing.assert_close(again.log_prob(codes, context), prior.log_prob(codes, context), rtol=0.0, atol=0.0)


@pytest.mark.filterwarnings("ignore:.*non-meta parameter.*")
def test_a_run_is_loaded_onto_one_device(tmp_path):
    """The prior too, which is no part of the model."""
    vision.save(VQVAE(VQ), tmp_path / "model")
    vision.save(PixelCNN(PIXEL), tmp_path / "prior", {"model": describe(tmp_path / "model")["sha256"]})
    (tmp_path / "config.yaml").write_text("job: train\n")
    model = load_model(str(tmp_path), torch.device("meta"))
    assert {p.device.type for p in (*model.parameters(), *model.sampler.__self__.parameters())} == {"meta"}


def test_saving_again_leaves_one_model_and_no_scraps(stored):
    vision.save(VQVAE(VQ), stored)
    assert len(list(stored.iterdir())) == 2
    vision.load(stored)


def test_what_is_wrong_is_refused_with_the_reason(stored, tmp_path):
    weights = next(stored.glob("weights-*"))
    with pytest.raises(ValueError, match=r"holds a VQVAE, not a PixelCNN"):
        vision.load(stored, "PixelCNN")
    with pytest.raises(ValueError, match=r"no stored model at .*config\.json is missing"):
        vision.load(tmp_path / "nowhere")
    good = (stored / "config.json").read_text()
    for values, message in [
        ({"class": "os.system"}, "does not know"),
        ({"config": json.loads(good)["config"] | {"codes": 99}}, r"tensors differ, first codebook"),
        ({"config": json.loads(good)["config"] | {"colour": 1}}, "config does not fit VQVAEConfig.*colour"),
        ({"config": json.loads(good)["config"] | {"grid": 7}}, "power of two"),
        ({"config": json.loads(good)["config"] | {"hidden": "wide"}}, "config does not fit"),
        ({"config": json.loads(good)["config"] | {"residual_hidden": 4.5}}, "config does not fit"),
        ({"weights": "../../etc/passwd"}, "unexpected weights file"),
        ({"weights": "weights-000000000000.safetensors"}, "are missing"),
        ({"sha256": "0" * 64}, "is damaged"),
    ]:
        edit(stored, **values)
        with pytest.raises(ValueError, match=message):
            vision.load(stored)
        (stored / "config.json").write_text(good)
    (stored / "config.json").write_text(good[:-20])
    with pytest.raises(ValueError, match="not valid JSON"):
        vision.load(stored)
    (stored / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="does not describe"):
        vision.load(stored)
    (stored / "config.json").write_text(good)
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="is damaged"):
        vision.load(stored)


def test_unknown_classes_are_not_stored(tmp_path):
    with pytest.raises(ValueError, match="cannot store a Linear"):
        vision.save(nn.Linear(1, 1), tmp_path)
