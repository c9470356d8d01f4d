"""Following a plan: which subgoal the policy is given, and when to go on to the next (PTP, Algorithm 8).

With the errata: the policy is given the *current* subgoal, and the switch tests the distance to that subgoal (the paper
prints the last one). There is no replanning, and the final subgoal, the goal itself, is kept until the episode ends.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class FollowerConfig:
    """When a subgoal is left."""

    epsilon: float = 2.0  # latent distance under which a subgoal counts as reached (calibrate it, as the reward's)
    max_steps: int = 30  # environment steps after which the next subgoal is taken anyway


def euclidean(z: Float[Tensor, "B z"], goal: Float[Tensor, "B z"]) -> Float[Tensor, "B"]:
    """Latent distance, the default of planner and follower."""
    return (z - goal).norm(dim=-1)


class SubgoalFollower:
    """Holds one plan per episode of a batch and says what each episode's policy should aim at now.

    follower = SubgoalFollower(planner.plan(z, goal).subgoals, FollowerConfig(epsilon, 30))
    while running: action = agent.act(obs, follower.goal()); ...; follower.observe(z_next)
    """

    def __init__(
        self,
        subgoals: Float[Tensor, "B K z"],
        config: FollowerConfig,
        distance: Callable[[Tensor, Tensor], Tensor] = euclidean,
    ):
        """`distance` maps two (B, z) to (B,). Raises ValueError for an empty plan or max_steps < 1."""
        if subgoals.shape[1] == 0 or config.max_steps < 1:
            raise ValueError(
                f"need at least one subgoal and max_steps >= 1, got {subgoals.shape[1]}, {config.max_steps}"
            )
        self.subgoals, self.config, self.distance = subgoals, config, distance
        batch = subgoals.shape[0]
        self.index = torch.zeros(batch, dtype=torch.int64, device=subgoals.device)  # (B,) position in the plan
        self.elapsed = torch.zeros_like(self.index)  # (B,) steps spent on the current subgoal
        self.followed: list[Int[Tensor, B]] = []  # the position in every step so far

    def goal(self) -> Float[Tensor, "B z"]:
        """The current subgoal of every episode."""
        return self.subgoals[torch.arange(len(self.index), device=self.index.device), self.index]

    def observe(self, z: Float[Tensor, "B z"]) -> Bool[Tensor, "B"]:
        """Take in the latents seen after one step; True where an episode went on to its next subgoal.

        One subgoal per step at most. The last subgoal is never left.
        """
        self.followed.append(self.index)
        self.elapsed += 1
        leave = (self.distance(z, self.goal()) < self.config.epsilon) | (self.elapsed >= self.config.max_steps)
        switched = leave & (self.index < self.subgoals.shape[1] - 1)
        self.index = self.index + switched
        self.elapsed = torch.where(switched, 0, self.elapsed)
        return switched
