"""Planning coarse to fine: each level fills in the segments the coarser one left (PTP, Algorithm 6, with the errata).

The coarsest level is planned first (dt = 60, then 30, then 15 steps), each level splitting a segment in its K subgoals (the
paper's factor is 2). All segments of a level are one batch of problems, so three levels are three calls of MPPI.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from planning.planner import Plan, SubgoalPlanner


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
    subgoals = goal[:, None]
    for planner in planners:
        starts = torch.cat([z[:, None], subgoals[:, :-1]], dim=1)
        found = planner.plan(starts.flatten(0, 1), subgoals.flatten(0, 1), generator, remember=remember)
        subgoals = rearrange(found.subgoals, "(p s) k z -> p (s k) z", p=len(z))
    values, codes = (rearrange(x, "(p s) k ... -> p (s k) ...", p=len(z)) for x in (found.values, found.codes))
    return Plan(subgoals, found.cost.view(len(z), -1).sum(1), values, codes)
