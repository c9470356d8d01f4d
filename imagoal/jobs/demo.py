"""`imagoal demo`: the whole way, from an empty folder to a skill that practice improved and a plan that uses it."""

import time
from typing import Any

from imagoal.config import DemoConfig
from imagoal.report import Report
from imagoal.run import RunFolder, read_config
from imagoal.stages import pipeline, times, two_stage

NAMES = {"collect": "data", "train": "model", "pretrain": "policy", "practice": "practice-affordance", "plan": "plan"}


def main(config: DemoConfig) -> None:
    """All stages under one run folder; prints the report's path and a short summary."""
    run = RunFolder("demo", config)
    if not run.done:
        began = time.monotonic()
        results = pipeline(run.path, "demo", config.seed, config.episodes, config.scene, config.device, config.threads)
        results["plan"] = two_stage(run.path, "demo", config.seed, config.episodes, config.scene, config.device, config.threads)
        seconds = time.monotonic() - began
        report(config, run, results, seconds).save(run.path / "report.html")
        practice, plan = results["practice"], results["plan"]
        run.finish({
            **{f"practice.{k}": practice[k] for k in ("success_before", "success_after", "practice_gain", "success_after_ci95", "attempts")},
            **{k: plan[k] for k in ("planned.success", "final_goal_only.success")},
            "wall_clock_s": round(seconds, 1), **{f"{name}.wall_clock_s": r["wall_clock_s"] for name, r in results.items()},
        })  # fmt: skip
    say(run)


def say(run: RunFolder) -> None:
    """The summary, for a person at a terminal."""
    r = run.result() or {}
    low, high = r["practice.success_after_ci95"]
    print(
        f"\nIn a scene never seen, the policy reached {100 * r['practice.success_before']:.0f}% of its goals before practice and "
        f"{100 * r['practice.success_after']:.0f}% after ({100 * low:.0f} to {100 * high:.0f}, 95% interval; {r['practice.attempts']} attempts at "
        f"goals it imagined).\nTwo-stage task: {100 * r['planned.success']:.0f}% with the planner, "
        f"{100 * r['final_goal_only.success']:.0f}% given the final goal only.\n{r['wall_clock_s']:.0f} s in all. Look at: {run.path / 'report.html'}"
    )


def report(config: DemoConfig, run: RunFolder, results: dict[str, dict[str, Any]], seconds: float) -> Report:
    """One page: the headline, time per stage, and the pages of practice, plan, model and data after one another."""
    practice, plan = results["practice"], results["plan"]
    page = Report("From pictures to a practised skill", f"imagoal demo, scene `{config.scene}`, seed {config.seed}")
    low, high = practice["success_after_ci95"]
    low_plan, high_plan = plan["planned.success_ci95"]
    page.numbers([
        ("Before practice", f"{100 * practice['success_before']:.0f}%", f"of {config.episodes} true goals in a scene never seen"),
        ("After practice", f"{100 * practice['success_after']:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%"),
        ("Two-stage task, planned", f"{100 * plan['planned.success']:.0f}%", f"95% interval {100 * low_plan:.0f} to {100 * high_plan:.0f}%"),
        ("Final goal only", f"{100 * plan['final_goal_only.success']:.0f}%", "the same policy and goals without a plan"),
        ("All of it", f"{seconds / 60:.1f} min", "this session, after set-up"),
    ])  # fmt: skip
    agent = read_config(run.path / NAMES["pretrain"])["agent"]["name"]
    page.section("What happened", (
        "A hand moved things in training scenes (collect); a VQ-VAE learned to see them and a PixelCNN what a scene affords (train); an agent "
        f"(`{agent}`) learned to reach goals from that data alone (pretrain). Then, in a scene with other things, places and colours, it "
        "imagined goals, tried them, and learned from what happened, with no reward or label from outside (practice). Success is judged by the simulator's state, which training never sees."
    ))  # fmt: skip
    page.table(times(results), ["stage", "seconds"], "Wall clock of this session; 0 for stages done in an earlier one.")
    for name in ("practice", "plan", "train", "collect"):
        page.embed(run.path / NAMES[name] / "report.html")
    page.section("The command").command(f"imagoal demo seed={config.seed} scene={config.scene} episodes={config.episodes}")
    return page

