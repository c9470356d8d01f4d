"""`imagoal demo`: the whole way, from an empty folder to a skill that practice improved, and to a long task learned by practising planned subgoals."""

import time
from typing import Any

from imagoal.compose import command
from imagoal.config import DemoConfig
from imagoal.report import Report
from imagoal.run import RunFolder, read_config
from imagoal.stages import FINAL_GOAL_ONLY, long_task, pipeline, times

PAGES = ("practice-affordance", "gate-practice", "gate-subgoals", "model", "data")  # run folders whose reports follow


def main(config: DemoConfig) -> None:
    """All stages under one run folder; prints the report's path and a short summary."""
    run = RunFolder("demo", config)
    if not run.done:
        began = time.monotonic()
        results = pipeline(run.path, "demo", config.seed, config.episodes, config.scene, config.device, config.threads)
        results |= long_task(run.path, config.seed, config.episodes // 2 or 1, config.device, config.threads)
        seconds = time.monotonic() - began
        report(config, run, results, seconds).save(run.path / "report.html")
        practice, long = results["practice"], results["gate-practice"]
        run.finish({
            **{f"practice.{k}": practice[k] for k in ("success_before", "success_after", "practice_gain", "success_after_ci95", "attempts")},
            **{f"long_task.{k}": long[k] for k in ("success_before", "success_after", "success_after_ci95", "attempts")},
            "long_task.final_goal_only": results[FINAL_GOAL_ONLY]["success"],
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
        f"goals it imagined).\nA task of three parts, of which demonstrations do one: {100 * r['long_task.final_goal_only']:.0f}% given the final goal only, "
        f"{100 * r['long_task.success_before']:.0f}% by planned subgoals, {100 * r['long_task.success_after']:.0f}% after {r['long_task.attempts']} attempts by plan.\n"
        f"{r['wall_clock_s']:.0f} s in all. Look at: {run.path / 'report.html'}"
    )


def report(config: DemoConfig, run: RunFolder, results: dict[str, dict[str, Any]], seconds: float) -> Report:
    """One page: the headline, time per stage, and the pages of practice, plan, model and data after one another."""
    practice, long = results["practice"], results["gate-practice"]
    page = Report("From pictures to a practised skill", f"imagoal demo, scene `{config.scene}`, seed {config.seed}")
    low, high = practice["success_after_ci95"]
    low_long, high_long = long["success_after_ci95"]
    page.numbers([
        ("Before practice", f"{100 * practice['success_before']:.0f}%", f"of {config.episodes} true goals in a scene never seen"),
        ("After practice", f"{100 * practice['success_after']:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%"),
        ("Three-part task", f"{100 * results[FINAL_GOAL_ONLY]['success']:.0f}%", "given the final goal only"),
        ("By planned subgoals", f"{100 * long['success_before']:.0f}%", "the same policy"),
        ("After practising plans", f"{100 * long['success_after']:.0f}%", f"95% interval {100 * low_long:.0f} to {100 * high_long:.0f}%"),
        ("All of it", f"{seconds / 60:.1f} min", "this session, after set-up"),
    ])  # fmt: skip
    agent = read_config(run.path / "policy")["agent"]["name"]
    page.section("What happened", (
        "A hand moved things in training scenes (collect); a VQ-VAE learned to see them and a PixelCNN what a scene affords (train); an agent "
        f"(`{agent}`) learned to reach goals from that data alone (pretrain). Then, in a scene with other things, places and colours, it "
        "imagined goals, tried them, and learned from what happened, with no reward or label from outside (practice). Success is judged by the simulator's state, which training never sees."
        " Last, at a gate that one puck bars to the other, demonstrations of single parts; a planner strings imagined subgoals together for a task of three parts, and the policy practises by these plans."
    ))  # fmt: skip
    page.table(times(results), ["stage", "seconds"], "Wall clock of this session; 0 for stages done in an earlier one.")
    for name in PAGES:
        page.embed(run.path / name / "report.html")
    page.section("The command").command(command("demo", config))
    return page

