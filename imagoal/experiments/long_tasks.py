"""What the comparisons of planning (gate, ptp) share: data, model and policy, generators of subgoals, then practice of each task in every way (thesis ch. 10, fig. 51)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from imagoal.config import ExperimentConfig
from imagoal.stages import stages


class Way(NamedTuple):
    """How a task is practised. subgoals: by those of this name; empty: at the final goal only. words: what else practice is told."""

    subgoals: str
    words: tuple[str, ...] = ()


def practised(
    config: ExperimentConfig, folder: Path, seed: int, scene: str, tasks: Sequence[str], subgoals: Mapping[str, Sequence[str]], ways: Mapping[str, Way]
) -> dict[str, dict[str, float]]:
    """Way -> TASK.success_offline, TASK.success_after, TASK.seconds, TASK.lost. `subgoals`: name -> what `imagoal subgoals` is told. Run folders: data, model,
    policy, subgoals-NAME, TASK-WAY."""
    common = [f"experiment={config.name}", f"seed={seed}", f"device={config.device}"]
    data, model, policy = (folder / name for name in ("data", "model", "policy"))
    threads = [f"threads={config.threads}"] if config.workers == 1 else []
    stages([("collect", data, [*common, f"workers={config.workers}"])], 1)
    stages([("train", model, [f"data={data}", *common, *threads])], config.workers)
    stages([("pretrain", policy, [f"data={data}", f"model={model}", *common, *threads])], config.workers)
    stages([("subgoals", folder / f"subgoals-{name}", [f"policy={policy}", *common, *threads, *words]) for name, words in subgoals.items()], config.workers)
    pairs = [(task, name) for task in tasks for name in ways]
    jobs = []
    for task, name in pairs:
        way = ways[name]
        planned = [f"subgoals={folder / f'subgoals-{way.subgoals}'}"] if way.subgoals else []
        told = [f"policy={policy}", f"scene={scene}", f"task={task}", f"evaluation_episodes={config.episodes}", *planned, *common, *threads]
        jobs.append(("practice", folder / f"{task}-{name}", [*told, *way.words]))
    out: dict[str, dict[str, float]] = {}
    for (task, name), found in zip(pairs, stages(jobs, config.workers), strict=True):
        kept = {"success_offline": found["success_before"], "success_after": found["success_after"], "seconds": found["seconds"], "lost": found["lost"]}
        out.setdefault(name, {}).update({f"{task}.{k}": float(v) for k, v in kept.items()})
    return out


def bars(tasks: Sequence[str], ways: Mapping[str, Way]) -> list[tuple[str, str, str]]:
    """Rows of a figure: every way before and after practice, task by task."""
    return [(name, f"{task}.success_{when}", f"{task.replace('_', ' ')}, {name.replace('_', ' ')}: {when}") for task in tasks for name in ways for when in ("offline", "after")]
