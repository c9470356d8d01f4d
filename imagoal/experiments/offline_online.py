"""Prior data, then practice online (seed 004, figs. 2 and 33; thesis ch. 7 and 8): every agent from the same data, the same updates, then the same number of episodes.

- `maze_medium`, `maze_large`: trips of at most three cells through a point maze; the ways asked for are longer, and can only be put together from several.
- `pushing`: 500 trajectories of Ornstein-Uhlenbeck noise at a puck; a distance is the reward.
- `demonstrations`: the puck is to be brought to one place and the hand back, and only that is rewarded; 15 demonstrations of a scripted expert and 100 trajectories of a policy cloned from them.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from agents.exploration import OrnsteinUhlenbeck
from agents.registry import AGENTS
from envs.arm_models import PUSH
from envs.experts import PuckPusher
from envs.mazes import short_trips
from envs.offline import Episode, append_numbers, open_minari, stack
from envs.tasks import HOME, PLACE
from goals.relabel import GoalsConfig, Mixture
from imagoal import offline
from imagoal.config import ExperimentConfig
from imagoal.figures import PALETTE, STYLE, figure_png, learning_curve
from imagoal.learning import learn
from imagoal.online import with_pretraining
from imagoal.stages import stages
from imagoal.stats import iqm, iqm_interval

PUSHER = "imagoal/VisualPusherState-v0"
SHORT = ("agent.hidden=128", "agent.learning_rate=0.001")
QUICK = ("agent.target_rate=0.02",)  # of agents with values: they travel far in few updates
MAZE = ("goals=states", "goals.reward.kind=sparse", "goals.reward.epsilon=0.45", "goals.done_on_reach=true")
DENSE = ("goals=states", "goals.reward.kind=dense", "goals.reward.scale=5")
SPARSE = ("goals=stored",)
TASKS: dict[str, dict[str, Any]] = {
    "maze_medium": {"env": "PointMaze_Medium-v3", "goals": MAZE, "horizon": 300, "metric": "reached"},
    "maze_large": {"env": "PointMaze_Large-v3", "goals": MAZE, "horizon": 400, "metric": "reached"},
    "pushing": {"env": PUSHER, "goals": DENSE, "horizon": 50, "metric": "success"},
    "demonstrations": {"env": "imagoal/PuckToPlace-v0", "goals": SPARSE, "horizon": 50, "metric": "success"},
}
IQL = ("agent=iql", "agent.expectile=0.9")
COMPARED: dict[str, dict[str, tuple[str, ...]]] = {
    "maze_medium": {"iql": IQL, "awac": ("agent=awac",), "td3_bc": ("agent=td3_bc",), "one_step": ("agent=one_step",), "bc": ("agent=bc",)},
    "pushing": {"iql": IQL, "awac": ("agent=awac",), "td3_bc": ("agent=td3_bc",), "sac": ("agent=sac",), "bc": ("agent=bc",), "sac_from_nothing": ("agent=sac",)},
    "demonstrations": {"iql": IQL, "awac": ("agent=awac",), "td3_bc": ("agent=td3_bc",), "sac": ("agent=sac",), "bear": ("agent=bear",), "bc": ("agent=bc",)},
}  # fmt: skip
COMPARED["maze_large"] = COMPARED["maze_medium"]
UNCLAMPED = {"agent=iql": ("agent.target_clip=false",), "agent=awac": ("agent.target_clip=false", "agent.q_clamp=false"), "agent=td3_bc": ("agent.target_clip=false",)}
COLOURS = (*PALETTE, "#7A5230")
PAIRS = [(task, name) for task in TASKS for name in COMPARED[task]]


# ---------------------------------------------------------------- data
def maze_data(env: str, seed: int) -> list[Episode]:
    """400 short trips."""
    return short_trips(offline.open_copies(env, 10), trips=400, cells=3, horizon=80, noise=0.5, seed=seed)


def noise_data(env: str, seed: int) -> list[Episode]:
    """500 trajectories of Ornstein-Uhlenbeck noise."""
    generator, count = torch.Generator().manual_seed(seed), 10
    copies, noise = offline.open_copies(env, count), OrnsteinUhlenbeck(count, 2, 0.6)
    episodes: list[Episode] = []
    for begin in range(0, 500, count):
        noise.reset()
        episodes += copies.run(lambda o, a, g: noise.step(generator).numpy(), range(begin, begin + count))[0]
    return episodes


def demonstration_data(env: str, seed: int) -> list[Episode]:
    """15 demonstrations, and 100 trajectories of a policy cloned from them, drawn with its noise."""
    copies = offline.open_copies(env, 5)
    expert, aim = PuckPusher(PUSH, noise=0.1, seed=seed), np.concatenate([HOME, PLACE])[None]
    shown, _ = copies.run(lambda o, a, g: expert(o, a, aim.repeat(len(o), 0)), range(seed * 1000, seed * 1000 + 15))
    widths = offline.Widths.of(copies)
    torch.manual_seed(seed)
    build, config = AGENTS["bc"]
    clone: Any = build(config(hidden=128, learning_rate=1e-3), widths.goal + widths.observation, widths.goal, widths.action)
    sampler = offline.sampler_of(GoalsConfig(Mixture(original=1.0, future=0.0)), offline.numbers_replay(stack(shown), widths, torch.device("cpu")), None)
    generator = torch.Generator().manual_seed(seed)
    many = sampler.sample(700, generator)
    clone.fit_scaling(many.obs, many.goal)
    learn(clone, sampler, 1500, 128, generator)
    cloned, _ = copies.run(offline.actor(clone, torch.device("cpu"), True, generator), range(seed * 1000 + 15, seed * 1000 + 115))
    return [*shown, *cloned]


DATA: dict[str, Callable[[str, int], list[Episode]]] = {
    "maze_medium": maze_data, "maze_large": maze_data, "pushing": noise_data, "demonstrations": demonstration_data,
}  # fmt: skip


def data_of(task: str, folder: Path, seed: int) -> Path:
    """The task's dataset, made where it is missing."""
    path, env = folder / f"{task}-data", TASKS[task]["env"]
    if not (path / "complete").is_file():
        shutil.rmtree(path, ignore_errors=True)
        append_numbers(path, DATA[task](env, seed), offline.open_copies(env, 1).first)
        (path / "complete").touch()
    return path


# ---------------------------------------------------------------- runs
def told(task: str, name: str) -> list[str]:
    """What pretraining of an agent on a task is told, beside its data."""
    asked, agent = TASKS[task], COMPARED[task][name]
    words = [f"env={asked['env']}", *asked["goals"], *SHORT, *(() if name == "bc" else QUICK), *agent, f"horizon={asked['horizon']}"]
    return words + list(UNCLAMPED.get(agent[0], ()) if task == "pushing" else ())  # its rewards go below -1


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Every agent on every task: pretraining, then practice."""
    common = [f"experiment={config.name}", f"seed={seed}", f"device={config.device}", f"evaluation_episodes={config.episodes}"]
    before, after = [], []
    for task, name in PAIRS:
        asked, run = TASKS[task], folder / f"{task}-{name}"
        nothing = name.endswith("from_nothing")
        words = [*told(task, name), *common]
        words += ["updates=0"] if nothing else [f"data={data_of(task, folder, seed)}"]
        before.append(("pretrain", run / "pretrain", words))
        more = ["practised_share=1"] if nothing else []
        after.append(("practice", run / "online", [f"policy={run / 'pretrain'}", "online=true", f"horizon={asked['horizon']}", *more, *common]))
    stages(before, config.workers)
    out: dict[str, dict[str, float]] = {}
    for (task, name), result in zip(PAIRS, stages(after, config.workers), strict=True):
        for metric in (TASKS[task]["metric"], f"{TASKS[task]['metric']}_stochastic"):
            out.setdefault(name, {}).update({f"{task}.{metric}_before": result[f"{metric}_before"], f"{task}.{metric}_after": result[metric]})
        out[name] |= {f"{task}.steps": result["steps"], f"{task}.seconds": result["seconds"]}
    for task in TASKS:
        returns = open_minari(data_of(task, folder, seed))
        out.setdefault("data", {})[f"{task}.transitions"] = float(returns.total_steps)
    return out


def extra(config: ExperimentConfig, folder: Path, seeds: Sequence[int], earlier: dict[str, Any]) -> dict[str, Any]:
    """Learning curves of every seed, offline at negative steps; and over tasks and seeds the interquartile mean after practice with its bootstrap interval,
    of agents that every task has."""
    curves: dict[str, Any] = {}
    for task, name in PAIRS:
        runs = [folder / f"seed-{seed}" / f"{task}-{name}" for seed in seeds]
        found = [with_pretraining(run / "online", str(run / "pretrain")) for run in runs]
        metric = TASKS[task]["metric"]
        rows = [[i for i, v in enumerate(m[metric]) if v is not None] for m in found]
        before = earlier.get("curves", {}).get(name, {}).get(task, {})
        curves.setdefault(name, {})[task] = {
            label: [*before.get(label, []), *([m[column][i] for i in r] for m, r in zip(found, rows, strict=True))]
            for label, column in (("steps", "step"), (metric, metric))
        }
    return {"curves": curves, "iqm": {name: aggregate(curves[name]) for name in curves if set(curves[name]) == set(TASKS)}}


def aggregate(of_agent: dict[str, Any]) -> dict[str, list[float]]:
    """IQM and its 95% interval, before practice and after it, of the scores (seeds, tasks)."""
    out = {}
    for name, at in (("before", lambda steps: max(i for i, s in enumerate(steps) if s <= 0)), ("after", lambda steps: len(steps) - 1)):
        scores = np.array([[c[TASKS[task]["metric"]][k][at(steps)] for k, steps in enumerate(c["steps"])] for task, c in of_agent.items()]).T
        out[name] = [iqm(scores), *iqm_interval(scores)]
    return out


def figure(result: dict[str, Any]) -> bytes:
    """A panel for each task: success against steps, offline updates below 0; seeds are thin, their mean is not."""
    names = list(result["curves"])
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(4.4 * len(TASKS), 3.4), layout="constrained")
        panels = drawing.subplots(1, len(TASKS), squeeze=False)[0]
    for axes, (task, asked) in zip(panels, TASKS.items(), strict=True):
        for name in names:
            if found := result["curves"][name].get(task):
                fewest = min(map(len, found["steps"]))
                steps = np.mean([s[:fewest] for s in found["steps"]], 0)
                learning_curve(axes, steps / 1000, np.array([v[:fewest] for v in found[asked["metric"]]]), name.replace("_", " "), COLOURS[names.index(name)], "none")
        axes.axvline(0, color="grey", linewidth=0.8, linestyle=":")
        axes.set(xlabel="thousand updates offline (below 0), steps online", ylabel=asked["metric"], ylim=(-0.03, 1.03))
        axes.set_title(task.replace("_", " "), fontsize=11)
        axes.legend(fontsize=8, frameon=False)
    return figure_png(drawing, dpi=110)
