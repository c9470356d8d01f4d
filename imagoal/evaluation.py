"""Judging a policy by ground truth: the same seeds are the same starts and goals for every policy compared."""

from dataclasses import dataclass

import numpy as np
import torch

from agents.agent import Agent
from envs.simulation import outcome_success
from envs.tabletop import TabletopBatch
from imagoal.rollout import Rollout, roll_out
from imagoal.sight import Eyes
from imagoal.stats import success_interval

FIRST_SEED = 1_000_000  # of evaluation episodes; practice draws its starts below
CHUNK = 50  # episodes in lockstep


@dataclass
class Evaluation:
    """What happened in n episodes; success is judged on the last state."""

    success: np.ndarray  # (n,) bool
    goals: np.ndarray  # (n, H, W, 3) goal pictures
    rollouts: list[Rollout]

    @property
    def rate(self) -> float:
        """Share of episodes that ended in success."""
        return float(self.success.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the rate."""
        return success_interval(int(self.success.sum()), len(self.success))


def evaluate(
    agent: Agent, eyes: Eyes, scene: str, episodes: int, horizon: int, image_size: int, kinds: tuple[str, ...], changes: int = 1,
    keep_images: bool = False,
) -> Evaluation:  # fmt: skip
    """Runs the policy without exploration towards pictures of true goals."""
    agent.eval()
    success, pictures, rollouts = [], [], []
    for begin in range(0, episodes, CHUNK):
        n = min(CHUNK, episodes - begin)
        world = TabletopBatch(scene, n, image_size, kinds)
        starts, goals = world.sample(np.arange(FIRST_SEED + begin, FIRST_SEED + begin + n), changes)
        shown = world.picture(goals)
        aim = eyes.latents(eyes.codes(shown)).clone()
        rollout = roll_out(world, agent, eyes, starts, aim, horizon, keep_images=keep_images and begin == 0)
        success.append(outcome_success(rollout.states[:, -1], goals))
        pictures.append(shown)
        rollouts.append(rollout)
    agent.train()
    return Evaluation(np.concatenate(success), np.concatenate(pictures), rollouts)


def seeded(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on all the numbers: noise of step k is the same whether or not the run was resumed."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    return torch.Generator(device).manual_seed(seed)
