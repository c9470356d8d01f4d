"""Judging a policy by ground truth: the same seeds are the same starts and goals for every policy compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from envs.families import FAMILIES, SceneSettings, open_scene
from imagoal.rollout import Rollout, roll_out
from imagoal.sight import Eyes
from imagoal.stats import success_interval
from planning import SubgoalFollower

FIRST_SEED = 1_000_000  # of evaluation episodes; practice draws its starts below
CHUNK = 50  # episodes in lockstep


@dataclass
class Evaluation:
    """What happened in n episodes; success is judged on the last state."""

    success: np.ndarray  # (n,) bool
    goals: np.ndarray  # (n, H, W, 3) goal pictures
    rollouts: list[Rollout]
    tasks: list[str]  # of each episode; empty names where goals have no task
    lost: int = 0  # episodes in which a thing left the table; they count as missed

    @property
    def rate(self) -> float:
        """Share of episodes that ended in success."""
        return float(self.success.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the rate."""
        return success_interval(int(self.success.sum()), len(self.success))

    @property
    def by_task(self) -> dict[str, tuple[int, int]]:
        """Task -> (times reached, of how many), of named tasks."""
        names = [name for name in dict.fromkeys(self.tasks) if name]
        return {name: (int(self.success[[t == name for t in self.tasks]].sum()), self.tasks.count(name)) for name in names}

    def numbers(self, suffix: str) -> dict[str, Any]:
        """`success` and its interval, also of each task, with a suffix; `lost` where there are any."""
        out: dict[str, Any] = {f"success{suffix}": self.rate, f"success{suffix}_ci95": self.interval}
        for name, (hits, n) in self.by_task.items():
            out |= {f"{name}.success{suffix}": hits / n, f"{name}.success{suffix}_ci95": success_interval(hits, n)}
        return out | ({f"lost{suffix}": self.lost} if self.lost else {})


Guide = Callable[[Tensor, Tensor], SubgoalFollower]  # latents (n, z) of starts and of goals -> who says what to aim at


def evaluate(
    agent: Agent, eyes: Eyes, settings: SceneSettings, scene: str, episodes: int, horizon: int, changes: int = 1, task: str = "", keep_images: bool = False,
    guide: Guide | None = None,
) -> Evaluation:  # fmt: skip
    """Runs the policy without exploration towards pictures of true goals, or by way of the subgoals of `guide`; where goals have tasks, of the named one, or of
    all that the scene allows in turn."""
    agent.eval()
    success, pictures, rollouts, lost = [], [], [], 0
    names = [task] if task or settings.family == "tabletop" or changes > 1 else list(FAMILIES[settings.family].tasks(scene, settings))
    tasks = [names[i % len(names)] for i in range(episodes)]
    for begin in range(0, episodes, CHUNK):
        n = min(CHUNK, episodes - begin)
        world = open_scene(scene, n, settings)
        drawn = [world.sample([FIRST_SEED + i], changes, tasks[i]) for i in range(begin, begin + n)]
        starts, goals = (np.concatenate(column) for column in zip(*drawn, strict=True))
        first = world.picture(starts) if eyes.model.needs_context else None
        shown = world.picture(goals)
        aim = eyes.latents(eyes.codes(shown, first)).clone()
        way = aim if guide is None else guide(eyes.latents(eyes.codes(world.picture(starts), first)).clone(), aim)
        rollout = roll_out(world, agent, eyes, starts, way, horizon, keep_images=keep_images and begin == 0)
        gone = world.lost()
        success.append(world.success(rollout.states[:, -1], goals) & ~gone)
        lost += int(gone.sum())
        pictures.append(shown)
        rollouts.append(rollout)
        world.close()
    agent.train()
    return Evaluation(np.concatenate(success), np.concatenate(pictures), rollouts, tasks, lost)


def seeded(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on all the numbers: noise of step k is the same whether or not the run was resumed."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    return torch.Generator(device).manual_seed(seed)
