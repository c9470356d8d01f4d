"""The cross-entropy method (CEM) over sequences of latent codes, batched over problems: MPPI's rival in the planner's comparisons.

Rubinstein and Kroese, "The Cross-Entropy Method" (2004): draw from a Gaussian, keep the elite, fit the Gaussian to them, draw again. The answer is the best
sample. Shapes as in `planning.mppi`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from planning.mppi import Cost, MPPIResult, best_sample


def cem(
    cost: Cost,
    initial: Float[Tensor, "*p n k d"],
    rounds: int,
    elite: float = 0.1,
    floor: float = 0.05,
    generator: torch.Generator | None = None,
) -> MPPIResult:
    """Minimise `cost` from a cloud of initial samples by so many rounds of fitting a diagonal Gaussian, of std >= floor, to the share `elite` of them.

    The best sample so far takes part in every round. Raises ValueError for rounds < 0, an elite share outside (0, 1] or floor < 0. `generator` lives on the
    device of `initial`.
    """
    if rounds < 0 or not 0 < elite <= 1 or floor < 0:
        raise ValueError(f"cem needs rounds >= 0, 0 < elite <= 1 and floor >= 0, got rounds={rounds}, elite={elite}, floor={floor}")
    samples, costs = initial, cost(initial)
    best, best_cost = best_sample(samples, costs)
    history = [best_cost]
    count = max(1, round(elite * samples.shape[-3]))
    for _ in range(rounds):
        index = costs.topk(count, dim=-1, largest=False).indices
        chosen = samples.gather(-3, index[..., None, None].expand(*index.shape, *samples.shape[-2:]))
        mean = chosen.mean(-3, keepdim=True)
        std = chosen.std(-3, keepdim=True, unbiased=False).clamp_min(floor)
        noise = torch.randn(samples.shape, generator=generator, device=samples.device, dtype=samples.dtype)
        samples = mean + std * noise
        samples[..., 0, :, :] = best
        costs = cost(samples)
        best, best_cost = best_sample(samples, costs)
        history.append(best_cost)
    return MPPIResult(best, best_cost, torch.stack(history))
