"""Skew-Fit: goals drawn from the states seen so far, the rarer the likelier (Pong et al. 2019).

    p_skewed(x) ~ p_emp(x) p(x)^alpha,  alpha in [-1, 0)                                              eq. 3
    log p(x) ~= log mean_k p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(. | x)                            eq. 5

Weights are given to samples of the replay, that is of p_emp: alpha = -1 undoes the density altogether, alpha = 0 does nothing,
and between them every round (weigh, fit the model to the weighted states, collect with goals of that model) brings the
distribution of states nearer to uniform on what can be reached. The same weights draw the pictures a model is trained on.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from goals.replay import Replay


def importance_log_prob(
    log_likelihood: Float[Tensor, "K B"], log_prior: Float[Tensor, "K B"], log_posterior: Float[Tensor, "K B"]
) -> Float[Tensor, " B"]:
    """log mean_k p(x | z_k) p(z_k) / q(z_k | x), in nats, for K latents of each picture's posterior. Biased low for small K."""
    return torch.logsumexp(log_likelihood + log_prior - log_posterior, 0) - math.log(len(log_likelihood))


def skew_weights(log_prob: Float[Tensor, " N"], alpha: float) -> Float[Tensor, " N"]:
    """p(x)^alpha / its sum over the N states, float64. Densities of pictures span thousands of nats: only differences matter.

    Raises ValueError for alpha outside [-1, 0], no states, or a log probability that is not finite.
    """
    if not -1.0 <= alpha <= 0.0:
        raise ValueError(f"alpha must lie in [-1, 0], got {alpha}")
    if not len(log_prob) or not bool(torch.isfinite(log_prob).all()):
        raise ValueError(
            f"skew weights need finite log probabilities of at least one state, got {len(log_prob)} states"
        )
    return torch.softmax(alpha * log_prob.detach().double(), 0)


def effective_size(weights: Float[Tensor, " N"]) -> float:
    """How many equally weighted states would say as much: 1 / sum w^2, in [1, N]. Near 1, alpha is too strong."""
    return float(1.0 / weights.square().sum())


class SkewFit:
    """States of a replay with their weights, to draw from: goals, or training pictures of the latent model.

    Args: log_prob (N,) of N states under the model; alpha in [-1, 0] (the paper's pusher: -1, door: -.5); rows (N,) where the
    states are in the replay, by default 0 .. N - 1. Weigh anew when the replay or the model has moved on.
    Raises ValueError as `skew_weights`, and where rows and log_prob differ in length.
    """

    def __init__(self, log_prob: Float[Tensor, " N"], alpha: float, rows: Int[Tensor, " R"] | None = None):
        if rows is not None and rows.shape != log_prob.shape:
            raise ValueError(f"{len(rows)} rows, but {len(log_prob)} log probabilities")
        self.weights = skew_weights(log_prob, alpha)
        self._rows, self._below = rows, self.weights.cumsum(0)

    def rows(self, n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """n rows, drawn with replacement by weight."""
        u = torch.rand(n, generator=generator, device=self._below.device, dtype=torch.float64) * self._below[-1]
        index = torch.searchsorted(self._below, u, right=True).clamp_(max=len(self._below) - 1)
        return index if self._rows is None else self._rows[index]


class SkewedGoals:
    """A goal sampler (context (B, z), generator) -> (B, z): weighted states of a replay. The context only says how many.

    In scenes that differ, a goal of another scene cannot be reached: give a `skew` of this scene's rows.
    """

    def __init__(self, replay: Replay, skew: SkewFit):
        self.replay, self.skew = replay, skew

    def __call__(self, context: Float[Tensor, "B z"], generator: torch.Generator) -> Float[Tensor, "B z"]:
        return self.replay.latent(self.skew.rows(len(context), generator))
