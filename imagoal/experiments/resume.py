"""Pretraining and practice killed with SIGKILL and continued, beside the same runs left alone: the numbers must be equal."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from imagoal.config import ExperimentConfig
from imagoal.errors import UserError
from imagoal.run import read_result
from imagoal.stages import stage

PATIENCE = 600  # seconds for a first checkpoint
LATEST = 2.0  # seconds after the first checkpoint, at most, that the kill comes
VARIANTS = ("uninterrupted", "killed_and_resumed")
BARS = [(variant, "practice.success_after", f"{variant.replace('_', ' ')}: after practice") for variant in VARIANTS]


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Each job twice from the same data and model. `identical` is 1 where metrics.csv and result.json are equal (but for the time)."""
    common = ["experiment=resume", f"seed={seed}", f"device={config.device}", f"threads={config.threads}"]
    data, model = folder / "data", folder / "model"
    stage("collect", data, *common)
    stage("train", model, f"data={data}", *common)
    out: dict[str, dict[str, float]] = {variant: {} for variant in VARIANTS}
    policy = folder / "pretrain"
    words = {
        "pretrain": [f"data={data}", f"model={model}", *common],
        "practice": [f"policy={policy}", f"scene=held_out/{seed}", f"evaluation_episodes={config.episodes}", *common],
    }
    for job, name in (("pretrain", "last.critic_loss"), ("practice", "success_after")):
        alone, killed = folder / job, folder / f"{job}-killed"
        stage(job, alone, *words[job])
        if not (killed / "config.yaml").is_file():
            kill(job, killed, words[job], float(np.random.default_rng([seed, len(job)]).uniform(0, LATEST)))
        stage(job, killed)  # continues it
        for variant, run in zip(VARIANTS, (alone, killed), strict=True):
            out[variant][f"{job}.{name}"] = float(read_result(run)[name])
        out["killed_and_resumed"][f"{job}.identical"] = float(outcome(alone) == outcome(killed))
    return out


def kill(job: str, folder: Path, words: list[str], delay: float) -> None:
    """Starts the job in a process of its own and kills it `delay` seconds after its first checkpoint.

    Raises UserError where it ends, or has no checkpoint, before that.
    """
    command = [sys.executable, "-m", "imagoal", job, f"run={folder}", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pointer, deadline = folder / "checkpoints" / f"{job}.json", time.monotonic() + PATIENCE
    while not pointer.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL or not pointer.is_file():
        raise UserError(f"experiment resume: {job} was not killed between its first checkpoint and its end; delete {folder} and try again.")


def outcome(run: Path) -> tuple[str, dict[str, Any]]:
    """A run's metrics and result, without the time it took."""
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    result.pop("seconds")
    return (run / "metrics.csv").read_text(), result
