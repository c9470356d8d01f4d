"""The mathematics the agents share: pure functions, tested against hand-worked numbers."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def expectile_loss(difference: Float[Tensor, "*s"], expectile: float) -> Float[Tensor, ""]:
    """mean |expectile - 1(u < 0)| u^2 for u = target - prediction (IQL, eq. 5; seed 003, eq. 47).

    Minimised by the `expectile`-expectile of the target, expectile in (0, 1); 0.5 is half the mean squared error.
    """
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return (weight * difference.square()).mean()


def exp_weights(advantage: Float[Tensor, " B"], temperature: float, maximum: float = 100.0) -> Float[Tensor, " B"]:
    """min(exp(A * temperature), maximum): the temperature *multiplies* (IQL, eq. 7; errata, Agents). Detached."""
    return (advantage.detach() * temperature).exp().clamp(max=maximum)


def softmax_weights(advantage: Float[Tensor, " B"], temperature: float) -> Float[Tensor, " B"]:
    """B * softmax(A * temperature) over the batch: mean 1, and no scale to clip (AWAC's released code). Detached."""
    return torch.softmax(advantage.detach() * temperature, 0) * advantage.shape[0]


def td_target(
    reward: Float[Tensor, " B"],
    discount: Float[Tensor, " B"],
    next_value: Float[Tensor, " B"],
    gamma: float,
    clip: bool = False,
) -> Float[Tensor, " B"]:
    """r + gamma * discount * V(s'), detached; `discount` in {0, 1} is 0 at true terminals only.

    With `clip`, clamped to [-1 / (1 - gamma), 0]: the range of returns of rewards in [-1, 0] (HER, sec. 4.3).
    """
    target = torch.addcmul(reward, discount, next_value, value=gamma).detach()
    return target.clamp(-1.0 / (1.0 - gamma), 0.0) if clip else target


def gaussian_log_prob(
    action: Float[Tensor, "*s a"], mean: Float[Tensor, "*s a"], std: Float[Tensor, " a"]
) -> Float[Tensor, "*s"]:
    """log N(action | mean, diag std^2), summed over the action's dimensions, in nats."""
    log_normaliser = std.log() + 0.9189385332046727  # + log sqrt(2 pi)
    return -(0.5 * ((action - mean) / std).square() + log_normaliser).sum(-1)


def q_scale(q: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """1 / mean |Q|, detached: makes a policy loss -Q independent of the reward's scale (TD3+BC, eq. 5)."""
    return 1.0 / q.detach().abs().mean().clamp(min=1e-6)


@torch.no_grad()
def polyak(targets: Iterable[Tensor], sources: Iterable[Tensor], tau: float) -> None:
    """target <- (1 - tau) * target + tau * source, in place, as one fused lerp."""
    torch._foreach_lerp_(list(targets), list(sources), tau)
