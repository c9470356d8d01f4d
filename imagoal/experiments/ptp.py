"""PTP at its desk (thesis ch. 10, fig. 51): three tasks of two parts in one order, of which demonstrations do one, practised by planned subgoals in every way.

Seed s has its own data and networks, and practises in scene train/s, which is in its data, as in the paper; what its tasks ask for is not.
"""

from pathlib import Path

from envs.ptp_tasks import TARGETS
from imagoal.config import ExperimentConfig
from imagoal.experiments.long_tasks import Way, bars, practised

SUBGOALS = {  # name -> what `imagoal subgoals` is told beside the experiment's settings; flat: as many subgoals, of one level
    "ptp": (), "leap": ("planner.method=leap",), "gcp": ("planner.method=gcp",), "flat": ("planner.levels=[22]",),
}  # fmt: skip
FORGET = "planner.memory=false"
WAYS = {
    "ptp": Way("ptp"), "ptp_without_memory": Way("ptp", (FORGET,)), "ptp_without_hierarchy": Way("flat", ("planner.subgoals=4",)),
    "ptp_without_both": Way("flat", ("planner.subgoals=4", FORGET)), "leap": Way("leap", ("planner.subgoals=4",)), "gcp": Way("gcp"), "model_free": Way(""),
}  # fmt: skip
BARS = bars(list(TARGETS), WAYS)


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Practice of every task in every way."""
    return practised(config, folder, seed, f"train/{seed}", list(TARGETS), SUBGOALS, WAYS)
