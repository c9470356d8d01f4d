"""`imagoal experiment NAME`: a comparison over seeds -> benchmarks/results/NAME.json and NAME.png.

Every stage is a run folder of its own, so an experiment that was cut off goes on with `resume=true`.
"""

import importlib
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagoal.compose import read_experiment
from imagoal.config import ExperimentConfig
from imagoal.disk import write_atomic
from imagoal.errors import UserError
from imagoal.experiments import EXPERIMENTS
from imagoal.figures import BEFORE, PALETTE, bars_with_intervals, chart, figure_png
from imagoal.loading import pick_device
from imagoal.model_page import NUMBERS
from imagoal.run import RunFolder
from imagoal.stats import t_interval

Seeds = dict[str, dict[str, list[float]]]  # variant -> metric -> one number per seed


def main(config: ExperimentConfig) -> None:
    """Run what is missing of the experiment, then write its result file and figure."""
    read_experiment(config.name)
    if config.name not in EXPERIMENTS:
        raise UserError(f"experiment {config.name} has settings but no comparison yet. There are: {', '.join(EXPERIMENTS)}")
    experiment = importlib.import_module(EXPERIMENTS[config.name])
    path = Path(config.results) / f"{config.name}.json"
    earlier = read_earlier(path, config) if config.extend else None
    seeds: Seeds = {}
    if earlier:
        seeds = {variant: {name: list(found["per_seed"]) for name, found in metrics.items()} for variant, metrics in earlier["variants"].items()}
    there = list(earlier["seeds"]) if earlier else []
    todo = [seed for seed in range(config.seeds) if seed not in there]
    if not todo:
        print(f"experiment: {path} has seeds {', '.join(map(str, there))} already")
        return
    run = RunFolder("experiment", config)
    began = time.monotonic()
    clock = run.load_checkpoint("clock")
    spent = float(clock.state["seconds"]) if clock else 0.0
    path.parent.mkdir(parents=True, exist_ok=True)
    extra, summary, pictures = (getattr(experiment, name, None) for name in ("extra", "summary", "pictures"))
    draw = getattr(experiment, "figure", None)  # of its own, else bars
    for i, seed in enumerate(todo):
        for variant, metrics in experiment.one_seed(config, run.path / f"seed-{seed}", seed).items():
            for name, value in metrics.items():
                seeds.setdefault(variant, {}).setdefault(name, []).append(value)
        seconds = spent + time.monotonic() - began
        run.checkpoint("clock", {}, {"seconds": seconds})
        result = as_result(config, seeds, seconds, there + todo[: i + 1], earlier)  # after each seed: nothing is lost when a run dies
        result |= extra(config, run.path, todo[: i + 1], earlier or {}) if extra else {}
        result |= summary(seeds) if summary else {}
        write_atomic(path, (json.dumps(result, indent=1) + "\n").encode())
        write_atomic(path.with_suffix(".png"), draw(result) if draw else figure(result, experiment.BARS, getattr(experiment, "LABEL", "share of goals")))
        if pictures and seed == 0:
            for name, content in pictures(config, run.path).items():
                write_atomic(path.with_name(f"{config.name}_{name}.png"), content)
    print(f"experiment: {path} and .png")
    run.finish({"results": str(path)})


def read_earlier(path: Path, config: ExperimentConfig) -> dict[str, Any] | None:
    """The result file to which seeds are added; None where there is none. Raises UserError where its numbers are of another number of episodes."""
    if not path.is_file():
        return None
    earlier: dict[str, Any] = json.loads(path.read_text())
    if earlier.get("episodes") != config.episodes:
        raise UserError(f"extend: {path} was measured with episodes={earlier.get('episodes')}, not {config.episodes}: ask for the same, or leave extend out.")
    return earlier


def unit(metric: str) -> str:
    """The unit of a metric by its name."""
    if metric in NUMBERS:
        return NUMBERS[metric][1]
    if "seconds" in metric:
        return "s"
    if ".distance." in metric:  # of one thing
        return "m"
    last = metric.rsplit(".", 1)[-1]
    return {"final_distance": "m", "start_distance": "m", "solved_at": "steps", "steps": "steps", "transitions": "", "return": "", "score": ""}.get(last, "" if last.endswith("loss") else "fraction")


def as_result(config: ExperimentConfig, seeds: Seeds, seconds: float, numbers: Sequence[int], earlier: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result in design.md's form: mean and Student-t 95% interval over the seeds `numbers`; with what an earlier file of some of them says of its making."""
    variants = {
        variant: {name: metric(values, unit(name)) for name, values in metrics.items()} for variant, metrics in seeds.items()
    }
    device, before = pick_device(config.device), earlier or {}
    commits = [*filter(None, before.get("commit", "").split(", ")), commit()]
    return {
        "experiment": config.name,
        "command": f"imagoal experiment {config.name} seeds={len(numbers)} episodes={config.episodes}",
        "commit": ", ".join(dict.fromkeys(commits)), "machine": f"{os.cpu_count()} cores, {'no GPU' if device.type == 'cpu' else 'GPU'}",
        "seeds": list(numbers), "episodes": config.episodes, "wall_clock_s": round(seconds) + before.get("wall_clock_s", 0), "variants": variants,
    }  # fmt: skip


def metric(values: Sequence[float], unit: str) -> dict[str, Any]:
    """One metric over seeds. A single seed has no interval; that of shares ends at 0 and 1, where they do."""
    ci = [float(end) for end in t_interval(values)] if len(values) > 1 else None
    if ci and unit == "fraction" and 0.0 <= min(values) and max(values) <= 1.0:
        ci = [min(max(end, 0.0), 1.0) for end in ci]
    return {"unit": unit, "per_seed": list(values), "mean": sum(values) / len(values), "ci95": ci}


def commit() -> str:
    """The code's commit, with a plus where files differ from it, other than results, which are written after every seed; unknown outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benchmarks/results"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if dirty.stdout.strip() else "")


def figure(result: dict[str, Any], bars: Sequence[tuple[str, str, str]], label: str = "share of goals") -> bytes:
    """A bar for each (variant, metric, label) with its interval, a variant's all of one colour, but for how it was before; every seed a dot."""
    variants = list(dict.fromkeys(variant for variant, *_ in bars))
    colours = [BEFORE if metric.endswith("before") else PALETTE[variants.index(variant) % len(PALETTE)] for variant, metric, _ in bars]
    found = [result["variants"][variant][metric] for variant, metric, _ in bars]
    title = f"{result['experiment']}: {len(result['seeds'])} seeds" + (f", {result['episodes']} episodes each" if label == "share of goals" else "")
    drawing, axes = chart(title, label, "", height=1.4 + 0.35 * len(bars))
    bars_with_intervals(
        axes, [label for *_, label in bars], [f["mean"] for f in found],
        [tuple(f["ci95"] or (f["mean"], f["mean"])) for f in found], [f["per_seed"] for f in found], colours,
    )  # fmt: skip
    return figure_png(drawing)
