"""Train, compare and encode as a person would: every kind of model, from trajectories and from loose pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import envs  # noqa: F401
from imagoal.compose import load as compose
from imagoal.errors import UserError
from imagoal.jobs import compare, train
from imagoal.loading import cut, split
from imagoal.run import read_result
from imagoal.stages import stage, stages
from vision import load, open_encoded
from vision.pictures import Pictures

SMALL = ("threads=1", "batch_size=16", "steps=6", "validate_every=3", "prior_steps=4", "prior_batch_size=8", "validation=0.3")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A collect run of eight short trajectories."""
    home = tmp_path_factory.mktemp("models")
    stage("collect", home / "data", "scenes=8", "episodes=8", "horizon=4", "workers=1", "threads=1")
    return home


@pytest.fixture(autouse=True)
def own_cache(home, monkeypatch):
    monkeypatch.setenv("IMAGOAL_CACHE", str(home / "cache"))


def trained(home, name, *more, data="data"):
    return stage("train", home / name, f"data={home / data}", *SMALL, *more)


def test_models_are_judged_on_what_they_were_not_trained_on_and_compared(home, capsys):
    flat = trained(home, "vae", "vision=vae", "vision.channels=4", "vision.hidden=16")
    context = trained(home, "ccvae", "vision=ccvae", "vision.channels=4", "vision.hidden=16")
    codes = trained(home, "vqvae", "vision=vqvae_small")
    everywhere = {"psnr", "probe_r2", "rank_correlation", "color_error", "background_error"}
    assert everywhere | {"bits_per_dim", "elbo_per_dim"} <= set(flat) and everywhere | {"bits_per_dim"} <= set(context)
    assert everywhere | {"perplexity", "codes_used", "prior.nats_per_code"} <= set(codes)
    assert all(np.isfinite(v) for result in (flat, context, codes) for v in result.values())
    for name in ("vae", "ccvae", "vqvae"):
        page = (home / name / "report.html").read_text()
        assert "Reconstructions" in page and "Imagined" in page and ("Traversals" in page) == (name != "vqvae") == ("Codebook" not in page)
        assert (home / name / "metrics.csv").read_text().count("\n") > 1
        assert list((home / name / "tensorboard").rglob("events*")) and list((home / name / "pictures").glob("model-*.png"))
    stage("compare", home / "comparison", f"runs={home / 'vae'},{home / 'ccvae'},{home / 'vqvae'}")
    table = json.loads((home / "comparison" / "comparison.json").read_text())
    assert table["vae"]["psnr"] == flat["psnr"] and set(table) == {"vae", "ccvae", "vqvae"}
    assert "vqvae" in capsys.readouterr().out and "Numbers" in (home / "comparison" / "report.html").read_text()


def test_loaded_models_encode_decode_and_sample(home):
    images = torch.from_numpy(np.load(home / "data" / "columns" / "image.npy")[:6])
    for name in ("vae", "ccvae", "vqvae"):
        if not (home / name / "result.json").is_file():
            trained(home, name, f"vision={'vqvae_small' if name == 'vqvae' else name}")
        model = load(home / name)
        z = model.encode(images, images[:1])
        assert z.shape == (6, model.latent_dim) and model.decode(z, images[:1]).shape == (6, 3, 48, 48)
        goals = model.sample(3, images[:1], generator=torch.Generator().manual_seed(0))
        assert goals.shape == (3, model.latent_dim) and torch.isfinite(model.decode(goals, images[:1])).all()


def test_encoded_pictures_are_of_one_model(home):
    trained(home, "one", "vision=vae", "vision.channels=4")
    trained(home, "two", "vision=vae", "vision.channels=4", "seed=1")
    result = stage("encode", home / "latents", f"model={home / 'one'}", f"data={home / 'data'}")
    z = open_encoded(home / "latents", model=home / "one")
    images = torch.from_numpy(np.load(home / "data" / "columns" / "image.npy"))
    with torch.no_grad():
        assert np.load(home / "latents" / "episodes.npz")["end"][-1] == len(z) and z.shape == (result["pictures"], 16) and np.allclose(z, load(home / "one").encode(images).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="stale"):
        open_encoded(home / "latents", model=home / "two")
    with pytest.raises(UserError, match="48 pixels"):
        stage("encode", home / "wrong", f"model={home / 'one'}", f"data={home / 'data'}", "image_size=24")


def test_loose_pictures_have_an_unconditional_prior_and_no_context_models(home):
    folder = home / "photos" / "nested"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (60, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    result = trained(home, "loose", "vision=vqvae_small", "image_size=24", "vision.grid=6", data="photos")
    assert result["pictures"] == 20 and result["skipped"] == 1 and "probe_r2" not in result
    model = load(home / "loose")
    assert model.sample(2).shape == (2, model.latent_dim), "of no scene in particular"
    assert "broken.png" in (home / "loose" / "report.html").read_text()
    with pytest.raises(UserError, match="loose pictures"):
        trained(home, "refused", "vision=ccvae", data="photos")


def test_a_killed_training_ends_as_the_uninterrupted_one(home, monkeypatch):
    """Stopped by an exception after a checkpoint, in the middle of the model's training."""
    words = [f"data={home / 'data'}", *SMALL, "vision=ccvae", "vision.channels=4", "vision.hidden=16", "steps=5", "augment.crop_pad=2"]
    import imagoal.fitting as fitting

    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY", 2)
    stage("train", home / "whole", *words)
    real = train.fit_stage

    def cut_off(run, *arguments, **keys):
        checkpoint = run.checkpoint

        def stop(name, tensors, state, rng=None):
            checkpoint(name, tensors, state, rng)
            if state["step"] == 4:
                raise KeyboardInterrupt

        run.checkpoint = stop
        return real(run, *arguments, **keys)

    monkeypatch.setattr(train, "fit_stage", cut_off)
    with pytest.raises(KeyboardInterrupt):
        stage("train", home / "cut", *words)
    monkeypatch.setattr(train, "fit_stage", real)
    stage("train", home / "cut")
    whole, cut = (read_result(home / name) for name in ("whole", "cut"))
    assert {k: v for k, v in whole.items() if k != "seconds"} == {k: v for k, v in cut.items() if k != "seconds"}


def test_pieces_of_a_trajectory_are_kept_from_its_end():
    images, none = np.zeros((50, 8, 8, 3), np.uint8), np.zeros((50, 0), np.float32)
    whole = Pictures(images, np.array([0, 30]), np.array([30, 50]), none, True, np.zeros(2, np.int64))
    pieces = cut(whole, 10)
    assert pieces.start.tolist() == [0, 10, 20, 30, 40] and pieces.end.tolist() == [10, 20, 30, 40, 50]
    config = compose("train", ["data=-", "clip=10", "validation=0.4"])
    train_rows, kept = split(pieces, config)
    assert kept.tolist() == [*range(20, 30), *range(40, 50)] and len(train_rows) == 30
    assert cut(whole, 12).end.tolist() == [12, 30, 42, 50], "a rest of half a piece or less belongs to the one before"
    with pytest.raises(UserError, match="at least 2 frames"):
        cut(whole, 1)


def test_bad_requests_are_one_line(home):
    with pytest.raises(UserError, match="multiple of 12"):
        trained(home, "bad-size", "vision=vae", "image_size=50")
    with pytest.raises(UserError, match="validation"):
        trained(home, "bad-split", "vision=vae", "validation=0.99")
    for words, said in ((["vision=bigan", "patience=5"], "patience"), (["vision=vae", "devices=3"], "devices"), (["vision=vae", "augment=0.2"], "block of settings")):
        with pytest.raises(UserError, match=said):
            trained(home, f"bad-{words[-1]}", *words)
    with pytest.raises(UserError, match="at least two runs"):
        compare.main(compose("compare", [f"runs={home / 'vae'}", f"run={home / 'alone'}"]))


def test_a_policy_learns_through_a_model_without_codes_or_contexts(home):
    trained(home, "flat", "vision=vae", "vision.channels=4")
    found = stage("pretrain", home / "policy", f"data={home / 'data'}", f"model={home / 'flat'}", "batch_size=16", "updates=2", "agent=bc", "agent.hidden=16", "threads=1")
    assert found["updates"] == 2 and found["threshold"] > 0


def test_stages_run_side_by_side_and_say_which_failed(home):
    good = ("train", home / "side", [f"data={home / 'data'}", *SMALL, "vision=ae", "vision.channels=4"])
    bad = ("train", home / "side-bad", [f"data={home / 'nothing'}", *SMALL, "vision=ae"])
    assert stages([good], 2)[0]["psnr"] == pytest.approx(stages([good], 1)[0]["psnr"])
    with pytest.raises(UserError, match="side-bad"):
        stages([bad], 2)
    assert "nothing" in (home / "side-bad.log").read_text()
