"""Terms of the evidence lower bound: how likely a picture is under a decoder's output, and how far a posterior is from its prior.

A likelihood is chosen once, by name, when a model is built. All terms are in nats and **summed** over pixels, channels and
latent numbers, one for each picture (errata: beta has no meaning without the reduction).
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LIKELIHOODS = ("gaussian", "bernoulli")


@runtime_checkable
class Likelihood(Protocol):
    """p(x | out) for pictures x in [0, 1] and a decoder's linear output."""

    def nll(self, out: Float[Tensor, "B c h w"], x: Float[Tensor, "B c h w"]) -> Float[Tensor, " B"]:
        """-log p(x | out) in nats."""
        ...

    def mean(self, out: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        """The expected picture."""
        ...

    def output(self, x: Float[Tensor, "*B c h w"]) -> Float[Tensor, "*B c h w"]:
        """The output whose expected picture is x: the inverse of `mean`."""
        ...


class Bernoulli:
    """Each intensity as a probability: -log of prod p^x (1 - p)^(1 - x), p = sigmoid(out) (RIG). For x strictly between 0 and 1 this
    is no normalised density, so its bound can be compared between models but not read as a code length."""

    def nll(self, out: Float[Tensor, "B c h w"], x: Float[Tensor, "B c h w"]) -> Float[Tensor, " B"]:
        """Cross entropy, summed over pixels and channels."""
        return F.binary_cross_entropy_with_logits(out.float(), x, reduction="none").sum((1, 2, 3))

    def mean(self, out: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        """sigmoid(out)."""
        return torch.sigmoid(out.float())

    def output(self, x: Float[Tensor, "*B c h w"]) -> Float[Tensor, "*B c h w"]:
        """log(x / (1 - x)), x kept a little away from 0 and 1."""
        return torch.logit(x, 0.01)


class Gaussian:
    """N(x; out, std^2): a density over [0, 1] intensities."""

    def __init__(self, std: float) -> None:
        self.std = std

    def nll(self, out: Float[Tensor, "B c h w"], x: Float[Tensor, "B c h w"]) -> Float[Tensor, " B"]:
        """Squared error over 2 std^2, and the normaliser."""
        constant = math.log(self.std) + 0.5 * math.log(2 * math.pi)
        return (0.5 * ((x - out.float()) / self.std).square() + constant).sum((1, 2, 3))

    def mean(self, out: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        """out itself."""
        return out.float()

    def output(self, x: Float[Tensor, "*B c h w"]) -> Float[Tensor, "*B c h w"]:
        """x itself."""
        return x


def make_likelihood(name: str, std: float) -> Likelihood:
    """The likelihood of this name. Raises ValueError for another name, or a std that is not above 0."""
    if name not in LIKELIHOODS:
        raise ValueError(f"likelihood={name!r} must be one of {', '.join(LIKELIHOODS)}")
    if std <= 0:
        raise ValueError(f"std={std} of the Gaussian likelihood must be above 0")
    return Gaussian(std) if name == "gaussian" else Bernoulli()


def gaussian_kl(mean: Float[Tensor, "B z"], log_var: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
    """KL(N(mean, exp(log_var)) || N(0, I)) (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum(1)


def standard_normal_log_prob(z: Float[Tensor, "B z"]) -> Float[Tensor, " B"]:
    """log N(z; 0, I)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)


def reparameterise(mean: Float[Tensor, "B z"], log_var: Float[Tensor, "B z"]) -> Float[Tensor, "B z"]:
    """A sample of N(mean, exp(log_var)) through which gradients flow."""
    return mean + (0.5 * log_var).exp() * torch.randn_like(mean)


def bits_per_dim(elbo: float, dims: int) -> float:
    """Bits that a bound in nats on a *density* over [0, 1] intensities allows for each of `dims` 8-bit intensities: the density is
    taken as constant over a step of 1/256."""
    return -elbo / dims / math.log(2) + 8.0
