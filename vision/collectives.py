"""Sums and copies across the processes of a data-parallel run; in a run of one process they change nothing.

For what a model updates outside the gradient (`after_step`), which must stay equal in every process.
"""

import torch
from torch import Tensor


def processes() -> int:
    """How many processes train together, 1 where there is no such group."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def all_sum(x: Tensor) -> Tensor:
    """The sum of x over the processes, in place. Every process must call it, in the same order."""
    if processes() > 1:
        torch.distributed.all_reduce(x)
    return x


def from_first(x: Tensor, group: "torch.distributed.ProcessGroup | None" = None) -> Tensor:
    """The x of the first process, in place. Every process must call it, in the same order."""
    if processes() > 1:
        torch.distributed.broadcast(x, src=0, group=group)
    return x
