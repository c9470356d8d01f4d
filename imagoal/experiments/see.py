"""Every latent model on the scene family: how well it rebuilds, what its samples keep of a scene, and whether its distances mean anything."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from imagoal.config import ExperimentConfig
from imagoal.experiments.pictures import columns_figure
from imagoal.figures import PALETTE, STYLE, figure_png
from imagoal.jobs.compare import open_candidate
from imagoal.judging import references
from imagoal.model_page import NUMBERS
from imagoal.stages import stage, stages

GAN = ("batch_size=32", "steps=800")  # more and smaller steps: what they learn most from in the same time
CODES = ("steps=800", "prior_steps=700")  # fewer: their priors take the rest of the time
# variant -> (file of configs/vision, what else it is trained with)
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "autoencoder": ("ae", ()),
    "spatial_autoencoder": ("dsae", ("steps=600",)),  # its maps at half the picture's resolution are dear
    "vae": ("vae", ()),
    "vae_bernoulli": ("vae_bernoulli", ()),
    "cvae": ("cvae", ()),
    "cc_vae": ("ccvae", ()),
    "bigan": ("bigan", GAN),
    "conditional_bigan": ("cbigan", GAN),
    "vqvae_pixelcnn": ("vqvae_small", CODES),
    "vqvae_pixelcnn_loss_codebook": ("vqvae_small", (*CODES, "vision.ema=false", "vision.restart_dead=false")),
    "fsq_pixelcnn": ("fsq_small", CODES),
}
SHOWN = ("vae", "cvae", "cc_vae", "bigan", "conditional_bigan", "vqvae_pixelcnn", "fsq_pixelcnn")  # in the figure of samples
PANELS = ("psnr", "probe_r2", "rank_correlation", "color_error", "background_error", "variety")
KEPT = (*NUMBERS, "seconds")


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Seed s collects anew and trains every model on the same trajectories, from its own initial weights."""
    common = ["experiment=see", f"seed={seed}", f"device={config.device}"]
    stage("collect", folder / "data", *common, f"threads={config.threads}")
    jobs = [
        ("train", folder / name, [f"data={folder / 'data'}", f"vision={file}", *common, *more]) for name, (file, more) in MODELS.items()
    ]
    results = stages(jobs, config.workers)
    out = {name: {k: float(r[k]) for k in KEPT if r.get(k) is not None} for name, r in zip(MODELS, results, strict=True)}
    some = candidates(config, folder, ["autoencoder"])[0]
    return out | {f"real.{name}": numbers for name, numbers in references(some.pictures, some.judged, seed).items()}


def candidates(config: ExperimentConfig, folder: Path, names: list[str]) -> list[Any]:
    """Trained models of one seed."""
    return [open_candidate(str(folder / name), config.device) for name in names]


def figure(result: dict[str, Any]) -> bytes:
    """A panel for each number, a row for each model: the mean as a bar, every seed a dot; real pictures below."""
    names = list(result["variants"])
    drawing = Figure(figsize=(12.5, 0.36 * len(names) + 1.4), layout="constrained")
    with matplotlib.rc_context(STYLE):
        every = np.atleast_1d(drawing.subplots(1, len(PANELS), sharey=True))
    for axes, name in zip(every, PANELS, strict=True):
        title, unit, _ = NUMBERS[name]
        axes.set_title(f"{title}{', ' + unit if unit else ''}", fontsize=10)
        for row, variant in enumerate(reversed(names)):
            found = result["variants"][variant].get(name)
            if found is None:
                continue
            axes.barh(row, found["mean"], height=0.6, color=PALETTE[1 if variant.startswith("real.") else 0], alpha=0.85)
            axes.plot(found["per_seed"], [row] * len(found["per_seed"]), "o", color="black", markersize=3, markerfacecolor="none")
        axes.set_yticks(range(len(names)), [n.replace("_", " ") for n in reversed(names)], fontsize=9)
        axes.grid(visible=False, axis="y")
    return figure_png(drawing)


def pictures(config: ExperimentConfig, folder: Path) -> dict[str, bytes]:
    """Samples of seed 0's models under the first pictures of scenes that none of them was trained on."""
    found = candidates(config, folder / "seed-0", list(SHOWN))
    return {"samples": columns_figure([(c.name.replace("_", " "), c.model, c.pictures, c.judged) for c in found], config.seed)}
