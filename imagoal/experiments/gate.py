"""PTP at the gate (thesis ch. 10, figs. 51 and 52, in MuJoCo and in minutes): a task of three parts in one order, of which demonstrations do one. The policy given the final
goal only, or subgoals by PTP, LEAP or GCP, before it practised the task so and after.

Seed s has its own data and networks, and practises in scene train/s, which is in its data, as in the paper; what its task asks for is not.
"""

from pathlib import Path

import numpy as np

from envs.tabletop import TabletopBatch
from imagoal.config import ExperimentConfig
from imagoal.experiments.long_tasks import Way, bars, practised
from imagoal.experiments.plans import frames, planned, plausible, sheet
from imagoal.loading import open_trajectories

TASK = "open_pass_shut"
METHODS = {"ptp": (), "leap": ("planner.method=leap",), "gcp": ("planner.method=gcp",)}  # subgoals -> what they are told
WAYS = {"ptp": Way("ptp"), "ptp_without_memory": Way("ptp", ("planner.memory=false",)), "leap": Way("leap"), "gcp": Way("gcp"), "model_free": Way("")}
BARS = [*bars([TASK], WAYS), *((method, "subgoals.plausible", f"{method}: plausible subgoals") for method in METHODS)]
LEVELS = 25  # outcomes of each puck that subgoals are compared with


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Practice in every way, and how many subgoals can be."""
    out = practised(config, folder, seed, f"train/{seed}", [TASK], METHODS, WAYS)
    for method, share in zip(METHODS, judged(config, folder, seed), strict=True):
        out[method]["subgoals.plausible"] = share
    return out


def judged(config: ExperimentConfig, folder: Path, seed: int) -> list[float]:
    """Of each method the share of its subgoals that show a state that can be."""
    policy, world, strips = planned(config, folder, seed, f"train/{seed}", [TASK], list(METHODS))
    assert isinstance(world, TabletopBatch)
    return plausible(policy, strips, valid_pictures(world), frames(open_trajectories(str(folder / "data")), seed, 5))


def valid_pictures(world: TabletopBatch) -> np.ndarray:
    """Pictures (n, H, W, 3) of states in which nothing overlaps: the pucks at LEVELS places each, the hand in a corner."""
    keeper, runner = world.simulation.scene.things
    found = []
    for a in np.linspace(0, 1, LEVELS):
        for b in np.linspace(0, 1, LEVELS):
            state = np.array([0.2, -0.2, a, b], np.float32)
            one, two = world.simulation.boxes(state)[:2]
            if np.hypot(one.x - two.x, one.y - two.y) > keeper.size + runner.size - 0.004:
                found.append(state)
    return world.picture(np.stack(found))


def pictures(config: ExperimentConfig, folder: Path) -> dict[str, bytes]:
    """Plans of seed 0: PTP's, LEAP's, GCP's side by side (fig. 52)."""
    return {"plans": sheet(planned(config, folder / "seed-0", 0, "train/0", [TASK], list(METHODS))[2], 1)}
