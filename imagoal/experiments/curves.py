"""What the comparisons of practice from nothing (rig, cc_rig) share: runs by world and method, their curves, and the figure of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from imagoal.config import ExperimentConfig
from imagoal.figures import PALETTE, STYLE, figure_png, learning_curve
from imagoal.run import read_metrics

KEPT = ("final_distance", "success", "start_distance", "solved_at")
Runs = Mapping[tuple[str, str], dict[str, Any]]  # (world, method) -> result


def by_variant(found: Runs) -> dict[str, dict[str, float]]:
    """Variant -> SCENE.metric -> number, with every count of objects and the seconds of every part of practice. `solved_at` is of
    the seeds that solved their world; `solved` says which."""
    out: dict[str, dict[str, float]] = {}
    for (world, name), result in found.items():
        kept = {k: v for k, v in result.items() if k in KEPT or k.startswith(("objects_", "seconds"))} | {"solved": float("solved_at" in result)}
        out.setdefault(name, {}).update({f"{world}.{k}": float(v) for k, v in kept.items() if isinstance(v, int | float)})
    return out


def curves(folder: Path, pairs: Sequence[tuple[str, str]], seeds: Sequence[int], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Variant -> world -> {"steps": exploration counted, "final_distance": one list per seed, ...}: those of an earlier result file, then of the runs of
    these seeds from their metrics."""
    out: dict[str, Any] = {}
    for world, name in pairs:
        runs = [folder / f"seed-{seed}" / f"{world}-{name}" for seed in seeds]
        metrics = [read_metrics(run) for run in runs]
        rows = [[i for i, v in enumerate(m["final_distance"]) if v is not None] for m in metrics]
        steps = [int(metrics[0]["step"][i] or 0) + int(metrics[0]["explored"][i] or 0) for i in rows[0]]
        before = earlier.get("curves", {}).get(name, {}).get(world, {})
        per = {k: [*before.get(k, []), *([m[k][i] for i in r] for m, r in zip(metrics, rows, strict=True))] for k in ("final_distance", "success")}
        out.setdefault(name, {})[world] = {"steps": steps, **per}
    return out


def curves_figure(result: dict[str, Any], panels: Sequence[tuple[str, str, Sequence[str]]], columns: int = 3) -> bytes:
    """A panel (title, world, variants) each: final distance against steps, mean of the seeds with its 95% band; dotted, the oracle."""
    lines = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(4.2 * columns, 3.3 * lines), layout="constrained")
        every = np.atleast_1d(drawing.subplots(lines, columns, squeeze=False)).flatten()
    for axes in every[len(panels) :]:
        axes.axis("off")
    for axes, (title, world, shown) in zip(every, panels, strict=False):
        for i, name in enumerate(shown):
            found = result["curves"].get(name, {}).get(world)
            if found is None:
                continue
            learning_curve(axes, np.array(found["steps"]) / 1000, 100 * np.array(found["final_distance"]), name.replace("_", " "), PALETTE[i % len(PALETTE)])
        start = [v[f"{world}.start_distance"]["mean"] for v in result["variants"].values() if f"{world}.start_distance" in v]
        axes.axhline(100 * start[0], color="grey", linewidth=0.8, linestyle=":")
        axes.set_title(title, fontsize=11)
        axes.set(xlabel="thousand steps in the world", ylabel="final distance, cm")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, frameon=False)
    return figure_png(drawing, dpi=110)


def shared(config: ExperimentConfig, seed: int) -> list[str]:
    """What every run of a seed is told."""
    return [f"experiment={config.name}", f"seed={seed}", f"device={config.device}", f"evaluation_episodes={config.episodes}"]

