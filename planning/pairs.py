"""Training pairs and chains for subgoal generators, by index arithmetic on episode starts and ends.

PTP (Fang et al., 2022): a generator of level l learns p(z_{t+delta} | z_t) with delta drawn from [dt - tolerance, dt].
Episode e is rows [start[e], end[e]), its final observation included (the columns' convention).
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor


def subgoal_chains(
    start: Int64[Tensor, "E"],
    end: Int64[Tensor, "E"],
    delta: tuple[int, int],
    steps: int,
    batch: int,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, "links batch"]:
    """Rows (t, t + d1, t + d1 + d2, ...), `steps + 1` of them, never leaving the episode of t.

    t is uniform over all rows that have a successor; every d is uniform on the integers [delta[0], delta[1]], in steps,
    and a row past the episode's end becomes its final observation. Raises ValueError for a bad range, for steps < 1, or
    when no episode has two rows.
    """
    low, high = delta
    if not 1 <= low <= high or steps < 1:
        raise ValueError(f"need 1 <= low <= high and steps >= 1, got delta={delta}, steps={steps}")
    transitions = (end - start - 1).clamp_min(0)
    until = transitions.cumsum(0)
    total = int(until[-1]) if len(until) else 0
    if total == 0:
        raise ValueError("no episode has two rows, so there is no pair to learn from")
    device = start.device
    pick = torch.randint(total, (batch,), generator=generator, device=device)
    episode = torch.searchsorted(until, pick, right=True)
    first = start[episode] + pick - (until - transitions)[episode]
    gaps = torch.randint(low, high + 1, (steps, batch), generator=generator, device=device)
    rows = torch.cat([first[None], first + gaps.cumsum(0)])
    return torch.minimum(rows, end[episode] - 1)


def subgoal_pairs(
    start: Int64[Tensor, "E"],
    end: Int64[Tensor, "E"],
    delta: tuple[int, int],
    batch: int,
    generator: torch.Generator | None = None,
) -> tuple[Int64[Tensor, "batch"], Int64[Tensor, "batch"]]:
    """Rows (t, min(t + d, last row of the episode)), d uniform on [delta[0], delta[1]]; see `subgoal_chains`."""
    rows = subgoal_chains(start, end, delta, 1, batch, generator)
    return rows[0], rows[1]


def midpoints(
    start: Int64[Tensor, "E"], end: Int64[Tensor, "E"], delta: tuple[int, int], batch: int, generator: torch.Generator | None = None
) -> Int64[Tensor, "3 batch"]:
    """Rows (t, halfway, t + d) with d uniform on [delta[0], delta[1]], cut at the episode's end: what a predictor of midpoints learns from."""
    first, last = subgoal_pairs(start, end, delta, batch, generator)
    return torch.stack([first, (first + last) // 2, last])


class SubgoalPairs:
    """Batches (z_t, z_{t + delta}) for training a generator: codes (N, cells), turned into latents by `lookup`.

    A batch is a function of the rows asked for, which are only its seed: the same rows, as when a run resumes, give the same. With `middle` a batch is
    (z_t, halfway, z_{t + delta}); with more than one of `links` a chain of so many steps of delta.
    """

    def __init__(
        self,
        codes: Int[Tensor, "N cells"],
        start: Int64[Tensor, "E"],
        end: Int64[Tensor, "E"],
        delta: tuple[int, int],
        lookup: Callable[[Int[Tensor, "B cells"]], Float[Tensor, "B z"]],
        middle: bool = False,
        links: int = 1,
    ):
        self.codes, self.start, self.end, self.delta, self.lookup, self.middle, self.links = codes, start, end, delta, lookup, middle, links

    def __len__(self) -> int:
        return len(self.codes)

    @torch.no_grad()
    def batch(self, rows: Int[np.ndarray, "B"]) -> tuple[Tensor, ...]:
        """Latents (B, z), as many as a chain has ends: two, or more."""
        seed = int(np.random.SeedSequence(rows.tolist()).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        if self.middle:
            drawn = midpoints(self.start, self.end, self.delta, len(rows), generator)
        else:
            drawn = subgoal_chains(self.start, self.end, self.delta, self.links, len(rows), generator)
        return tuple(self.lookup(self.codes[at].long()) for at in drawn)
