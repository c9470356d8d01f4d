"""Jobs as stages of a longer one: each in its own run folder, skipped when done, continued when it was cut off."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

from imagoal.compose import load
from imagoal.disk import write_atomic
from imagoal.errors import UserError
from imagoal.run import read_result

Found = TypeVar("Found")
Stage = tuple[str, Path, Sequence[str]]  # job, folder, overrides


def stage(job: str, folder: Path, *overrides: str) -> dict[str, Any]:
    """Runs `imagoal JOB run=FOLDER overrides...` in this process, or continues it; returns its result.json.

    The result's `wall_clock_s` is this session's time in the stage, 0 where it had been done before.
    """
    began = time.monotonic()
    fresh = not (folder / "result.json").is_file()
    if fresh:
        resume = (folder / "config.yaml").is_file()
        config = load(job, [f"run={folder}", "resume=true"] if resume else [f"run={folder}", *overrides])
        importlib.import_module(f"imagoal.jobs.{job}").main(config)
    return {**read_result(folder), "wall_clock_s": round(time.monotonic() - began, 1) if fresh else 0.0}


def stages(jobs: Sequence[Stage], workers: int) -> list[dict[str, Any]]:
    """Independent stages (job, folder, overrides), `workers` at once, each in a process of its own with one thread; their results in order.

    With one worker they run one after another in this process. What a process printed is in FOLDER.log. Raises UserError naming the stage
    that failed; what was begun goes on from its checkpoint the next time.
    """
    if workers == 1:
        return [stage(job, folder, *overrides) for job, folder, overrides in jobs]

    def run(job: str, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
        began = time.monotonic()
        fresh = not (folder / "result.json").is_file()
        if fresh:
            again = (folder / "config.yaml").is_file()
            words = [f"run={folder}", "resume=true"] if again else [f"run={folder}", *overrides]
            folder.parent.mkdir(parents=True, exist_ok=True)
            with open(folder.with_name(f"{folder.name}.log"), "a") as log:
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                command = [sys.executable, "-m", "imagoal", job, *words, "threads=1"]
                done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            if done.returncode:
                raise UserError(f"stage {folder.name} failed; see {log.name}. What is done is kept: run the experiment again with resume=true.")
            print(f"experiment: {folder.name} done in {time.monotonic() - began:.0f} s", file=sys.stderr)
        return {**read_result(folder), "wall_clock_s": round(time.monotonic() - began, 1) if fresh else 0.0}

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda words: run(*words), jobs))


def remembered(path: Path, find: Callable[[], Found]) -> Found:
    """What `find` says, in plain JSON types, kept in a file: what an experiment finds beside its stages is not found twice."""
    if path.is_file():
        return cast(Found, json.loads(path.read_text()))
    found = find()
    write_atomic(path, json.dumps(found).encode())
    return found


def prepared(folder: Path, common: Sequence[str], prefix: str = "") -> dict[str, dict[str, Any]]:
    """collect -> train -> pretrain, in `folder`/PREFIXdata, PREFIXmodel and PREFIXpolicy, each told `common` too; PREFIXjob -> result."""
    data, model, policy = (folder / f"{prefix}{name}" for name in ("data", "model", "policy"))
    return {
        f"{prefix}collect": stage("collect", data, *common),
        f"{prefix}train": stage("train", model, f"data={data}", *common),
        f"{prefix}pretrain": stage("pretrain", policy, f"data={data}", f"model={model}", *common),
    }


def pipeline(folder: Path, experiment: str, seed: int, episodes: int, scene: str, device: str, threads: int) -> dict[str, dict[str, Any]]:
    """collect -> train -> pretrain -> practice, each stage in its own folder under `folder`; stage name -> result."""
    results = prepared(folder, [f"experiment={experiment}", f"seed={seed}", f"device={device}", f"threads={threads}"])
    results["practice"] = practise(folder, "affordance", experiment, seed, episodes, scene, device, threads)
    return results


def practise(
    folder: Path, source: str, experiment: str, seed: int, episodes: int, scene: str, device: str, threads: int
) -> dict[str, Any]:
    """Practice of the pipeline's policy with one source of goals, in `folder`/practice-SOURCE."""
    return stage(
        "practice", folder / f"practice-{source}", f"policy={folder / 'policy'}", f"goal_source={source}", f"scene={scene}",
        f"evaluation_episodes={episodes}", f"experiment={experiment}", f"seed={seed}", f"device={device}", f"threads={threads}",
    )  # fmt: skip


def two_stage(folder: Path, experiment: str, seed: int, episodes: int, scene: str, device: str, threads: int) -> dict[str, Any]:
    """The two-stage task with the practised policy: planned, and given the final goal only."""
    return stage(
        "plan", folder / "plan", f"policy={folder / 'practice-affordance'}", f"scene={scene}", f"episodes={episodes}",
        f"experiment={experiment}", f"seed={seed}", f"device={device}", f"threads={threads}",
    )  # fmt: skip


LONG_TASK = "gate"  # the experiment whose settings it has
FINAL_GOAL_ONLY = "gate-final-goal"


def long_task(folder: Path, seed: int, episodes: int, device: str, threads: int) -> dict[str, dict[str, Any]]:
    """The task of three parts at the gate, from data to a policy that practised it by way of planned subgoals; stage name -> result. `gate-practice` judges with
    plans, before and after; FINAL_GOAL_ONLY the policy as it was before, without."""
    common = [f"experiment={LONG_TASK}", f"seed={seed}", f"device={device}", f"threads={threads}"]
    results = prepared(folder, common, "gate-")
    policy, subgoals = folder / "gate-policy", folder / "gate-subgoals"
    results["gate-subgoals"] = stage("subgoals", subgoals, f"policy={policy}", *common)
    here = [f"policy={policy}", f"scene=train/{seed}", *common]
    results[FINAL_GOAL_ONLY] = stage("evaluate", folder / FINAL_GOAL_ONLY, *here, f"episodes={episodes}")
    results["gate-practice"] = stage("practice", folder / "gate-practice", *here, f"subgoals={subgoals}", f"evaluation_episodes={episodes}")
    return results


def times(results: dict[str, dict[str, Any]]) -> list[list[object]]:
    """Rows (stage, seconds of this session)."""
    return [[name, result["wall_clock_s"]] for name, result in results.items()]


