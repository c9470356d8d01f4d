"""`imagoal collect`: expert and random trajectories of a scene family -> a Minari dataset, its columns and a report."""

import shutil
import time

import numpy as np
from numpy.typing import NDArray

from envs.collect import Plan, WorkerDied, collect, outcomes, policy_name
from envs.columns import Columns
from envs.families import FAMILIES
from imagoal.compose import command
from imagoal.config import CollectConfig
from imagoal.errors import UserError, explained
from imagoal.films import save_film, thin
from imagoal.progress import progress
from imagoal.report import Report
from imagoal.run import RunFolder
from imagoal.stats import success_interval

SHOWN = 4  # trajectories of each policy in the report
_TASKS = ("How often a task was done when an episode was over", "Ground truth: for the expert its own task, for the random policy every task that the scene allows.")
TOLD = {  # title and text of the table, by family
    "tabletop": (
        "How often a thing reached its other end",
        "Ground truth, by kind of thing: for the expert the thing it meant to move, for the random policy every thing on the table.",
    ),
    "gate": ("How often a puck reached its other end", "Ground truth: for the expert the puck it meant to move, for the random policy both."),
    "desk": _TASKS,
    "ptp_desk": _TASKS,
}
Rates = dict[str, dict[str, tuple[int, int]]]


def main(config: CollectConfig) -> None:
    """Collect, or continue collecting; leaves RUN/minari, RUN/columns, films, report.html and result.json.

    Raises UserError for values out of range and when a collecting process dies; the run can then be resumed.
    """
    with explained():
        plan = plan_of(config)
    run = RunFolder("collect", config)
    if run.done:
        print(f"collect: already done, see {run.path}")
        return
    began = time.monotonic()
    for leftover in run.path.glob(".*.tmp-*"):  # of a killed process
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        columns = collect(plan, run.path, config.workers, progress)
    except (WorkerDied, ValueError) as error:
        raise UserError(f"{error}. Continue with: imagoal collect run={config.run} resume=true") from error
    seconds = time.monotonic() - began
    rates = outcomes(plan, columns)
    summary = {
        "episodes": columns.episodes,
        "frames": len(columns),
        "discarded": columns.meta["discarded"],
        "seconds": round(seconds, 1),
        "expert_success": fractions(rates["expert"]),
        "random_success": fractions(rates["random"]),
        "counts": rates,
    }
    chosen = examples(plan)
    save_film(run.films / "sample.gif", mosaic(columns, chosen), fps=10.0, upscale=2)
    report(config, columns, rates, chosen, seconds).save(run.path / "report.html")
    run.finish(summary)


def plan_of(config: CollectConfig) -> Plan:
    """What the configuration asks `envs.collect` for. Raises ValueError for values out of range."""
    env = config.env
    horizon = config.horizon or FAMILIES[env.family].horizon
    return Plan(config.episodes, config.scenes, horizon, config.expert_share, config.seed, config.split, env.image_size, env.kinds, env.family, env.yaw, config.linger, config.elsewhere)


def fractions(counts: dict[str, tuple[int, int]]) -> dict[str, float]:
    """(times, of how many) as fractions."""
    return {kind: round(hits / n, 4) for kind, (hits, n) in counts.items()}


def examples(plan: Plan) -> dict[str, list[int]]:
    """Indices (into the columns) of a few episodes of each policy, from different scenes where there are several."""
    numbers = [number for shard in plan.shards() for number in shard]
    found: dict[str, list[int]] = {"expert": [], "random": []}
    for index in sorted(range(len(numbers)), key=lambda i: numbers[i]):
        shown = found[policy_name(0 if plan.by_expert(numbers[index]) else -1)]
        if len(shown) < SHOWN:
            shown.append(index)
    return {who: indices for who, indices in found.items() if indices}


def film_of(columns: Columns, episode: int) -> NDArray[np.uint8]:
    """The pictures of one episode, (T + 1, H, W, 3)."""
    return np.asarray(columns.image[columns.start[episode] : columns.end[episode]])


def held(film: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """A film that stays at its last picture until it has so many."""
    return film[np.minimum(np.arange(length), len(film) - 1)]


def mosaic(columns: Columns, chosen: dict[str, list[int]]) -> NDArray[np.uint8]:
    """The chosen episodes playing side by side, a row for each policy: (T + 1, rows * H, columns * W, 3); those that end earlier stay at their last picture."""
    wide = max(len(indices) for indices in chosen.values())
    longest = max(int(columns.end[e] - columns.start[e]) for indices in chosen.values() for e in indices)
    rows = []
    for indices in chosen.values():
        films = [held(film_of(columns, e), longest) for e in indices]
        blank = np.full_like(films[0], 255)
        rows.append(np.concatenate([*films, *[blank] * (wide - len(films))], axis=2))
    return np.concatenate(rows, axis=1)


def report(
    config: CollectConfig, columns: Columns, rates: Rates, chosen: dict[str, list[int]], seconds: float
) -> Report:
    """The page: what was collected, how well the expert did, and trajectories to look at."""
    page = Report("Collected trajectories", f"imagoal collect, split `{config.split}`, seed {config.seed}")
    tiles: list[tuple[str, object, str]] = [
        ("Trajectories", columns.episodes, f"{lengths(columns)} steps each, {config.scenes} scenes"),
        ("Pictures", len(columns), f"{config.env.image_size} pixels a side"),
        ("Time", f"{seconds:.0f} s", f"{len(columns) / max(seconds, 1e-9):.0f} pictures per second, all included"),
    ]
    if "all" in rates["expert"]:
        hits, n = rates["expert"]["all"]
        low, high = success_interval(hits, n)
        tiles.insert(2, ("Expert success", hits / n, f"95% interval {low:.2f} to {high:.2f}, {n} episodes"))
    page.numbers(tiles)
    if columns.meta["discarded"]:
        page.text(f"{columns.meta['discarded']} episodes were discarded, because a thing left the table in them, and done anew.")
    page.section(*TOLD[config.env.family])
    kinds = sorted({kind for counts in rates.values() for kind in counts} - {"all"})
    rows = [[kind, *(cell(rates[who].get(kind)) for who in ("expert", "random"))] for kind in [*kinds, "all"]]
    page.table(rows, ["what", "expert", "random"])
    titles = {"expert": "The scripted expert", "random": "The random policy"}
    texts = {"expert": "It does one thing, then waits or drifts.", "random": "An Ornstein-Uhlenbeck walk of the hand."}
    for who, indices in chosen.items():
        page.section(titles[who], texts[who])
        for e in indices:
            scene = f"{config.split}/{int(columns.scene[e])}"
            page.strip(thin(film_of(columns, e), 11), caption=f"Scene `{scene}`.", upscale=1.5)
    page.section("The command").command(command("collect", config))
    return page


def lengths(columns: Columns) -> str:
    """`75`, or `12 to 75`."""
    steps = np.asarray(columns.end) - np.asarray(columns.start) - 1
    return f"{steps.min()}" if steps.min() == steps.max() else f"{steps.min()} to {steps.max()}"


def cell(count: tuple[int, int] | None) -> str:
    """`97% (90 to 99) of 120`."""
    if count is None:
        return "\u2013"
    low, high = success_interval(*count)
    return f"{100 * count[0] / count[1]:.0f}% ({100 * low:.0f} to {100 * high:.0f}) of {count[1]}"
