"""The cross-entropy method (CEM) over sequences of latent codes, batched over problems: MPPI's rival in the planner's comparisons.

Rubinstein and Kroese, "The Cross-Entropy Method" (2004): draw from a Gaussian, keep the elite, fit the Gaussian to them, draw again. The answer is the best
sample. Shapes as in `planning.mppi`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from planning.mppi import Cost, MPPIResult, draws, refine


def cem(
    cost: Cost,
    initial: Float[Tensor, "*p n k d"],
    rounds: int,
    elite: float = 0.1,
    floor: float = 0.05,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "rounds *p n k d"] | None = None,
) -> MPPIResult:
    """Minimise `cost` from a cloud of initial samples by so many rounds of fitting a diagonal Gaussian, of std >= floor, to the share `elite` of them.

    The best sample so far takes part in every round. Raises ValueError for rounds < 0, an elite share outside (0, 1] or floor < 0. `generator` lives on the
    device of `initial`, and gives the `noise` unless that has been drawn before (`draws`).
    """
    if rounds < 0 or not 0 < elite <= 1 or floor < 0:
        raise ValueError(f"cem needs rounds >= 0, 0 < elite <= 1 and floor >= 0, got rounds={rounds}, elite={elite}, floor={floor}")
    count = max(1, round(elite * initial.shape[-3]))

    def propose(samples: Tensor, costs: Tensor, noise: Tensor) -> Tensor:
        index = costs.topk(count, dim=-1, largest=False).indices
        chosen = samples.gather(-3, index[..., None, None].expand(*index.shape, *samples.shape[-2:]))
        std = chosen.std(-3, keepdim=True, unbiased=False).clamp_min(floor)
        return chosen.mean(-3, keepdim=True) + std * noise

    return refine(cost, initial, [propose] * rounds, draws(initial, rounds, generator) if noise is None else noise)
