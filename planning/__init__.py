"""How to reach far: subgoal generators, MPPI, and planners that know only callables.

    from planning import SubgoalCVAE, SubgoalPlanner, SubgoalFollower

Nothing here knows an environment, an agent or an image: a planner is given `generate`, `value` and `distance`.
"""

from planning.follower import FollowerConfig, SubgoalFollower
from planning.generator import SubgoalCVAE, SubgoalCVAEConfig
from planning.levels import plan_levels
from planning.memory import MemoryConfig, PlanMemory
from planning.mppi import MPPIResult, mppi
from planning.pairs import SubgoalPairs, subgoal_chains, subgoal_pairs
from planning.planner import Plan, PlannerConfig, SubgoalPlanner

__all__ = [
    "FollowerConfig",
    "MPPIResult",
    "MemoryConfig",
    "Plan",
    "PlanMemory",
    "PlannerConfig",
    "SubgoalCVAE",
    "SubgoalCVAEConfig",
    "SubgoalFollower",
    "SubgoalPairs",
    "SubgoalPlanner",
    "mppi",
    "plan_levels",
    "subgoal_chains",
    "subgoal_pairs",
]
