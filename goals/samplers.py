"""Goals for new episodes.

A goal sampler is a callable (context (B, z), generator) -> goals (B, z): the context is the latent of an episode's first frame.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from goals.replay import Replay
from vision.protocols import LatentPrior

GoalSampler = Callable[[Tensor, torch.Generator], Tensor]


def pick_novel(
    distance: Float[Tensor, "B K"], least: float, generator: torch.Generator | None = None, weights: Float[Tensor, "B K"] | None = None
) -> Int[Tensor, " B"]:
    """Which of K candidate goals to try: any one farther than `least` from where the episode starts, as likely as its positive weight says, else the farthest.

    A goal that is reached before the first step teaches nothing, and a prior of what scenes afford also proposes, rightly,
    that nothing changes.
    """
    novel = distance > least
    lottery = torch.rand(distance.shape, generator=generator, device=distance.device).log()
    if weights is not None:  # the largest of log(u) / w is a draw by w (Efraimidis and Spirakis 2006)
        lottery = lottery / weights.to(lottery)
    return torch.where(novel.any(1), torch.where(novel, lottery, -torch.inf).argmax(1), distance.argmax(1))


class PriorGoals:
    """Imagined goals: samples of a latent prior given the context (VAL, RIG).

    Args: prior: anything with `sample(n, context (n, z), generator=)` -> (n, z), as vision's LatentPrior.
    """

    def __init__(self, prior: LatentPrior):
        self.prior = prior

    def __call__(self, context: Float[Tensor, "B z"], generator: torch.Generator) -> Float[Tensor, "B z"]:
        return self.prior.sample(len(context), context, generator=generator)


class ReplayGoals:
    """States seen before: uniform live rows of a replay, of one scene if given."""

    def __init__(self, replay: Replay, scene: int | None = None):
        self.replay, self.scene = replay, scene

    def __call__(self, context: Float[Tensor, "B z"], generator: torch.Generator) -> Float[Tensor, "B z"]:
        n, device = len(context), self.replay.device
        scene = None if self.scene is None else torch.full((n,), self.scene, device=device)
        return self.replay.latent(self.replay.rows_of_scene(scene, n, generator))


class FixedGoals:
    """One of a given set (G, z), uniformly: evaluation goals, or a target task."""

    def __init__(self, goals: Float[Tensor, "G z"]):
        if not len(goals):
            raise ValueError("FixedGoals needs at least one goal")
        self.goals = goals

    def __call__(self, context: Float[Tensor, "B z"], generator: torch.Generator) -> Float[Tensor, "B z"]:
        index = torch.randint(len(self.goals), (len(context),), generator=generator, device=self.goals.device)
        return self.goals[index]
