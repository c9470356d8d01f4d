"""`imagoal evaluate`: how often a policy reaches pictures of true goals in a scene."""

import time
from typing import Any

import numpy as np

from envs.families import FAMILIES
from imagoal import offline
from imagoal.compose import command
from imagoal.config import EvaluateConfig
from imagoal.errors import UserError, explained
from imagoal.evaluation import evaluate
from imagoal.jobs.collect import cell
from imagoal.jobs.plan import read_picture
from imagoal.loading import load_policy, pick_device
from imagoal.practice_page import strip_of
from imagoal.report import Report
from imagoal.run import RunFolder, read_config
from imagoal.stats import bootstrap_ci, success_interval
from imagoal.strange import warning
from imagoal.trials import evaluate as evaluate_acting
from imagoal.trials import load_acting, reach, strangeness


def main(config: EvaluateConfig) -> None:
    """Evaluate; prints the rate with its interval and leaves report.html and result.json."""
    of_rig = read_config(config.policy)["job"] == "rig"
    if config.goal and not of_rig:
        raise UserError(f"goal: {config.policy} is no rig; for its policy use: imagoal plan policy={config.policy} goal={config.goal}")
    numbers = not of_rig and offline.of_numbers(config.policy)
    run = RunFolder("evaluate", config)
    if run.done:
        print(f"evaluate: already done, see {run.path}")
        return
    began = time.monotonic()
    if of_rig or numbers:
        result = (evaluate_rig if of_rig else evaluate_numbers)(config, run)
        run.finish({**result, "episodes": config.episodes, "seconds": round(time.monotonic() - began, 1)})
        return
    policy = load_policy(config.policy, pick_device(config.device))
    horizon = config.horizon or FAMILIES[policy.scenes.family].steps(config.task, config.changes)
    with explained("scene"):
        judged = evaluate(policy.agent, policy.eyes, policy.scenes, config.scene, config.episodes, horizon, config.changes, config.task, keep_images=True)
    low, high = judged.interval
    page = Report(f"{config.scene}", f"`{config.policy}` at {config.episodes} true goals")
    page.numbers([("Success", f"{100 * judged.rate:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%")])
    if judged.by_task:
        page.table([[name, cell(counts)] for name, counts in judged.by_task.items()], ["task", "reached"])
    page.section("Attempts", "Left to right: the start, the goal, the attempt.")
    rows = [strip_of(judged.rollouts[0], i, judged.goals[i]) for i in range(min(8, config.episodes))]
    page.grid(rows, row_labels=["reached" if s else "missed" for s in judged.success[: len(rows)]])
    page.section("The command").command(command("evaluate", config))
    page.save(run.path / "report.html")
    print(f"success {judged.rate:.3f} (95% interval {low:.3f} to {high:.3f}, {config.episodes} episodes)")
    for name, counts in judged.by_task.items():
        print(f"{name} {cell(counts)}")
    run.finish({**judged.numbers(""), "episodes": config.episodes, "seconds": round(time.monotonic() - began, 1)})


def evaluate_numbers(config: EvaluateConfig, run: RunFolder) -> dict[str, Any]:
    """A policy of numbers in its environment, by its best guesses and by samples of it."""
    policy = offline.load_policy(config.policy, min(offline.SIDE_BY_SIDE, config.episodes), pick_device(config.device))
    page = Report(f"{policy.copies.name}", f"`{config.policy}` in {config.episodes} episodes")
    out: dict[str, Any] = {}
    for explore, suffix, said in ((False, "", "best guesses"), (True, "_stochastic", "actions drawn")):
        judged = offline.judge(policy.agent, policy.copies, config.episodes, config.horizon, explore, config.seed)
        out |= judged.numbers(suffix)
        low, high = map(float, bootstrap_ci(judged.returns))
        out[f"return{suffix}_ci95"] = [low, high]
        line = f"return {judged.returns.mean():.2f} (95% interval {low:.2f} to {high:.2f})"
        page.numbers([(f"Return, {said}", f"{judged.returns.mean():.1f}", f"95% interval {low:.1f} to {high:.1f}")])
        if f"success{suffix}" in out:
            out[f"success{suffix}_ci95"] = success_interval(int(judged.success.sum()), config.episodes)
            low, high = out[f"success{suffix}_ci95"]
            line += f", success {out[f'success{suffix}']:.3f} ({low:.3f} to {high:.3f})"
            page.numbers([(f"Success, {said}", f"{100 * out[f'success{suffix}']:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%")])
        print(f"{said}: {line}, {config.episodes} episodes")
    page.section("The command").command(command("evaluate", config))
    page.save(run.path / "report.html")
    return out


def evaluate_rig(config: EvaluateConfig, run: RunFolder) -> dict[str, Any]:
    """A rig's agent at the simulator's goals, or at one picture, of which it says whether it is like anything explored."""
    acting, seen = load_acting(config.policy, pick_device(config.device))
    page = Report(f"{acting.config.world}", f"`{config.policy}` at {config.episodes} attempts")
    if config.goal:
        goal = read_picture("goal", config.goal, acting.world.image_size)
        if acting.config.sight == "state":
            raise UserError(f"goal: {config.policy} is an oracle, which sees states and no pictures. Leave goal out.")
        found = strangeness(acting, seen, goal)
        if said := warning(found):
            print(said)
            page.text(said)
        rollout, left = reach(acting, goal, config.episodes)
        numbers: dict[str, Any] = {"latent_distance": float(left.mean()), **{f"goal.{k}": v[0] for k, v in found.items()}, "warned": bool(said)}
        goals, labels = np.repeat(goal[None], config.episodes, 0), [f"{d:.2f}" for d in left]
        page.numbers([("Left", f"{left.mean():.2f}", "latent distance to the goal at the end")])
    else:
        trial = evaluate_acting(acting, config.episodes, keep_images=True)
        numbers, rollout, goals = dict(trial.numbers), trial.rollout, trial.goals
        numbers["success_ci95"] = success_interval(int(trial.success.sum()), len(trial.success))
        labels = ["reached" if s else "missed" for s in trial.success]
        low, high = numbers["success_ci95"]
        page.numbers([("Success", f"{100 * numbers['success']:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%"),
                      ("Final distance", f"{100 * numbers['final_distance']:.1f} cm", f"{100 * numbers['start_distance']:.1f} cm at the start")])  # fmt: skip
        print(f"success {numbers['success']:.3f} (95% interval {low:.3f} to {high:.3f}), final distance {numbers['final_distance']:.3f} m")
    page.section("Attempts", "Left to right: the start, the goal, the attempt.")
    shown = min(8, config.episodes)
    page.grid([strip_of(rollout, i, goals[i]) for i in range(shown)], row_labels=labels[:shown])
    page.section("The command").command(command("evaluate", config))
    page.save(run.path / "report.html")
    return numbers
