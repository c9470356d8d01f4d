"""Plans as the comparisons of planning (gate, ptp) show them: film strips of decoded subgoals (thesis fig. 52), and the share of subgoals that show a state that can be."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from envs.columns import Columns
from envs.families import SceneBatch, open_scene
from imagoal.compose import load
from imagoal.config import ExperimentConfig, PracticeConfig
from imagoal.evaluation import FIRST_SEED, seeded
from imagoal.fitting import png
from imagoal.loading import Policy, encoded, load_policy, open_trajectories, pick_device
from imagoal.subgoals import open_imagination, prior_material
from vision.images import to_uint8

PLANS = 20  # of each task
VARYING = 6.0  # 8-bit levels of spread from which a pixel tells where things are
USUAL = 0.95  # of reconstructions of true pictures count as showing a state that can be
SHOWN = 3  # plans of each method on a sheet

Strips = dict[str, np.ndarray]  # method -> pictures (plans, K + 1, H, W, 3) uint8: the start, decoded subgoals, the goal


def planned(config: ExperimentConfig, folder: Path, seed: int, scene: str, tasks: Sequence[str], methods: Sequence[str]) -> tuple[Policy, SceneBatch, Strips]:
    """The policy, the scene, and each method's plans for PLANS true goals of each task, task after task."""
    device = pick_device(config.device)
    policy = load_policy(str(folder / "policy"), device)
    settings: PracticeConfig = load("practice", [f"policy={folder / 'policy'}", f"experiment={config.name}"])
    world = open_scene(scene, 1, policy.scenes)
    drawn = [world.sample(np.arange(FIRST_SEED, FIRST_SEED + PLANS), task=task) for task in tasks]
    starts, goals = (world.picture(np.concatenate(states)) for states in zip(*drawn, strict=True))
    eyes, out = policy.eyes, {}
    columns = open_trajectories(str(folder / "data"))
    prior = prior_material(columns, encoded(eyes.model, str(folder / "model"), columns))
    z, aim = (eyes.latents(eyes.codes(pictures)).clone() for pictures in (starts, goals))
    for method in methods:
        planner = open_imagination(str(folder / f"subgoals-{method}"), policy, settings.planner, prior, seed, device)
        subgoals = planner.plan(z, aim, seeded(seed, 14, device=device)).subgoals[:, :-1]
        with torch.no_grad():
            pictures = to_uint8(eyes.model.decode(subgoals.flatten(0, 1))).cpu().numpy().reshape(*subgoals.shape[:2], *starts.shape[1:])
        out[method] = np.concatenate([starts[:, None], pictures, goals[:, None]], 1)
    return policy, world, out


def plausible(policy: Policy, strips: Strips, valid: np.ndarray, true: np.ndarray) -> list[float]:
    """Of each method the share of its subgoals whose picture is that of a state that can be: as near to one of `valid` (n, H, W, 3), true pictures of the scene, as
    95% of the model's reconstructions of others, `true` (m, H, W, 3), are."""
    usual = np.quantile(nearest(policy.eyes.pictures(policy.eyes.codes(true)), valid), USUAL)
    return [float((nearest(strip[:, 1:-1].reshape(-1, *strip.shape[2:]), valid) <= usual).mean()) for strip in strips.values()]


def frames(columns: Columns, scene: int, every: int, first: int = 0, of: int = 1) -> np.ndarray:
    """Each `every`-th picture of the trajectories of a scene, of these one in `of` from number `first` on."""
    here = np.flatnonzero(np.asarray(columns.scene) == scene)[first::of]
    return np.asarray(columns.image[np.concatenate([np.arange(columns.start[e], columns.end[e], every) for e in here])])


def nearest(pictures: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Root mean squared difference of each picture (n, H, W, 3) from the nearest of `valid`, in 8-bit levels, where those differ among each other."""
    tells = valid.astype(np.float32).std(0).max(-1) > VARYING
    a, b = (torch.from_numpy(p[:, tells].reshape(len(p), -1).astype(np.float32)) for p in (pictures, valid))
    return torch.cdist(a, b).min(1).values.numpy() / np.sqrt(a.shape[1])  # type: ignore[no-any-return]


def sheet(strips: Strips, tasks: int) -> bytes:
    """A PNG: SHOWN plans of each task, a row each, the methods side by side."""
    rows = [task * PLANS + i for task in range(tasks) for i in range(SHOWN)]
    blocks = [np.concatenate([np.concatenate(list(strip[row]), 1) for row in rows], 0) for strip in strips.values()]
    gap = np.full((len(blocks[0]), 12, 3), 255, np.uint8)
    drawn = np.concatenate([part for block in blocks for part in (block, gap)][:-1], 1)
    return png(drawn.repeat(2, 0).repeat(2, 1))
