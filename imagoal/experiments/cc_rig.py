"""CC-RIG where every episode looks different (thesis ch. 3, figs. 10 and 11): against RIG, whose model knows no scenes, and the oracle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagoal.config import ExperimentConfig
from imagoal.experiments.curves import by_variant, curves, curves_figure, shared
from imagoal.experiments.pictures import picture_rows
from imagoal.exploration import open_exploration
from imagoal.model_page import scene_columns
from imagoal.stages import stages
from vision import load

STEPS = {"multicolor_pusher": 25_000, "navigation": 15_000}
SETTINGS = {"multicolor_pusher": ("evaluate_every=2500",), "navigation": ("evaluate_every=1500", "updates_per_step=1")}
LATENTS = {"multicolor_pusher": 4, "navigation": 2}  # numbers of CC-RIG's z_t
READING = {"multicolor_pusher": "false", "navigation": "true"}  # whether CC-RIG's agent reads z_c: pucks of all colours move alike, layouts have other walls
METHODS: dict[str, tuple[str, ...]] = {
    "cc_rig": ("vision=ccvae_rig",),
    "rig": ("vision=vae_rig", "vision.latents=16"),
    "oracle": ("sight=state",),
}
PAIRS = [(world, name) for world in STEPS for name in METHODS]


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Every method in both worlds."""

    def words(world: str, name: str) -> list[str]:
        latents = [f"vision.latents={LATENTS[world]}", f"read_context={READING[world]}"] if name == "cc_rig" else []
        return [f"world={world}", f"steps={STEPS[world]}", *SETTINGS[world], *shared(config, seed), *METHODS[name], *latents]

    jobs = [
        ("rig", folder / f"{world}-{name}", words(world, name))
        for world in STEPS
        for name in METHODS
    ]
    return by_variant(dict(zip(PAIRS, stages(jobs, config.workers), strict=True)))


def extra(config: ExperimentConfig, folder: Path, seeds: Sequence[int], earlier: dict[str, Any]) -> dict[str, Any]:
    """The learning curves of every seed."""
    return {"curves": curves(folder, PAIRS, seeds, earlier)}


def figure(result: dict[str, Any]) -> bytes:
    """Fig. 10 from these runs."""
    return curves_figure(result, [(world.replace("_", " "), world, list(METHODS)) for world in STEPS], columns=2)


def pictures(config: ExperimentConfig, folder: Path) -> dict[str, bytes]:
    """Fig. 11: what seed 0's models imagine in scenes, below their first pictures."""
    rows: list[tuple[str, Any]] = []
    for world in STEPS:
        seen = open_exploration(folder / "seed-0" / f"{world}-cc_rig" / "exploration")
        for name in ("cc_rig", "rig"):
            model = load(folder / "seed-0" / f"{world}-{name}" / "model")
            lines = scene_columns(model, seen, np.arange(8) * (len(seen.start) // 8), config.seed, 2)
            rows += [(world.replace("_", " "), lines[0])] if name == "cc_rig" else []
            rows += [(name.replace("_", " ") if i == 0 else "", line) for i, line in enumerate(lines[1:])]
    return {"samples": picture_rows(rows)}

