"""PTP at the gate (thesis ch. 10, figs. 51 and 52, in MuJoCo and in minutes): a task of three parts in one order, of which demonstrations do one. The policy given the final
goal only, or subgoals by PTP, LEAP or GCP, before it practised the task so and after.

Seed s has its own data and networks, and practises in scene train/s, which is in its data, as in the paper; what its task asks for is not.
"""

from pathlib import Path

import numpy as np
import torch

from envs.families import open_scene
from envs.tabletop import TabletopBatch
from imagoal.compose import load
from imagoal.config import ExperimentConfig, PracticeConfig
from imagoal.evaluation import FIRST_SEED, seeded
from imagoal.experiments.long_tasks import Way, bars, practised
from imagoal.fitting import png
from imagoal.loading import Policy, encoded, load_policy, open_trajectories, pick_device
from imagoal.subgoals import open_imagination, prior_material
from vision.images import to_uint8

TASK = "open_pass_shut"
METHODS = {"ptp": (), "leap": ("planner.method=leap",), "gcp": ("planner.method=gcp",)}  # subgoals -> what they are told
WAYS = {"ptp": Way("ptp"), "ptp_without_memory": Way("ptp", ("planner.memory=false",)), "leap": Way("leap"), "gcp": Way("gcp"), "model_free": Way("")}
BARS = [*bars([TASK], WAYS), *((method, "subgoals.plausible", f"{method}: plausible subgoals") for method in METHODS)]
PLANS, SHOWN = 20, 3
LEVELS = 25  # outcomes of each puck that subgoals are compared with
VARYING = 6.0  # 8-bit levels of spread from which a pixel tells where the pucks are


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Practice in every way, and how many subgoals can be."""
    out = practised(config, folder, seed, f"train/{seed}", [TASK], METHODS, WAYS)
    for method, share in zip(METHODS, plausible(config, folder, seed), strict=True):
        out[method]["subgoals.plausible"] = share
    return out


def planned(config: ExperimentConfig, folder: Path, seed: int) -> tuple[Policy, TabletopBatch, dict[str, np.ndarray]]:
    """The policy, the scene, and of each method PLANS plans' pictures: start, decoded subgoals, goal, (PLANS, K + 1, H, W, 3) uint8."""
    device = pick_device(config.device)
    policy = load_policy(str(folder / "policy"), device)
    settings: PracticeConfig = load("practice", [f"policy={folder / 'policy'}", f"experiment={config.name}"])
    world = open_scene(f"train/{seed}", 1, policy.scenes)
    assert isinstance(world, TabletopBatch)
    starts, goals = (world.picture(s) for s in world.sample(np.arange(FIRST_SEED, FIRST_SEED + PLANS), task=TASK))
    eyes, out = policy.eyes, {}
    columns = open_trajectories(str(folder / "data"))
    prior = prior_material(columns, encoded(eyes.model, str(folder / "model"), columns))
    z, aim = (eyes.latents(eyes.codes(pictures)).clone() for pictures in (starts, goals))
    for method in METHODS:
        planner = open_imagination(str(folder / f"subgoals-{method}"), policy, settings.planner, prior, seed, device)
        subgoals = planner.plan(z, aim, seeded(seed, 14, device=device)).subgoals[:, :-1]
        with torch.no_grad():
            drawn = to_uint8(eyes.model.decode(subgoals.flatten(0, 1))).cpu().numpy().reshape(*subgoals.shape[:2], *starts.shape[1:])
        out[method] = np.concatenate([starts[:, None], drawn, goals[:, None]], 1)
    return policy, world, out


def plausible(config: ExperimentConfig, folder: Path, seed: int) -> list[float]:
    """Of each method the share of its subgoals whose picture is that of a state that can be: as near to the picture of one, rendered, as 95% of the model's
    reconstructions of true pictures of this scene are."""
    policy, world, plans = planned(config, folder, seed)
    valid = valid_pictures(world)
    columns = open_trajectories(str(folder / "data"))
    codes = encoded(policy.eyes.model, str(folder / "model"), columns)
    here = np.flatnonzero(np.asarray(columns.scene) == seed)
    rows = np.concatenate([np.arange(columns.start[e], columns.end[e], 5) for e in here])
    usual = np.quantile(nearest(policy.eyes.pictures(codes[torch.from_numpy(rows)]), valid), 0.95)
    return [float((nearest(strips[:, 1:-1].reshape(-1, *strips.shape[2:]), valid) <= usual).mean()) for strips in plans.values()]


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


def nearest(pictures: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Root mean squared difference of each picture (n, H, W, 3) from the nearest of `valid`, in 8-bit levels, where those differ: the hand may be anywhere."""
    tells = valid.astype(np.float32).std(0).max(-1) > VARYING
    a, b = (torch.from_numpy(p[:, tells].reshape(len(p), -1).astype(np.float32)) for p in (pictures, valid))
    return torch.cdist(a, b).min(1).values.numpy() / np.sqrt(a.shape[1])  # type: ignore[no-any-return]


def pictures(config: ExperimentConfig, folder: Path) -> dict[str, bytes]:
    """Plans of seed 0, a row each: start, subgoals as decoded latents, goal; PTP's, LEAP's, GCP's side by side (fig. 52)."""
    _, _, plans = planned(config, folder / "seed-0", 0)
    gap = np.full((48 * SHOWN, 12, 3), 255, np.uint8)
    blocks = [np.concatenate([np.concatenate(list(strip), 1) for strip in strips[:SHOWN]], 0) for strips in plans.values()]
    sheet = np.concatenate([part for block in blocks for part in (block, gap)][:-1], 1)
    return {"plans": png(sheet.repeat(2, 0).repeat(2, 1))}
