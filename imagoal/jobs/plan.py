"""`imagoal plan`: a chain of imagined subgoals to a goal picture, then its execution, beside the same policy without a plan."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.families import FAMILIES, open_scene
from imagoal.config import PlanConfig
from imagoal.errors import UserError, explained
from imagoal.evaluation import FIRST_SEED, seeded
from imagoal.figures import bars_with_intervals, chart
from imagoal.fitting import fit_stage
from imagoal.loading import Policy, encoded, load_policy, open_trajectories, pick_device, practised_before
from imagoal.report import Report
from imagoal.rollout import Rollout, roll_out
from imagoal.run import RunFolder
from imagoal.stats import success_interval
from planning import (
    FollowerConfig,
    Plan,
    SubgoalCVAE,
    SubgoalCVAEConfig,
    SubgoalFollower,
    SubgoalPairs,
    SubgoalPlanner,
)

SHOWN = 4


def main(config: PlanConfig) -> None:
    """Train the subgoal generator where the run has none, plan, execute; leaves plan pictures, report.html and result.json."""
    run = RunFolder("plan", config)
    if run.done:
        print(f"plan: already done, see {run.path}")
        return
    began = time.monotonic()
    device = pick_device(config.device)
    policy = load_policy(config.policy, device)
    size = policy.scenes.image_size
    with explained("scene"):
        world = open_scene(config.scene, config.episodes, policy.scenes)
    with explained("changes"):
        starts, goals = world.sample(np.arange(FIRST_SEED, FIRST_SEED + config.episodes), config.changes)
    start_pictures, goal_pictures = world.picture(starts), world.picture(goals)
    if config.goal:
        goal_pictures = np.repeat(read_picture(config.goal, size)[None], config.episodes, 0)
    if config.start:
        start_pictures = np.repeat(read_picture(config.start, size)[None], config.episodes, 0)
    planner = make_planner(config, run, policy, device)
    eyes = policy.eyes
    z, aim = (eyes.latents(eyes.codes(p)).clone() for p in (start_pictures, goal_pictures))
    planning = time.monotonic()
    plan = planner.plan(z, aim, seeded(config.seed, 21, device=device))
    seconds_per_plan = (time.monotonic() - planning) / config.episodes
    result: dict[str, Any] = {"plans": config.episodes, "seconds_per_plan": seconds_per_plan, "cost": float(plan.cost.mean())}
    rollouts: dict[str, tuple[Rollout, np.ndarray]] = {}
    if not config.start:
        horizon = config.horizon
        follow = FollowerConfig(policy.threshold, config.subgoal_steps)
        ways: dict[str, Tensor | SubgoalFollower] = {"planned": SubgoalFollower(plan.subgoals, follow), "final_goal_only": aim}
        for name, way in ways.items():
            rollout = roll_out(world, policy.agent.eval(), eyes, starts, way, horizon, keep_images=True)
            if not config.goal:
                success = world.success(rollout.states[:, -1], goals)
                result[f"{name}.success"] = float(success.mean())
                result[f"{name}.success_ci95"] = success_interval(int(success.sum()), len(success))
            else:
                success = np.zeros(config.episodes, bool)
                result[f"{name}.latent_distance"] = float((eyes.latents(rollout.codes[:, -1]) - aim).norm(dim=-1).mean())
            rollouts[name] = (rollout, success)
    result["seconds"] = round(time.monotonic() - began, 1)
    report(config, policy, plan, start_pictures, goal_pictures, rollouts, result).save(run.path / "report.html")
    for name in ("planned.success", "final_goal_only.success"):
        if name in result:
            print(f"{name} {result[name]:.3f} ({config.episodes} episodes)")
    run.finish(result)


def read_picture(path: str, size: int) -> np.ndarray:
    """A goal picture (size, size, 3). It must be what the policy's camera would see, so another shape is refused."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(Path(path).expanduser()) as file:
            picture = np.array(file.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"goal: cannot read {path}: {error}. Give a PNG picture.") from error
    if picture.shape != (size, size, 3):
        raise UserError(f"goal: {path} has {picture.shape[1]}x{picture.shape[0]} pixels; this policy sees {size}x{size}. Resize it first.")
    return picture


def make_planner(config: PlanConfig, run: RunFolder, policy: Policy, device: torch.device) -> SubgoalPlanner:
    """The planner over a generator trained on the prior data (and, for a practised policy, on what it practised)."""
    eyes = policy.eyes
    columns = open_trajectories(policy.pretrain["data"])
    codes = encoded(eyes.model, policy.pretrain["model"], columns)
    start, end = (torch.from_numpy(np.array(c)) for c in (columns.start, columns.end))
    practised = practised_codes(policy)
    if practised is not None:
        n, steps = practised.shape[:2]
        first = len(codes) + torch.arange(n) * steps
        codes = torch.cat([codes, practised.flatten(0, 1).to(codes.dtype)])
        # as often as the prior data: the scene at hand is where the plan must hold
        repeats = max(1, len(start) // n)
        start, end = torch.cat([start, *[first] * repeats]), torch.cat([end, *[first + steps] * repeats])
    torch.manual_seed(config.seed)
    scale = float(eyes.latents(codes[:512].to(device)).std())
    settings = {**vars(config.generator), "latent_shape": eyes.model.grid_shape, "latent_scale": scale}
    generator = SubgoalCVAE(SubgoalCVAEConfig(**settings)).to(device)
    pairs = SubgoalPairs(codes.to(device), start, end, (config.subgoal_low, config.subgoal_high), lambda c: eyes.latents(c).clone())
    fit_stage(run, "generator", generator, pairs, config.generator_steps, 256, config.seed, device)
    hand = torch.zeros(1, FAMILIES[policy.scenes.family].widths(policy.scenes)[1], device=device)

    def value(a: Tensor, b: Tensor) -> Tensor:
        """V(a, b) with the hand in the middle of its space, since a subgoal does not say where the hand is."""
        obs = torch.cat([a, hand.expand(len(a), -1)], -1) if eyes.proprio else a
        return policy.agent.value(obs, b)  # type: ignore[operator, no-any-return]

    def snap(latents: Tensor) -> Tensor:
        return eyes.latents(eyes.model.quantize(latents).flatten(1)).clone()

    planner = config.planner
    planner.latent_dim = generator.latent_dim
    return SubgoalPlanner(generator.generate, value, planner, quantize=snap)


def practised_codes(policy: Policy) -> Tensor | None:
    """Codes (episodes, T + 1, cells) of what a practice run saw; None for a pretrain run."""
    if policy.settings["job"] != "practice" or policy.settings["goal_source"] == "none":
        return None
    replay = practised_before(policy, torch.device("cpu"))[-1]  # of the scene at hand
    episodes = [replay.codes[replay.episode_rows(e)] for e in range(replay.oldest, replay.next_episode)]
    return torch.stack(episodes)  # all are as long


def report(
    config: PlanConfig, policy: Policy, plan: Plan, starts: np.ndarray, goals: np.ndarray,
    rollouts: dict[str, tuple[Rollout, np.ndarray]], result: dict[str, Any],
) -> Report:  # fmt: skip
    """The page: plans decoded beside what happened."""
    page = Report(f"Plans in {config.scene}", f"policy `{config.policy}`, {config.episodes} goals, {config.changes} things to change")
    tiles: list[tuple[str, object, str]] = [("Time per plan", f"{1000 * result['seconds_per_plan']:.0f} ms", "planned in one batch")]
    for name, title in (("planned", "With the plan"), ("final_goal_only", "Final goal only")):
        if f"{name}.success" in result:
            low, high = result[f"{name}.success_ci95"]
            tiles.append((title, f"{100 * result[f'{name}.success']:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%"))
    page.numbers(tiles)
    if "planned.success" in result:
        figure, axes = chart("All things as in the goal", "share of goals", "", height=1.9)
        names = ["planned", "final_goal_only"]
        bars_with_intervals(axes, names, [result[f"{n}.success"] for n in names], [result[f"{n}.success_ci95"] for n in names])
        page.figure(figure)
    page.section("Plans, and what happened", "Above: the start, the subgoals as decoded latents, the goal. Below: the execution.")
    with torch.no_grad():
        for i in range(min(SHOWN, config.episodes)):
            subgoals = policy.eyes.model.decode(plan.subgoals[i]).permute(0, 2, 3, 1).clamp(0, 1).mul(255).byte().cpu().numpy()
            rows, labels = [[starts[i], *subgoals[:-1], goals[i]]], ["plan"]
            for name, (rollout, success) in rollouts.items():
                assert rollout.images is not None
                picks = np.linspace(0, rollout.images.shape[1] - 1, 9).astype(int)
                rows.append(list(rollout.images[i][picks]))
                labels.append(f"{name}: {'reached' if success[i] else 'missed'}" if not config.goal else name)
            page.grid(rows, row_labels=labels)
    page.section("The command").command(
        f"imagoal plan policy={config.policy} scene={config.scene} episodes={config.episodes} changes={config.changes} seed={config.seed}"
    )
    return page
