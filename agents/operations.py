"""The mathematics the agents share: pure functions, tested against hand-worked numbers."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


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
    action: Float[Tensor, "*s a"], mean: Float[Tensor, "*#s a"], std: Float[Tensor, "*#s a"]
) -> Float[Tensor, "*s"]:
    """log N(action | mean, diag std^2), summed over the action's dimensions, in nats."""
    log_normaliser = std.log() + 0.9189385332046727  # + log sqrt(2 pi)
    return -(0.5 * ((action - mean) / std).square() + log_normaliser).sum(-1)


def unsquash(action: Float[Tensor, "*s a"], edge: float = 1e-6) -> Float[Tensor, "*s a"]:
    """The inverse of tanh, of actions clamped to +-(1 - edge)."""
    return torch.atanh(action.clamp(edge - 1.0, 1.0 - edge))


def squashed_log_prob(
    raw: Float[Tensor, "*s a"], mean: Float[Tensor, "*#s a"], std: Float[Tensor, "*#s a"]
) -> Float[Tensor, "*s"]:
    """log density of tanh(raw) for raw ~ N(mean, diag std^2), in nats (Haarnoja et al. 2018, eq. 21).

    log(1 - tanh(x)^2) as 2 (log 2 - x - softplus(-2 x)), which does not overflow.
    """
    squash = 2.0 * (0.6931471805599453 - raw - F.softplus(-2.0 * raw))
    return gaussian_log_prob(raw, mean, std) - squash.sum(-1)


def mmd_squared(
    x: Float[Tensor, "n B a"], y: Float[Tensor, "m B a"], kernel: str = "laplacian", width: float = 20.0
) -> Float[Tensor, " B"]:
    """Squared maximum mean discrepancy between samples, for each state (BEAR; Kumar et al. 2019); n and m are at least 2.

    Kernel laplacian: exp(-|x - y|_1 / width), gaussian: exp(-|x - y|_2^2 / (2 width)). Unbiased: 0 on average for equal
    distributions, so it can be below 0. The released code has the biased form, whose least value at 5 samples is above its threshold.
    """

    def mean_kernel(a: Tensor, b: Tensor, same: bool) -> Tensor:
        difference = a[:, None] - b[None]
        size = difference.abs().sum(-1) / width if kernel == "laplacian" else difference.square().sum(-1) / (2.0 * width)
        total = (-size).exp().sum((0, 1))
        return (total - len(a)) / (len(a) * (len(a) - 1)) if same else total / (len(a) * len(b))

    if kernel not in ("laplacian", "gaussian") or min(len(x), len(y)) < 2:
        raise ValueError(f"mmd: kernel {kernel!r} must be laplacian or gaussian, and there must be 2 samples of each at least")
    return mean_kernel(x, x, True) - 2.0 * mean_kernel(x, y, False) + mean_kernel(y, y, True)


def lambda_returns(
    reward: Float[Tensor, "B n"],
    discount: Float[Tensor, "B n"],
    next_value: Float[Tensor, "B n"],
    valid: Bool[Tensor, "B n"],
    gamma: float,
    decay: float,
) -> Float[Tensor, "B n"]:
    """TD(lambda) returns of snippets: R_t = r_t + gamma d_t ((1 - decay) V(s_t+1) + decay R_t+1); the last valid one has V alone.

    What it gives where `valid` is False means nothing.
    """
    out, after = torch.empty_like(reward), next_value[:, -1]
    for t in reversed(range(reward.shape[1])):
        out[:, t] = reward[:, t] + gamma * discount[:, t] * torch.lerp(next_value[:, t], after, decay)
        after = torch.where(valid[:, t], out[:, t], next_value[:, t - 1])
    return out


def soft_minimum(q: Float[Tensor, "E n B"], share: float) -> Float[Tensor, " B"]:
    """max over n actions of share * min + (1 - share) * max over the E critics (BCQ; BEAR): less pessimistic than the minimum."""
    return (share * q.amin(0) + (1.0 - share) * q.amax(0)).amax(0)


def q_scale(q: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """1 / mean |Q|, detached: makes a policy loss -Q independent of the reward's scale (TD3+BC, eq. 5)."""
    return 1.0 / q.detach().abs().mean().clamp(min=1e-6)


@torch.no_grad()
def polyak(targets: Iterable[Tensor], sources: Iterable[Tensor], tau: float) -> None:
    """target <- (1 - tau) * target + tau * source, in place, as one fused lerp."""
    torch._foreach_lerp_(list(targets), list(sources), tau)
