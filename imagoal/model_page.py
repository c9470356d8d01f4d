"""What a person looks at to trust a latent model: reconstructions, samples in scenes never trained on, traversals, codes, distances."""

from typing import Any

import numpy as np
import torch

from imagoal.figures import chart
from imagoal.judging import Judged, can_sample, contexts_at, pictures_at, sampled, task_state, thin
from imagoal.report import Report
from vision.images import to_uint8
from vision.judge import COMPARED, codebook_use, decode_all, device_of, encode_all
from vision.pictures import Pictures
from vision.protocols import CodeModel, LatentModel

SHOWN, DRAWN = 8, 5  # pictures (or scenes) side by side, samples below each
STEPS, DIMS = 7, 8  # of a traversal: values a number takes, numbers shown
WIDTH = 128  # latents wider than this are no list of things to turn

# name in result.json -> (title, unit, what it says)
NUMBERS = {
    "psnr": ("PSNR", "dB", "reconstructions of pictures kept from training"),
    "bits_per_dim": ("Bits per intensity", "", "about what an 8-bit intensity would cost to store, at most"),
    "elbo_per_dim": ("Bound", "nats", "evidence lower bound per intensity; compare models of one likelihood only"),
    "perplexity": ("Perplexity", "codes", "how many codes are in use, as if equally often"),
    "codes_used": ("Codes used", "share", "of the codebook, at least once"),
    "prior.nats_per_code": ("Prior", "nats", "per code, on trajectories kept from training"),
    "probe_r2": ("Probe R²", "", "the task's state, read from the latent by a linear map, on trajectories kept from training"),
    "rank_correlation": ("Distances", "", "rank correlation of latent with true distance within a trajectory"),
    "color_error": ("Colour error", "of 255", "of the things in samples, against the scene's own"),
    "background_error": ("Background error", "of 255", "of what cannot move, in samples"),
    "variety": ("Variety", "of 255", "of samples, against the first picture, where things move; 0 is a copy"),
}


def tiles(result: dict[str, Any]) -> list[tuple[str, object, str]]:
    """The headline numbers that a result has."""
    return [
        (title, f"{result[name]:.0%}" if unit == "share" else f"{result[name]:.3g} {unit}".strip(), note)
        for name, (title, unit, note) in NUMBERS.items()
        if isinstance(result.get(name), float) and not (name == "elbo_per_dim" and "bits_per_dim" in result)
    ]


def rebuilt(model: LatentModel, pictures: Pictures, rows: np.ndarray) -> np.ndarray:
    """Reconstructions (n, H, W, 3) uint8 of rows."""
    context = contexts_at(pictures, rows)
    drawn = decode_all(model, encode_all(model, pictures_at(pictures, rows), context), context)
    return np.rint(drawn * 255).astype(np.uint8)


def scene_columns(model: LatentModel, pictures: Pictures, episodes: np.ndarray, seed: int, draws: int = DRAWN) -> list[list[np.ndarray]]:
    """Rows of pictures: the first pictures of some scenes, and below each `draws` samples in it."""
    first = pictures_at(pictures, pictures.start[episodes])
    samples = [sampled(model, draws, context, seed + int(e)) for e, context in zip(episodes, first, strict=True)]
    return [list(first), *([column[i] for column in samples] for i in range(draws))]


def reconstructions(page: Report, model: LatentModel, pictures: Pictures, judged: Judged) -> None:
    """Pictures kept from training, with their contexts, and what the model makes of them."""
    rows = thin(judged.rows, SHOWN)
    context = contexts_at(pictures, rows)
    lines = [list(pictures_at(pictures, rows)), list(rebuilt(model, pictures, rows))]
    labels = ["picture", "rebuilt"]
    if context is not None and model.needs_context:
        lines, labels = [list(context), *lines], ["first", *labels]
    page.section("Reconstructions", "Of pictures kept from training.").grid(lines, row_labels=labels)


def samples(page: Report, model: LatentModel, pictures: Pictures, judged: Judged, seed: int) -> None:
    """Samples: in columns under the scenes they should be of, or of loose pictures."""
    if not can_sample(model):
        return
    if pictures.trajectories:
        knows = model.needs_context or isinstance(model, CodeModel)
        says = (
            "On top the first picture of a trajectory kept from training; below it, what the model imagines could be seen later in that scene."
            if knows
            else "This model knows no context: what it imagines under each first picture is of any scene."
        )
        grid = scene_columns(model, pictures, thin(judged.episodes, SHOWN), seed)
        page.section("Imagined", says).grid(grid, row_labels=["seen", *["imagined"] * DRAWN])
        return
    drawn = sampled(model, 3 * SHOWN, None, seed)
    page.section("Imagined", "Samples of the model's prior.").grid([list(drawn[i : i + SHOWN]) for i in range(0, len(drawn), SHOWN)])


@torch.no_grad()
def traversals(page: Report, model: LatentModel, pictures: Pictures, judged: Judged) -> None:
    """One picture's latent, each of its liveliest numbers turned from two standard deviations below the mean to two above."""
    if isinstance(model, CodeModel) or model.latent_dim > WIDTH:
        return
    some = thin(judged.rows, 512)
    z = encode_all(model, pictures_at(pictures, some), contexts_at(pictures, some))
    mean, spread = z.mean(0), z.std(0)
    device, row = device_of(model), some[len(some) // 2 :][:1]
    base = torch.from_numpy(encode_all(model, pictures_at(pictures, row), contexts_at(pictures, row))).to(device)
    given = contexts_at(pictures, row)
    context = None if given is None else torch.from_numpy(given).to(device)
    effect, lines = [], []
    for i in range(model.latent_dim):
        turned = base.repeat(STEPS, 1)
        turned[:, i] = torch.linspace(-2, 2, STEPS, device=device) * float(spread[i]) + float(mean[i])
        drawn = model.decode(turned, context).float()
        effect.append(float((drawn[-1] - drawn[0]).abs().mean()))
        lines.append(list(to_uint8(drawn).cpu().numpy()))
    strongest = np.argsort(effect)[::-1][:DIMS]
    page.section("Traversals", "One number of the latent at a time, from two standard deviations below its mean to two above; those that change the picture most.")
    page.grid([lines[i] for i in strongest], row_labels=[f"z{i}" for i in strongest])


@torch.no_grad()
def codebook(page: Report, model: LatentModel, pictures: Pictures, judged: Judged) -> None:
    """How often each code is used, most used first."""
    if not isinstance(model, CodeModel):
        return
    images = torch.from_numpy(pictures_at(pictures, thin(judged.rows, 512))).to(device_of(model))
    perplexity, used, share = codebook_use(model.codes(images), int(model.code_vectors.shape[0]))
    figure, axes = chart("", "code, most used first", "share of cells", height=2.4)
    axes.bar(np.arange(len(share)), np.sort(share)[::-1], width=1.0)
    axes.set_yscale("log")
    page.section("Codebook", f"{used:.0%} of {len(share)} codes are used, as many as {perplexity:.0f} used equally often.").figure(figure)


def distances(page: Report, model: LatentModel, pictures: Pictures, judged: Judged) -> None:
    """Latent distance against true distance (or steps apart, where no state is known) within trajectories."""
    if not pictures.trajectories:
        return
    state = task_state(pictures)
    true, latent = [], []
    for e in thin(judged.episodes, 30):
        rows = thin(np.arange(pictures.start[e], pictures.end[e]), COMPARED)
        z = encode_all(model, pictures_at(pictures, rows), contexts_at(pictures, rows))
        i, j = np.triu_indices(len(rows), 1)
        true.append(np.linalg.norm(state[rows][i] - state[rows][j], axis=1) if state.shape[1] else (j - i).astype(float))
        latent.append(np.linalg.norm(z[i] - z[j], axis=1))
    x, y = np.concatenate(true), np.concatenate(latent)
    some = np.random.default_rng(0).permutation(len(x))[:3000]
    figure, axes = chart("", "true distance" if state.shape[1] else "steps apart", "latent distance", height=2.8)
    axes.plot(x[some], y[some], ".", markersize=2, alpha=0.4)
    page.section("Distances", "Pairs of pictures of one trajectory. A goal reward needs the latent distance to grow with the true one.").figure(figure)
