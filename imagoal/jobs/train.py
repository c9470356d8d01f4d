"""`imagoal train`: a latent model from pictures, then the prior that imagines what a scene affords."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imagoal.config import TrainConfig
from imagoal.errors import UserError, explained
from imagoal.figures import metric_chart
from imagoal.fitting import fit_stage
from imagoal.loading import Pictures, open_pictures, pick_device
from imagoal.report import Report
from imagoal.run import RunFolder, read_metrics
from vision import load, save
from vision.data import CodePairs, ImageData, JitteredPairs, first_rows, later_rows
from vision.images import to_uint8
from vision.pixelcnn import PixelCNN
from vision.prior import AffordancePrior
from vision.store import describe
from vision.train import encode_dataset
from vision.vqvae import VQVAE


def main(config: TrainConfig) -> None:
    """Train, or continue training; leaves RUN/model, RUN/prior, report.html and result.json."""
    run = RunFolder("train", config)
    if run.done:
        print(f"train: already done, see {run.path}")
        return
    began = time.monotonic()
    pictures = open_pictures(config.data, config.image_size, config.unreadable_share, run.path / "columns")
    if config.vision.image_size != config.image_size:
        raise UserError(
            f"vision.image_size={config.vision.image_size} but image_size={config.image_size}: set both to the same number of pixels."
        )
    device = pick_device(config.device)
    model = train_model(config, run, pictures, device)
    result: dict[str, Any] = {"pictures": len(pictures.image), "psnr": psnr(model, pictures)}
    if pictures.folder is not None:
        result["skipped"] = len(pictures.folder.bad)
    prior = None
    if config.prior_steps:
        prior, nats = train_prior(config, run, pictures, model, device)
        result["prior.nats_per_code"] = nats
    result["seconds"] = round(time.monotonic() - began, 1)
    report(config, run, pictures, model, prior, result).save(run.path / "report.html")
    run.finish(result)


def train_model(config: TrainConfig, run: RunFolder, pictures: Pictures, device: torch.device) -> VQVAE:
    """The latent model; read back where this run had finished it."""
    folder = run.path / "model"
    if (folder / "config.json").is_file():
        return load(folder, VQVAE).to(device)  # type: ignore[no-any-return]
    torch.manual_seed(config.seed)
    model = VQVAE(config.vision)
    first = first_rows(pictures.columns.start, pictures.columns.end) if pictures.columns else None
    fit_stage(run, "model", model, ImageData(pictures.image, first), config.steps, config.batch_size, config.seed, device)
    save(model, folder, {"data": config.data})
    return model.eval()


def train_prior(
    config: TrainConfig, run: RunFolder, pictures: Pictures, model: VQVAE, device: torch.device
) -> tuple[AffordancePrior, float]:
    """The prior over the model's codes and its mean nats per code on a sample of the data.

    Pairs are (a later frame | frame 0 of its trajectory). Loose pictures have no first frame: their context is all zeros, and the prior
    unconditional.
    """
    codes = encode_dataset(model, pictures.image)
    n = len(codes)
    first = first_rows(pictures.columns.start, pictures.columns.end) if pictures.columns else np.arange(n)
    with explained("prior_after"):
        rows = later_rows(pictures.columns.start, pictures.columns.end, config.prior_after) if pictures.columns else np.arange(n)
    lookup = model.lookup if pictures.columns else lambda codes: torch.zeros(len(codes), model.latent_dim, device=device)
    data = CodePairs(codes.to(device), first, lookup, rows)
    folder, sha = run.path / "prior", describe(run.path / "model")["sha256"]
    if (folder / "config.json").is_file():
        pixelcnn = load(folder, PixelCNN)
    else:
        torch.manual_seed(config.seed + 1)
        scale = 1.0 / float(model.lookup(codes[:1024].long().to(device)).std().clamp_min(1e-6))
        fitting = {"codes": model.config.codes, "grid": model.config.grid, "context_dim": model.latent_dim, "context_scale": scale}
        pixelcnn = PixelCNN(replace(config.prior, **fitting))
        pixelcnn.set_codebook(model.codebook)
        pairs = data if config.prior_jitter < 0 or not pictures.columns else JitteredPairs(pictures.image, first, model, config.prior_jitter, rows)
        fit_stage(run, "prior", pixelcnn, pairs, config.prior_steps, config.prior_batch_size, config.seed, device, clip=1.0)
        save(pixelcnn, folder, {"model": sha})
    prior = AffordancePrior(pixelcnn.to(device).eval(), model)
    some = np.random.default_rng(config.seed).integers(len(data), size=min(n, 512))
    with torch.no_grad():
        targets, context = data.batch(some)
        nats = -float(prior.pixelcnn.log_prob(targets, context).mean()) / model.config.grid**2
    return prior, nats


@torch.no_grad()
def psnr(model: VQVAE, pictures: Pictures, most: int = 1024) -> float:
    """Peak signal-to-noise ratio in dB of reconstructions of evenly spaced pictures."""
    images = sample_pictures(pictures, most)
    pixels = torch.from_numpy(images).float() / 255
    rebuilt = model.decode(model.encode(torch.from_numpy(images).to(model.codebook.device))).cpu().permute(0, 2, 3, 1)
    return float(-10 * torch.log10((pixels - rebuilt).square().mean()))


def sample_pictures(pictures: Pictures, n: int) -> np.ndarray:
    """n pictures (or all, where there are fewer), evenly spaced."""
    rows = np.unique(np.linspace(0, len(pictures.image) - 1, n).astype(int))
    return np.ascontiguousarray(pictures.image[rows])


@torch.no_grad()
def report(
    config: TrainConfig, run: RunFolder, pictures: Pictures, model: VQVAE, prior: AffordancePrior | None, result: dict[str, Any]
) -> Report:
    """The page: reconstructions, what the prior imagines, and the curves."""
    page = Report("A latent model", f"imagoal train on `{Path(config.data).name}`, seed {config.seed}")
    tiles: list[tuple[str, object, str]] = [
        ("Pictures", result["pictures"], f"{config.image_size} pixels a side"),
        ("PSNR", f"{result['psnr']:.1f} dB", "reconstructions of training pictures"),
    ]
    if prior is not None:
        tiles.append(("Prior", f"{result['prior.nats_per_code']:.2f}", f"nats per code; uniform would be {np.log(model.config.codes):.2f}"))
    page.numbers([*tiles, ("Time", f"{result['seconds']:.0f} s", "this session")])
    if pictures.folder is not None and pictures.folder.bad:
        page.section("Skipped").table([[str(p), why] for p, why in pictures.folder.bad], ["file", "why"])
    device = model.codebook.device
    shown = sample_pictures(pictures, 10)
    rebuilt = to_uint8(model.decode(model.encode(torch.from_numpy(shown).to(device)))).cpu().numpy()
    page.section("Reconstructions").grid([list(shown), list(rebuilt)], row_labels=["picture", "rebuilt"])
    if prior is not None:
        generator = torch.Generator(device).manual_seed(config.seed)
        if pictures.columns is None:
            z = torch.zeros(24, model.latent_dim, device=device)
            drawn = to_uint8(model.decode(prior.sample(24, z, generator=generator))).cpu().numpy()
            page.section("Imagined", "Samples of the prior, which has learned what pictures like these look like.")
            page.grid([list(drawn[i : i + 8]) for i in range(0, 24, 8)])
        else:
            rows = []
            for start in pictures.columns.start[np.linspace(0, pictures.columns.episodes - 1, 6).astype(int)]:
                context = np.array(pictures.columns.image[start])
                z = model.encode(torch.from_numpy(context)[None].to(device))
                drawn = to_uint8(model.decode(prior.sample(6, z, generator=generator))).cpu().numpy()
                rows.append([context, *drawn])
            page.section("Imagined", "Left: the first picture of a trajectory. Right: what the prior says could be seen later.")
            page.grid(rows, column_labels=["seen", *[""] * 6])
    metrics = read_metrics(run.path)
    page.section("Learning curves")
    for name, title in (("model.loss", "Latent model"), ("prior.loss", "Prior")):
        if figure := metric_chart(metrics, {name: ""}, title, "gradient step", "loss"):
            page.figure(figure)
    page.section("The command").command(
        f"imagoal train data={config.data} steps={config.steps} prior_steps={config.prior_steps} seed={config.seed}"
    )
    return page
