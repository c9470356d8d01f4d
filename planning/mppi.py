"""Model predictive path integral control (MPPI) over sequences of latent codes, batched over problems.

Williams et al., "Information theoretic MPC" (2017); used by PTP (Fang et al., 2022) to choose subgoal sequences. The
procedure is PTP's: one draw from the prior, then refinements around the softmax-weighted mean with a falling sigma; the
answer is the best *sample*, never the mean (between two modes the mean can be worse than either).

Shapes: `*p` any number of problem dimensions (none for a single problem), n samples, k steps, d numbers per step.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Cost = Callable[[Float[Tensor, "*p n k d"]], Float[Tensor, "*p n"]]
Propose = Callable[[Tensor, Tensor, Tensor], Tensor]  # samples (*p, n, k, d), their costs (*p, n) and noise like the samples -> other samples


class MPPIResult(NamedTuple):
    """The best sequence found, its cost, and the best cost so far after every round (it never rises)."""

    best: Float[Tensor, "*p k d"]
    cost: Float[Tensor, "*p"]
    history: Float[Tensor, "rounds *p"]


def path_weights(cost: Float[Tensor, "*p n"], temperature: float) -> Float[Tensor, "*p n"]:
    """Boltzmann weights exp(-cost / temperature), normalised over the samples. Low temperature: only the best count.

    An infinite cost weighs nothing; if every cost is infinite the weights are equal.
    """
    cheapest = cost.amin(-1, keepdim=True)
    relative = torch.where(torch.isfinite(cheapest), cost - cheapest, 0.0)
    return torch.softmax(-relative / temperature, dim=-1)


def mppi(
    cost: Cost,
    initial: Float[Tensor, "*p n k d"],
    sigmas: Sequence[float],
    temperature: float,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "rounds *p n k d"] | None = None,
) -> MPPIResult:
    """Minimise `cost` from a cloud of initial samples; one refinement per entry of `sigmas`.

    `initial` is the prior draw (and whatever better guesses the caller mixed in). `temperature` is in units of cost, > 0.
    The best sample so far takes part in every weighting, so the search does not forget it. With `sigmas=()` this is random
    shooting. Raises ValueError for a temperature that is not positive or a negative sigma. `generator` lives on the
    device of `initial`, and gives the `noise` unless that has been drawn before (`draws`).
    """
    if temperature <= 0 or any(sigma < 0 for sigma in sigmas):
        raise ValueError(f"mppi needs temperature > 0 and sigmas >= 0, got temperature={temperature}, sigmas={sigmas}")

    def around(sigma: float) -> Propose:
        def propose(samples: Tensor, costs: Tensor, noise: Tensor) -> Tensor:
            weights = path_weights(costs, temperature)
            mean = torch.einsum("...n,...nkd->...kd", weights, samples).unsqueeze(-3)  # (*p, 1, k, d)
            return mean + sigma * noise

        return propose

    return refine(cost, initial, [around(sigma) for sigma in sigmas], draws(initial, len(sigmas), generator) if noise is None else noise)


def shooting(
    cost: Cost, initial: Float[Tensor, "*p n k d"], rounds: int, generator: torch.Generator | None = None, noise: Float[Tensor, "rounds *p n k d"] | None = None
) -> MPPIResult:
    """The best of the initial samples and of `rounds` more draws of as many from N(0, I)."""
    return refine(cost, initial, [lambda samples, costs, noise: noise.clone()] * rounds, draws(initial, rounds, generator) if noise is None else noise)


def refine(cost: Cost, initial: Float[Tensor, "*p n k d"], proposals: Sequence[Propose], noise: Float[Tensor, "rounds *p n k d"]) -> MPPIResult:
    """The loop of all searches: a round for each proposal, (samples, costs, noise) -> new samples, of which the first gives way to the best so far."""
    samples, costs = initial, cost(initial)
    best, best_cost = best_sample(samples, costs)
    history = [best_cost]
    for propose, drawn in zip(proposals, noise, strict=True):
        samples = propose(samples, costs, drawn)
        samples[..., 0, :, :] = best
        costs = cost(samples)
        best, best_cost = best_sample(samples, costs)
        history.append(best_cost)
    return MPPIResult(best, best_cost, torch.stack(history))


def draws(samples: Float[Tensor, "*p n k d"], rounds: int, generator: torch.Generator | None) -> Float[Tensor, "rounds *p n k d"]:
    """Standard normal noise like the samples for so many rounds, drawn one after the other."""
    noise = samples.new_empty(rounds, *samples.shape)
    for one in noise:
        one.normal_(generator=generator)
    return noise


def best_sample(
    samples: Float[Tensor, "*p n k d"], costs: Float[Tensor, "*p n"]
) -> tuple[Float[Tensor, "*p k d"], Float[Tensor, "*p"]]:
    """The cheapest sample of each problem, and its cost."""
    cheapest, index = costs.min(dim=-1)
    where = index[..., None, None, None].expand(*index.shape, 1, *samples.shape[-2:])
    return samples.gather(-3, where).squeeze(-3), cheapest
