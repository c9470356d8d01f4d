"""Planning coarse to fine: each level fills in the segments the coarser one left (PTP, Algorithm 6, with the errata).

The coarsest level is planned first (dt = 60, then 30, then 15 steps), each level splitting a segment in its K subgoals (the
paper's factor is 2). All segments of a level are one batch of problems, so three levels are three calls of MPPI.
"""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from planning.planner import Noise, Plan, SubgoalPlanner


def plan_levels(
    planners: Sequence[SubgoalPlanner],
    z: Float[Tensor, "P z"],
    goal: Float[Tensor, "P z"],
    generator: torch.Generator | None = None,
    remember: bool = True,
) -> Plan:
    """A plan from z to goal by `planners` from the coarsest to the finest, with as many subgoals as the product of their K; its cost is the sum of the
    finest segments', its values and codes are theirs.

    The coarser levels' subgoals stay in the result (each is the last subgoal of its segment); the very last is the goal.
    Raises ValueError without planners.
    """
    if not planners:
        raise ValueError("plan_levels needs at least one planner")
    found = search_levels(planners, z, goal, draw_levels(planners, z, generator))
    for planner, plan in zip(planners, found, strict=True):
        planner.accept(plan, remember)
    values, codes, subgoals = (rearrange(x, "(p s) k ... -> p (s k) ...", p=len(z)) for x in (found[-1].values, found[-1].codes, found[-1].subgoals))
    return Plan(subgoals, found[-1].cost.view(len(z), -1).sum(1), values, codes)


def draw_levels(planners: Sequence[SubgoalPlanner], z: Float[Tensor, "P z"], generator: torch.Generator | None = None) -> list[Noise]:
    """What `search_levels` needs, the coarsest level's first."""
    segments = accumulate((p.config.subgoals for p in planners[:-1]), mul, initial=len(z))
    return [planner.draw(problems, z, generator) for planner, problems in zip(planners, segments, strict=True)]


def search_levels(planners: Sequence[SubgoalPlanner], z: Float[Tensor, "P z"], goal: Float[Tensor, "P z"], noise: Sequence[Noise]) -> list[Plan]:
    """The plans that every level finds with its noise, for the segments that the coarser one left. As `SubgoalPlanner.search`, it waits for nothing."""
    found: list[Plan] = []
    subgoals = goal[:, None]
    for planner, drawn in zip(planners, noise, strict=True):
        starts = torch.cat([z[:, None], subgoals[:, :-1]], dim=1)
        found.append(planner.search(starts.flatten(0, 1), subgoals.flatten(0, 1), drawn))
        subgoals = rearrange(found[-1].subgoals, "(p s) k z -> p (s k) z", p=len(z))
    return found
