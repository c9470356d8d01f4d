"""PTP at its desk (thesis ch. 10, fig. 51): three tasks of two parts in one order, of which demonstrations do one, practised by planned subgoals in every way.

Seed s has its own data and networks, and practises in scene train/s, which is in its data, as in the paper; what its tasks ask for is not.
"""

from pathlib import Path

import numpy as np

from envs.families import SceneBatch
from envs.ptp_tasks import NAMES, TARGETS
from imagoal.config import ExperimentConfig
from imagoal.evaluation import FIRST_SEED
from imagoal.experiments.long_tasks import Way, bars, practised
from imagoal.experiments.plans import frames, planned, plausible, sheet
from imagoal.loading import open_trajectories

SUBGOALS = {  # name -> what `imagoal subgoals` is told beside the experiment's settings; flat: as many subgoals, of one level
    "ptp": (), "leap": ("planner.method=leap",), "gcp": ("planner.method=gcp",), "flat": ("planner.levels=[30]",),
}  # fmt: skip
STATES = 16
FORGET = "planner.memory=false"
WAYS = {
    "ptp": Way("ptp"), "ptp_without_memory": Way("ptp", (FORGET,)), "ptp_without_hierarchy": Way("flat", ("planner.subgoals=4",)),
    "ptp_without_both": Way("flat", ("planner.subgoals=4", FORGET)), "leap": Way("leap", ("planner.subgoals=4",)), "gcp": Way("gcp"), "model_free": Way(""),
}  # fmt: skip
JUDGED = ("ptp", "leap", "gcp")  # whose subgoals are shown, and compared with states that can be
BARS = [*bars(list(TARGETS), WAYS), *((name, "subgoals.plausible", f"{name}: plausible subgoals") for name in JUDGED)]


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Practice of every task in every way, and how many subgoals can be."""
    out = practised(config, folder, seed, f"train/{seed}", list(TARGETS), SUBGOALS, WAYS)
    for name, share in zip(JUDGED, judged(config, folder, seed), strict=True):
        out[name]["subgoals.plausible"] = share
    return out


def judged(config: ExperimentConfig, folder: Path, seed: int) -> list[float]:
    """Of each of `JUDGED` the share of its subgoals that show a state that can be: like a picture of half of the scene's trajectories, or of where tasks begin and end."""
    policy, world, strips = planned(config, folder, seed, f"train/{seed}", list(TARGETS), JUDGED)
    columns = open_trajectories(str(folder / "data"))
    valid = np.concatenate([frames(columns, seed, 2, 0, 2), ends(world)])
    return plausible(policy, strips, valid, frames(columns, seed, 5, 1, 2))


def ends(world: SceneBatch) -> np.ndarray:
    """Pictures (n, H, W, 3) of where tasks begin and end in a scene, with the arm away: STATES of each."""
    drawn = [world.sample(np.arange(FIRST_SEED, FIRST_SEED - STATES, -1), task=task) for task in NAMES]
    return world.picture(np.concatenate([states for pair in drawn for states in pair]))


def pictures(config: ExperimentConfig, folder: Path) -> dict[str, bytes]:
    """Plans of seed 0 for each task: PTP's, LEAP's, GCP's side by side (fig. 52)."""
    return {"plans": sheet(planned(config, folder / "seed-0", 0, "train/0", list(TARGETS), JUDGED)[2], len(TARGETS))}
