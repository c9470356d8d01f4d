"""The batch that crosses from goals to agents."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Batch(NamedTuple):
    """B relabeled transitions as contiguous float32 tensors on one device.

    `obs` and `next_obs` are [latent z | proprio], `goal` is a latent (of no numbers, where there is one task). `discount` is the
    continuation factor in {0, 1}: an agent multiplies it by gamma. It is 0 only at true terminals, never at a time limit.
    `task` is the scene or task of the episode, `demo` whether it is a demonstration.
    """

    obs: Float[Tensor, "B o"]
    action: Float[Tensor, "B a"]
    reward: Float[Tensor, " B"]
    discount: Float[Tensor, " B"]
    next_obs: Float[Tensor, "B o"]
    goal: Float[Tensor, "B z"]
    task: Int[Tensor, " B"]
    demo: Bool[Tensor, " B"]

    @classmethod
    def of(
        cls, obs: Tensor, action: Tensor, reward: Tensor, discount: Tensor, next_obs: Tensor, goal: Tensor
    ) -> "Batch":
        """Transitions of one task, none of them a demonstration."""
        task = torch.zeros(len(obs), dtype=torch.int64, device=obs.device)
        return cls(obs, action, reward, discount, next_obs, goal, task, task.bool())

    def part(self, start: int, stop: int) -> "Batch":
        """Rows [start, stop) as views of the same memory."""
        return Batch(*(column[start:stop] for column in self))

    def clone(self) -> "Batch":
        """A copy that outlives the sampler's next call."""
        return Batch(*(column.clone() for column in self))

    def to(self, device: str | torch.device) -> "Batch":
        """The batch on another device."""
        return Batch(*(column.to(device, non_blocking=True) for column in self))


class Snippet(NamedTuple):
    """B pieces of n transitions in a row, each relabeled with one goal: what n-step returns and next actions are made of.

    A piece that its episode's end cuts short repeats the final observation: `valid` is False from there on, rewards are 0.
    """

    obs: Float[Tensor, "B n_1 o"]  # n + 1 in a row
    action: Float[Tensor, "B n a"]
    reward: Float[Tensor, "B n"]
    discount: Float[Tensor, "B n"]  # as in Batch
    valid: Bool[Tensor, "B n"]  # the first always is
    goal: Float[Tensor, "B z"]
    task: Int[Tensor, " B"]
    demo: Bool[Tensor, " B"]

    def first(self) -> Batch:
        """The first transition of each."""
        step = self.obs[:, 0], self.action[:, 0], self.reward[:, 0], self.discount[:, 0], self.obs[:, 1]
        return Batch(*step, self.goal, self.task, self.demo)


def empty_batch(size: int, obs_dim: int, action_dim: int, goal_dim: int, device: str | torch.device = "cpu") -> Batch:
    """An uninitialised batch of `size` rows, for a sampler to write into."""
    return Batch(
        obs=torch.empty(size, obs_dim, device=device),
        action=torch.empty(size, action_dim, device=device),
        reward=torch.empty(size, device=device),
        discount=torch.empty(size, device=device),
        next_obs=torch.empty(size, obs_dim, device=device),
        goal=torch.empty(size, goal_dim, device=device),
        task=torch.empty(size, dtype=torch.int64, device=device),
        demo=torch.empty(size, dtype=torch.bool, device=device),
    )
