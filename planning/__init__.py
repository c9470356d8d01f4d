"""How to reach far: subgoal generators, MPPI, and planners that know only callables.

    from planning import SubgoalCVAE, SubgoalPlanner, SubgoalFollower

Nothing here knows an environment, an agent or an image: a planner is given `generate`, `value` and `distance`.
"""

from planning.cem import cem
from planning.follower import FollowerConfig, SubgoalFollower
from planning.gcp import MidpointCVAE
from planning.generator import SubgoalCVAE, SubgoalCVAEConfig
from planning.leap import StateVAE
from planning.levels import plan_levels
from planning.memory import MemoryConfig, PlanMemory
from planning.mppi import MPPIResult, mppi
from planning.pairs import SubgoalPairs, midpoints, subgoal_chains, subgoal_pairs
from planning.planner import Plan, PlannerConfig, SubgoalPlanner

__all__ = [
    "FollowerConfig",
    "MPPIResult",
    "MemoryConfig",
    "MidpointCVAE",
    "Plan",
    "PlanMemory",
    "PlannerConfig",
    "StateVAE",
    "SubgoalCVAE",
    "SubgoalCVAEConfig",
    "SubgoalFollower",
    "SubgoalPairs",
    "SubgoalPlanner",
    "cem",
    "midpoints",
    "mppi",
    "plan_levels",
    "subgoal_chains",
    "subgoal_pairs",
]
