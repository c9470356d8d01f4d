"""What a person sees of practice in a scene: what was imagined and tried, and what the policy does before and after."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from imagoal.config import PracticeConfig
from imagoal.evaluation import Evaluation
from imagoal.figures import BEFORE, PALETTE, bars_with_intervals, chart, metric_chart
from imagoal.films import save_film
from imagoal.report import Report
from imagoal.rollout import Rollout
from imagoal.run import RunFolder, read_metrics

SHOWN = 6  # attempts at true goals


@dataclass
class Attempts:
    """A round of attempts, for the page: pictures of their goals, and distances (n, T + 1) to them in thresholds."""

    rollout: Rollout
    goals: np.ndarray
    distance: np.ndarray


def report(
    config: PracticeConfig, run: RunFolder, attempts: dict[str, Attempts], before: Evaluation, typed: str, after: Evaluation | None = None, result: dict[str, Any] | None = None
) -> Report:
    """The page: before and after, what was imagined and tried, and what the policy does at true goals now. While practice goes on it lacks what comes
    after, and loads itself anew."""
    metrics, going_on = read_metrics(run.path), after is None or result is None
    found = before.numbers("_before") | (after.numbers("_after") if after else {})
    page = Report(f"Practice in {config.scene}", f"goals from `{config.goal_source}`, seed {config.seed}" + (", going on" if going_on else ""), refresh=20 if going_on else 0)
    tiles: list[tuple[str, object, str]] = [("Before", f"{100 * before.rate:.0f}%", f"{config.evaluation_episodes} true goals, judged by the simulator")]
    if after is not None and result is not None:
        low, high = after.interval
        tiles += [("After", f"{100 * after.rate:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%"),
                  ("Attempts", result["attempts"], f"{config.horizon} steps each, no reward from outside"), ("Time", f"{result['seconds']:.0f} s", "this session")]  # fmt: skip
    else:
        tiles += [("Attempts", int(metrics["step"][-1] or 0), f"of {config.episodes}, {config.horizon} steps each, no reward from outside")]
    page.numbers(tiles)
    names = ["", *(f"{name}." for name in before.by_task)]
    bars = [(f"{name.rstrip('.').replace('_', ' ') or 'all'}, {when}", f"{name}success_{when}") for name in names for when in ("before", "after") if f"{name}success_{when}" in found]
    figure, axes = chart("Success at true goals", "share of goals", "", height=1.2 + 0.35 * len(bars))
    colours = [BEFORE if k.endswith("before") else PALETTE[0] for _, k in bars]
    bars_with_intervals(axes, [label for label, _ in bars], [found[k] for _, k in bars], [found[f"{k}_ci95"] for _, k in bars], colours=colours)
    page.figure(figure, "Bars: share of goals reached; whiskers: 95% Wilson intervals over episodes.")
    lines = {"success": "true goals reached (evaluation)", "reached": "imagined goals reached (its own judgement)"}
    if figure_of_curves := metric_chart(metrics, lines, "While practising", "attempts", "share", 2.6):
        page.figure(figure_of_curves)
    told = f" {100 * config.repeats:.0f}% of the attempts do again what was done before: what a demonstration did that shows such a change as the goal, or what an attempt did here, whatever the goal." if config.repeats else ""
    page.section("Imagined and tried", "Left to right: the start, the goal that was imagined (decoded), and the attempt at it." + told)
    for name, shown in attempts.items():
        few = min(3, len(shown.goals))
        page.grid([strip_of(shown.rollout, i, shown.goals[i]) for i in range(few)], caption=name)
        figure, axes = chart("", "step", "distance", height=1.9)
        axes.plot(shown.distance[:few].T)
        axes.set_ylim(bottom=0)
        axes.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
        page.figure(figure, f"{name}: latent distances of these attempts from their goals, in thresholds of the reward; below the dotted line a goal counts as reached.")
        if after is None or shown.rollout.images is None:
            continue
        save_film(run.films / f"{name.replace(' ', '-')}.gif", np.concatenate(list(shown.rollout.images[:4]), axis=2), upscale=2)
    if after is not None:
        page.section("True goals after practice", "Goals the policy was judged at. Left to right: the start, the goal, the attempt.")
        rows = [strip_of(after.rollouts[0], i, after.goals[i]) for i in range(min(SHOWN, len(after.goals)))]
        page.grid(rows, row_labels=["reached" if s else "missed" for s in after.success[: len(rows)]])
    page.section("The command").command(typed)
    return page


def strip_of(rollout: Rollout, i: int, goal: np.ndarray, frames: int = 5) -> list[np.ndarray]:
    """Start, goal, then evenly spaced frames of attempt i, ending with the last."""
    assert rollout.images is not None
    shown = rollout.images[i]
    picks = np.linspace(0, len(shown) - 1, frames + 1).astype(int)[1:]
    return [shown[0], goal, *shown[picks]]
