"""`imagoal train`: a latent model from pictures; for models of codes also the prior that imagines what a scene affords."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from imagoal import model_page
from imagoal.compose import command
from imagoal.config import TrainConfig
from imagoal.errors import UserError, explained
from imagoal.figures import metric_chart
from imagoal.fitting import fit_stage
from imagoal.judging import Judged, choose, judge, pictures_at, thin
from imagoal.loading import encoded, open_pictures, pick_device, split
from imagoal.report import Report
from imagoal.run import RunFolder, read_metrics
from vision import load, save
from vision.augment import Augmented
from vision.data import CodePairs, ImageData, JitteredPairs, first_rows, later_rows
from vision.pictures import Pictures
from vision.pixelcnn import PixelCNN
from vision.prior import AffordancePrior
from vision.protocols import CodeModel, LatentModel
from vision.store import build, describe


def main(config: TrainConfig) -> None:
    """Train, or continue training; leaves RUN/model, RUN/prior, report.html and result.json."""
    began = time.monotonic()
    size = config.image_size or config.vision.image_size
    with explained("image_size"):
        settings = replace(config.vision, image_size=size)
    with explained("prior_after"):
        later_rows(np.array([0]), np.array([2]), config.prior_after)
    device = pick_device(config.device)
    pictures = open_pictures(config, size)  # what is wrong with the data is said before there is a run folder
    train, kept = split(pictures, config)
    with explained("vision"):
        torch.manual_seed(config.seed)
        model: Any = build(settings)
    if model.needs_context and not pictures.trajectories:
        raise UserError(
            f"data: {type(model).__name__} learns from trajectories, but {config.data} holds loose pictures. "
            "Use vision=vae or vision=vqvae, or data with trajectories (videos, Minari, HDF5, LeRobot)."
        )
    run = RunFolder("train", config)
    if run.done:
        print(f"train: already done, see {run.path}")
        return
    judged = choose(pictures, train, kept)
    model = train_model(config, model, run, pictures, train, kept, judged, device)
    result: dict[str, Any] = {
        "pictures": len(pictures.image), "trajectories": len(pictures.start) if pictures.trajectories else 0, "skipped": len(pictures.skipped),
    }  # fmt: skip
    if config.prior_steps and isinstance(model, CodeModel):
        prior, result["prior.nats_per_code"] = train_prior(config, run, pictures, model, train, kept, device)
        prior.attach()
    result |= judge(model, pictures, judged, config.seed)
    result["seconds"] = round(time.monotonic() - began, 1)
    report(config, run, pictures, model, judged, result).save(run.path / "report.html")
    run.finish(result)


def train_model(
    config: TrainConfig, model: Any, run: RunFolder, pictures: Pictures, train: np.ndarray, kept: np.ndarray, judged: Judged, device: torch.device
) -> LatentModel:
    """The fresh latent model (a module that is a `LatentModel`), trained; or read back where this run had finished it."""
    folder = run.path / "model"
    if (folder / "config.json").is_file():
        return load(folder).to(device)  # type: ignore[no-any-return]
    seen = model.needs_context or getattr(model.config, "foreground_weight", 0) > 0  # the others would load contexts for nothing
    first = pictures.first if seen else None
    with trainable():
        data = Augmented(ImageData(pictures.image, first, train), config.augment, config.seed)
    rows = thin(judged.rows, 8)

    def look() -> np.ndarray:
        pair = np.stack([pictures_at(pictures, rows), model_page.rebuilt(model, pictures, rows)])
        return pair.transpose(0, 2, 1, 3, 4).reshape(2 * pair.shape[2], -1, 3)

    with trainable():
        fit_stage(
            run, "model", model, data, config.steps, config.batch_size, config.seed, device,
            validation=ImageData(pictures.image, first, kept), pictures=look, **shared_settings(config),
        )  # fmt: skip
    save(model, folder, {"data": config.data})
    return model.eval()  # type: ignore[no-any-return]


@contextmanager
def trainable() -> Iterator[None]:
    """What training refuses (a batch that cannot be divided, a device that is not there, torchvision missing) as one line."""
    try:
        with explained("train"):
            yield
    except ImportError as error:
        raise UserError(f"train: {error}") from error


def shared_settings(config: TrainConfig) -> dict[str, Any]:
    """How both networks are trained, from the job's keys."""
    precision = "bf16-mixed" if config.precision == "bf16" else "32-true"
    return {"validate_every": config.validate_every, "patience": config.patience, "precision": precision, "devices": config.devices}


def train_prior(
    config: TrainConfig, run: RunFolder, pictures: Pictures, model: CodeModel, train: np.ndarray, kept: np.ndarray, device: torch.device
) -> tuple[AffordancePrior, float]:
    """The prior over the model's codes, and its mean nats per code on what was kept for validation.

    Pairs are (a later frame | frame 0 of its trajectory). Loose pictures have no first frame: their prior is unconditional.
    """
    late = later_rows(pictures.start, pictures.end, config.prior_after) if pictures.trajectories else np.arange(len(pictures.image))
    first = first_rows(pictures.start, pictures.end)
    codes = encoded(model, run.path, pictures)
    training, validation = (CodePairs(codes.to(device), first, model.lookup, np.intersect1d(late, rows)) for rows in (train, kept))
    folder, sha = run.path / "prior", describe(run.path / "model")["sha256"]
    if (folder / "config.json").is_file():
        pixelcnn = load(folder, PixelCNN)
    else:
        torch.manual_seed(config.seed + 1)
        scale = 1.0 / float(model.lookup(codes[torch.from_numpy(training.rows[:1024])].long().to(device)).detach().std().clamp_min(1e-6))
        sizes = {"codes": int(model.code_vectors.shape[0]), "grid": model.grid_shape[1], "context_dim": model.latent_dim, "context_scale": scale}
        pixelcnn = PixelCNN(replace(config.prior, **sizes, conditional=pictures.trajectories))
        pixelcnn.set_codebook(model.code_vectors)
        pairs: Any = training
        if config.prior_jitter >= 0 and pictures.trajectories:
            pairs = JitteredPairs(pictures.image, first, model, config.prior_jitter, training.rows)
        with trainable():
            fit_stage(
                run, "prior", pixelcnn, pairs, config.prior_steps, config.prior_batch_size, config.seed, device, clip=1.0,
                validation=validation, **shared_settings(config),
            )  # fmt: skip
        save(pixelcnn, folder, {"model": sha})
    prior = AffordancePrior(pixelcnn.to(device).eval(), model)
    return prior, nats_per_code(prior, validation)


@torch.no_grad()
def nats_per_code(prior: AffordancePrior, pairs: CodePairs, most: int = 1024) -> float:
    """Mean over evenly spaced pairs and all cells."""
    codes, context = pairs.batch(thin(np.arange(len(pairs)), most))
    return -float(prior.pixelcnn.log_prob(codes, context).mean()) / codes[0].numel()


@torch.no_grad()
def report(config: TrainConfig, run: RunFolder, pictures: Pictures, model: LatentModel, judged: Judged, result: dict[str, Any]) -> Report:
    """The page of one model."""
    name = type(model).__name__
    page = Report("A latent model", f"{name}, imagoal train on `{config.data.rstrip('/').rsplit('/', 1)[-1]}`, seed {config.seed}")
    side = pictures.image.shape[1]
    episodes = f", {len(pictures.start)} trajectories" if pictures.trajectories else ""
    page.numbers([
        *model_page.tiles(result), ("Pictures", len(pictures.image), f"{side} pixels a side{episodes}"), ("Time", f"{result['seconds']:.0f} s", "this session"),
    ])  # fmt: skip
    if not config.validation:
        page.text("validation=0: everything below is measured on the pictures that the model was trained on.")
    if pictures.skipped:
        page.section("Skipped").table([[what, why] for what, why in pictures.skipped[:50]], ["what", "why"], f"{len(pictures.skipped)} in all.")
    model_page.reconstructions(page, model, pictures, judged)
    model_page.samples(page, model, pictures, judged, config.seed)
    model_page.traversals(page, model, pictures, judged)
    model_page.codebook(page, model, pictures, judged)
    model_page.distances(page, model, pictures, judged)
    metrics = read_metrics(run.path)
    page.section("Learning curves")
    for stage, title in (("model", "Latent model"), ("prior", "Prior")):
        if figure := metric_chart(metrics, {f"{stage}.loss": "training", f"{stage}.val_loss": "validation"}, title, "gradient step", "loss"):
            page.figure(figure)
    page.section("The command", "Every setting is in `config.yaml` in the run folder.").command(command("train", config))
    return page
