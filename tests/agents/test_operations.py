"""The agents' shared mathematics against hand-worked numbers and known optima."""

import math

import pytest
import torch
from torch.distributions import Normal

from agents.operations import (
    exp_weights,
    expectile_loss,
    gaussian_log_prob,
    lambda_returns,
    mmd_squared,
    polyak,
    q_scale,
    soft_minimum,
    softmax_weights,
    squashed_log_prob,
    td_target,
    unsquash,
)


def test_expectile_loss_by_hand() -> None:
    # u = 2 -> 0.9 * 4; u = -3 -> 0.1 * 9; u = 0 -> 0
    assert expectile_loss(torch.tensor([2.0, -3.0, 0.0]), 0.9).item() == pytest.approx((3.6 + 0.9) / 3)
    assert expectile_loss(torch.tensor([2.0, -3.0]), 0.5).item() == pytest.approx(0.25 * (4 + 9))


@pytest.mark.parametrize("tau", [0.5, 0.7, 0.9])
def test_expectile_of_the_uniform_distribution(tau: float) -> None:
    """For U(0, 1), tau (1 - m)^2 = (1 - tau) m^2, so m = sqrt(tau) / (sqrt(tau) + sqrt(1 - tau))."""
    x = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    m = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([m], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = expectile_loss(x - m, tau)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert m.item() == pytest.approx(math.sqrt(tau) / (math.sqrt(tau) + math.sqrt(1 - tau)), abs=1e-4)


def test_weights_by_hand() -> None:
    advantage = torch.tensor([0.0, math.log(2.0) / 3, 10.0], requires_grad=True)
    weights = exp_weights(advantage, 3.0, 100.0)  # the temperature multiplies; the clip comes after the exp
    assert weights.tolist() == pytest.approx([1.0, 2.0, 100.0])
    assert not weights.requires_grad
    soft = softmax_weights(torch.tensor([0.0, math.log(3.0)]), 1.0)
    assert soft.tolist() == pytest.approx([2 * 0.25, 2 * 0.75])
    assert softmax_weights(torch.randn(64), 5.0).mean().item() == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(softmax_weights(torch.randn(8) + 1e4, 1.0).sum(), torch.tensor(8.0))  # no overflow


def test_td_target_by_hand() -> None:
    reward, discount = torch.tensor([-1.0, 0.0, -1.0]), torch.tensor([1.0, 0.0, 1.0])
    value = torch.tensor([-2.0, -5.0, -100.0], requires_grad=True)
    target = td_target(reward, discount, value, 0.9)
    assert target.tolist() == pytest.approx([-2.8, 0.0, -91.0])
    assert not target.requires_grad
    assert td_target(reward, discount, value, 0.9, clip=True).tolist() == pytest.approx([-2.8, 0.0, -10.0])
    assert td_target(reward, discount, -value, 0.9, clip=True).tolist() == pytest.approx([0.0, 0.0, 0.0])


def test_polyak_moves_the_target_in_place() -> None:
    targets, sources = [torch.zeros(2), torch.ones(1)], [torch.ones(2), torch.full((1,), 3.0)]
    polyak(targets, sources, 0.25)
    assert targets[0].tolist() == [0.25, 0.25] and targets[1].tolist() == [1.5]
    assert sources[0].tolist() == [1.0, 1.0]


def test_gaussian_log_prob_is_torchs() -> None:
    mean, action, std = torch.randn(5, 3), torch.randn(5, 3), torch.rand(3) + 0.1
    expected = torch.distributions.Normal(mean, std).log_prob(action).sum(-1)
    assert torch.allclose(gaussian_log_prob(action, mean, std), expected, atol=1e-5)


def test_q_scale_normalises_the_mean_magnitude() -> None:
    q = torch.tensor([-4.0, 2.0], requires_grad=True)
    assert (q * q_scale(q)).abs().mean().item() == pytest.approx(1.0)
    assert not q_scale(q).requires_grad and torch.isfinite(q_scale(torch.zeros(3)))


def test_squashed_densities_integrate_to_one_and_match_a_histogram() -> None:
    """Over (-1, 1) the density's integral is 1 and its mean is E tanh(x), by a fine sum."""
    mean, std = torch.tensor([0.4], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    raw = torch.linspace(-9, 9, 200_001, dtype=torch.float64)[:, None]
    action = torch.tanh(raw)[:, 0]
    density = squashed_log_prob(raw, mean, std).exp()
    assert torch.trapezoid(density, action).item() == pytest.approx(1.0, abs=1e-5)
    exact = torch.trapezoid(Normal(mean, std).log_prob(raw)[:, 0].exp() * action, raw[:, 0])
    assert torch.trapezoid(density * action, action).item() == pytest.approx(exact.item(), abs=1e-5)
    assert torch.isfinite(squashed_log_prob(torch.tensor([[60.0], [-60.0]]), torch.zeros(1), torch.ones(1))).all()
    assert unsquash(torch.tensor([1.0, -1.0, 0.5]))[2] == pytest.approx(0.5493, abs=1e-4)
    assert torch.isfinite(unsquash(torch.tensor([1.0, -1.0]))).all()


def test_mmd_by_hand() -> None:
    """Samples {0, 1} and {2, 3}, laplacian of width 1: within e^-1, across (e^-2 + e^-3 + e^-1 + e^-2) / 4."""
    x, y = torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[2.0]], [[3.0]]])
    across = (2 * math.exp(-2) + math.exp(-3) + math.exp(-1)) / 4
    assert mmd_squared(x, y, "laplacian", 1.0).item() == pytest.approx(2 * math.exp(-1) - 2 * across, abs=1e-6)
    across = (2 * math.exp(-1) + math.exp(-9 / 4) + math.exp(-1 / 4)) / 4
    assert mmd_squared(x, y, "gaussian", 2.0).item() == pytest.approx(2 * math.exp(-1 / 4) - 2 * across, abs=1e-6)
    g = torch.Generator().manual_seed(0)
    same = mmd_squared(torch.rand(5, 4000, 2, generator=g), torch.rand(4, 4000, 2, generator=g), "laplacian", 1.0)
    assert abs(same.mean()) < 4 * same.std() / 4000**0.5  # unbiased
    with pytest.raises(ValueError, match="laplacian or gaussian"):
        mmd_squared(x, y, "cosine")


def test_lambda_returns_by_hand() -> None:
    """gamma .5, lambda .5: from the end, 3 + .5 * 8 = 7; 2 + .5 (.5 * 4 + .5 * 7) = 4.75; 1 + .5 (.5 * 2 + .5 * 4.75) = 2.6875."""
    reward, value = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 4.0, 8.0]])
    ones, whole = torch.ones(1, 3), torch.ones(1, 3, dtype=torch.bool)
    assert lambda_returns(reward, ones, value, whole, 0.5, 0.5)[0].tolist() == pytest.approx([2.6875, 4.75, 7.0])
    # cut short after two: the second has V alone, 2 + .5 * 4 = 4; the first 1 + .5 (.5 * 2 + .5 * 4)
    short = lambda_returns(reward, ones, value, torch.tensor([[True, True, False]]), 0.5, 0.5)[0, :2]
    assert short.tolist() == pytest.approx([2.5, 4.0])
    # a true end after the first: nothing after it counts
    assert lambda_returns(reward, torch.tensor([[0.0, 1.0, 1.0]]), value, whole, 0.5, 0.5)[0, 0] == 1.0


def test_soft_minimum_by_hand() -> None:
    """Two critics, two actions: .75 * min + .25 * max is 1.5 and 2.25, of which the larger."""
    q = torch.tensor([[[1.0], [2.0]], [[3.0], [3.0]]])
    assert soft_minimum(q, 0.75).tolist() == [2.25] and soft_minimum(q, 1.0).tolist() == [2.0]
