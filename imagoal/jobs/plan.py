"""`imagoal plan`: a chain of imagined subgoals to a goal picture, then its execution, beside the same policy without a plan."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.columns import Columns
from envs.families import FAMILIES, open_scene
from imagoal.compose import command
from imagoal.config import PlanConfig
from imagoal.disk import write_atomic
from imagoal.errors import UserError, explained
from imagoal.evaluation import FIRST_SEED, seeded
from imagoal.figures import bars_with_intervals, chart
from imagoal.fitting import png
from imagoal.loading import (
    Policy,
    encoded,
    load_policy,
    open_trajectories,
    pick_device,
    pretrain_config,
    require_codes,
    scene_settings,
)
from imagoal.report import Report
from imagoal.rollout import Rollout, roll_out
from imagoal.run import RunFolder
from imagoal.stats import success_interval
from imagoal.strange import COMPARED, drawing_strangeness, latent_strangeness, warning
from imagoal.subgoals import (
    PLANNED,
    Imagination,
    check_horizon,
    check_value,
    fit_generators,
    imagination,
    material,
    open_imagination,
    prior_material,
)
from planning import Plan, SubgoalFollower
from vision.images import to_uint8
from vision.judge import thin

SHOWN = 4


def main(config: PlanConfig) -> None:
    """Train the subgoal generator where the run has none, plan, execute unless a start picture is given; leaves plan.png, report.html and result.json."""
    drawn = bool(config.start)
    if drawn and not config.goal:
        raise UserError("start= is for planning from one picture to another: give goal= too.")
    family = FAMILIES[scene_settings(pretrain_config(config.policy)["data"]).family]
    horizon = config.horizon or family.steps(config.task, config.changes)
    if not drawn:
        check_horizon(horizon, config.subgoal_steps)
    check_value(config.policy)
    began, device = time.monotonic(), pick_device(config.device)
    policy = load_policy(config.policy, device)
    require_codes(policy.eyes, policy.pretrain["model"], PLANNED)
    run = RunFolder("plan", config)
    if run.done:
        print(f"plan: already done, see {run.path}")
        return
    size, eyes = policy.scenes.image_size, policy.eyes
    given = {name: read_picture(name, path, size) for name, path in (("start", config.start), ("goal", config.goal)) if path}
    world, starts, goals = None, np.zeros(0), np.zeros(0)
    if not drawn:
        with explained("scene"):
            world = open_scene(config.scene, config.episodes, policy.scenes)
        with explained("changes"):
            starts, goals = world.sample(np.arange(FIRST_SEED, FIRST_SEED + config.episodes), config.changes, config.task)
    n = 1 if drawn else config.episodes
    pictures = {name: np.repeat(given[name][None], n, 0) if name in given else world.picture(states) for name, states in (("start", starts), ("goal", goals))}  # type: ignore[union-attr]
    columns = open_trajectories(policy.pretrain["data"])
    codes = encoded(eyes.model, policy.pretrain["model"], columns)
    result: dict[str, Any] = {"plans": n}
    said = strange(policy, columns, codes, given) if given else []
    for text in said:
        print(text)
    result["warned"] = bool(said)
    planner = imagine(config, run, policy, columns, codes, device)
    z, aim = (eyes.latents(eyes.codes(pictures[name])).clone() for name in ("start", "goal"))
    planning = time.monotonic()
    plan = planner.plan(z, aim, seeded(config.seed, 21, device=device))
    result |= {"seconds_per_plan": (time.monotonic() - planning) / n, "cost": float(plan.cost.mean()), "feasible": float((plan.values >= planner.feasible).all(1).float().mean())}
    if drawn:
        said += describe_plan(plan, planner)
        result["segments"] = [{"value": float(v), "feasible": bool(v >= planner.feasible)} for v in plan.values[0]]
    rollouts: dict[str, tuple[Rollout, np.ndarray]] = {}
    if world is not None:
        ways: dict[str, Tensor | SubgoalFollower] = {"planned": planner.follow(plan, config.subgoal_steps), "final_goal_only": aim}
        for name, way in ways.items():
            rollout = roll_out(world, policy.agent.eval(), eyes, starts, way, horizon, keep_images=True)
            success = np.zeros(n, bool)
            if not config.goal:
                success = world.success(rollout.states[:, -1], goals) & ~world.lost()
                result[f"{name}.success"] = float(success.mean())
                result[f"{name}.success_ci95"] = success_interval(int(success.sum()), len(success))
            else:
                result[f"{name}.latent_distance"] = float((eyes.latents(rollout.codes[:, -1]) - aim).norm(dim=-1).mean())
            rollouts[name] = (rollout, success)
    result["seconds"] = round(time.monotonic() - began, 1)
    strips = decoded(policy, plan, pictures["start"], pictures["goal"])
    write_atomic(run.path / "plan.png", png(np.concatenate([np.concatenate(list(strip), 1) for strip in strips[:SHOWN]], 0)))
    report(config, plan, strips, rollouts, said, result).save(run.path / "report.html")
    for name in ("planned.success", "final_goal_only.success"):
        if name in result:
            print(f"{name} {result[name]:.3f} ({n} episodes)")
    print(f"plan: drawn in {run.path / 'plan.png'}")
    run.finish(result)


def describe_plan(plan: Plan, planner: Imagination) -> list[str]:
    """A plan in words, printed too: its cost, each link's value, and which of them is not feasible."""
    lines = [f"plan: {len(plan.values[0])} subgoals, the last of them the goal; cost {float(plan.cost[0]):.2f}"]
    for i, value in enumerate(plan.values[0].tolist()):
        bad = "" if value >= planner.feasible else f"  not feasible: true pairs have {planner.feasible:.1f} or more"
        lines.append(f"  {'start' if i == 0 else f'subgoal {i}'} -> {'goal' if i == len(plan.values[0]) - 1 else f'subgoal {i + 1}'}: value {value:.1f}{bad}")
    print("\n".join(lines))
    return lines


@torch.no_grad()
def strange(policy: Policy, columns: Columns, codes: Tensor, given: dict[str, np.ndarray]) -> list[str]:
    """A warning for each of the named pictures (H, W, 3) that is unlike the policy's data."""
    eyes, rows = policy.eyes, thin(np.arange(len(columns.image)), COMPARED)
    some = codes[torch.from_numpy(rows)].to(eyes.device)
    data = torch.cat([eyes.latents(part).clone() for part in some.split(512)]).cpu()
    rebuilt = np.concatenate([eyes.pictures(part) for part in some.split(256)])
    episode = torch.from_numpy(np.searchsorted(columns.start, rows, side="right"))
    seen, out = np.asarray(columns.image[rows]), []
    for name, picture in given.items():
        own = eyes.codes(picture[None])
        found = {
            "latent": latent_strangeness(eyes.latents(own).clone().cpu(), data, episode),
            "rebuilt": drawing_strangeness(eyes.pictures(own)[0], picture, rebuilt, seen),
        }
        out.append(warning(found, name))
    return [text for text in out if text]


def read_picture(name: str, path: str, size: int) -> np.ndarray:
    """A picture (size, size, 3), the key `name`. It must be what the policy's camera would see, so another shape is refused."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(Path(path).expanduser()) as file:
            picture = np.array(file.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{name}: cannot read {path}: {error}. Give a PNG picture.") from error
    if picture.shape != (size, size, 3):
        raise UserError(f"{name}: {path} has {picture.shape[1]}x{picture.shape[0]} pixels; this policy sees {size}x{size}. Resize it first.")
    return picture


def imagine(config: PlanConfig, run: RunFolder, policy: Policy, columns: Columns, codes: Tensor, device: torch.device) -> Imagination:
    """The planner over generators of a subgoals run, or of its own."""
    if config.subgoals:
        return open_imagination(config.subgoals, policy, config.planner, prior_material(columns, codes), config.seed, device)
    seen = material(policy, columns, codes)
    generators = fit_generators(run, config.planner, config.generator, policy, seen, config.generator_steps, config.seed, device)
    return imagination(policy, config.planner, generators, seen, config.seed, device)


@torch.no_grad()
def decoded(policy: Policy, plan: Plan, starts: np.ndarray, goals: np.ndarray) -> list[np.ndarray]:
    """For each plan the start, its subgoals as decoded latents, and the goal: (K + 1, H, W, 3) uint8."""
    out = []
    for i in range(min(SHOWN, len(plan.subgoals))):
        subgoals = to_uint8(policy.eyes.model.decode(plan.subgoals[i])).cpu().numpy()
        out.append(np.stack([starts[i], *subgoals[:-1], goals[i]]))
    return out


def report(
    config: PlanConfig, plan: Plan, strips: list[np.ndarray], rollouts: dict[str, tuple[Rollout, np.ndarray]], said: list[str], result: dict[str, Any]
) -> Report:
    """The page: plans decoded beside what happened."""
    title = "A plan from picture to picture" if config.start else f"Plans in {config.scene}"
    about = f"policy `{config.policy}`" + ("" if config.start else f", {config.episodes} goals, " + (config.task.replace("_", " ") or f"{config.changes} things to change"))
    page = Report(title, about)
    tiles: list[tuple[str, object, str]] = [
        ("Time per plan", f"{1000 * result['seconds_per_plan']:.0f} ms", "planned in one batch"),
        ("Feasible", f"{100 * result['feasible']:.0f}%", "of the plans have no link worse than 95% of true pairs of frames"),
    ]
    for name, heading in (("planned", "With the plan"), ("final_goal_only", "Final goal only")):
        if f"{name}.success" in result:
            low, high = result[f"{name}.success_ci95"]
            tiles.append((heading, f"{100 * result[f'{name}.success']:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%"))
    page.numbers(tiles)
    for text in said:
        page.text(text)
    if "planned.success" in result:
        figure, axes = chart("All things as in the goal", "share of goals", "", height=1.9)
        names = ["planned", "final_goal_only"]
        bars_with_intervals(axes, names, [result[f"{n}.success"] for n in names], [result[f"{n}.success_ci95"] for n in names])
        page.figure(figure)
    page.section("Plans, and what happened" if rollouts else "The plan", "Above: the start, the subgoals as decoded latents, the goal." + (" Below: the execution." if rollouts else ""))
    for i, strip in enumerate(strips):
        rows, labels = [list(strip)], ["plan"]
        for name, (rollout, success) in rollouts.items():
            assert rollout.images is not None
            picks = np.linspace(0, rollout.images.shape[1] - 1, 9).astype(int)
            rows.append(list(rollout.images[i][picks]))
            labels.append(f"{name}: {'reached' if success[i] else 'missed'}" if not config.goal else name)
        page.grid(rows, row_labels=labels)
    page.section("The command").command(command("plan", config))
    return page
