"""Skew-Fit's weights by hand, and the paper's claim: rounds of skewing lead to the uniform distribution."""

import math

import pytest
import torch

from goals.replay import Replay
from goals.skew_fit import SkewedGoals, SkewFit, effective_size, importance_log_prob, skew_weights


def test_weights_by_hand() -> None:
    log_p = torch.tensor([0.5, 0.3, 0.2]).log()
    assert skew_weights(log_p, 0.0).tolist() == pytest.approx([1 / 3] * 3)
    inverse = [1 / 0.5, 1 / 0.3, 1 / 0.2]
    assert skew_weights(log_p, -1.0).tolist() == pytest.approx([w / sum(inverse) for w in inverse])
    root = [0.5**-0.5, 0.3**-0.5, 0.2**-0.5]
    assert skew_weights(log_p, -0.5).tolist() == pytest.approx([w / sum(root) for w in root])
    shifted = skew_weights(log_p - 5000.0, -0.5)  # densities of pictures: no overflow, and only differences count
    assert shifted.tolist() == pytest.approx(skew_weights(log_p, -0.5).tolist(), rel=1e-3)
    assert effective_size(torch.full((8,), 1 / 8)) == pytest.approx(8.0)
    assert effective_size(torch.tensor([1.0, 0.0])) == pytest.approx(1.0)


def test_importance_sampling_is_exact_for_the_true_posterior_and_by_hand() -> None:
    two = importance_log_prob(
        torch.tensor([[0.2], [0.4]]).log(), torch.tensor([[0.5], [0.25]]).log(), torch.tensor([[1.0], [0.5]]).log()
    )
    assert two.exp().item() == pytest.approx((0.1 + 0.2) / 2)

    # z ~ N(0, 1), x | z ~ N(z, .5^2): x ~ N(0, 1.25), z | x ~ N(.8 x, .2); every sample gives p(x), whatever z
    def log_normal(x: torch.Tensor, mean: torch.Tensor | float, variance: float) -> torch.Tensor:
        return -0.5 * ((x - mean).square() / variance + math.log(2 * math.pi * variance))

    x = torch.tensor([-1.0, 0.3, 2.0])
    z = 0.8 * x + 0.2**0.5 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    estimate = importance_log_prob(
        log_normal(x.expand(7, 3), z, 0.25), log_normal(z, 0.0, 1.0), log_normal(z, 0.8 * x, 0.2)
    )
    assert torch.allclose(estimate, log_normal(x, 0.0, 1.25), atol=1e-5)


@pytest.mark.parametrize("alpha", [-1.0, -0.5, -0.25])
def test_repeated_skewing_converges_to_uniform(alpha: float) -> None:
    """States are drawn from p, weighted by p^alpha, and refitted: p' ~ p^(1 + alpha), so the entropy grows to log 5."""
    p = torch.tensor([0.8, 0.1, 0.05, 0.04, 0.01])
    g = torch.Generator().manual_seed(0)
    entropies = []
    for _ in range(25):
        states = torch.multinomial(p, 20_000, replacement=True, generator=g)  # the replay
        drawn = states[SkewFit(p.log()[states], alpha).rows(20_000, g)]
        refitted = torch.bincount(drawn, minlength=5) / 20_000
        expected = p ** (1 + alpha) / (p ** (1 + alpha)).sum()
        assert torch.allclose(refitted, expected, atol=0.03)
        p = refitted
        entropies.append(float(-(p * p.log()).sum()))
    assert entropies[-1] == pytest.approx(math.log(5), abs=0.01) and entropies[0] > 0.76


def test_rows_and_goals_are_drawn_by_weight_from_the_rows_given() -> None:
    replay = Replay(20, 2, 0, 1)
    replay.add_episode(torch.arange(20.0).view(10, 2), torch.zeros(10, 0), torch.zeros(9, 1))
    skew = SkewFit(torch.tensor([0.75, 0.25]).log(), -1.0, torch.tensor([3, 7]))
    rows = skew.rows(8000, torch.Generator().manual_seed(0))
    assert set(rows.tolist()) == {3, 7} and (rows == 7).float().mean().item() == pytest.approx(0.75, abs=0.02)
    goals = SkewedGoals(replay, skew)(torch.zeros(50, 2), torch.Generator().manual_seed(0))
    assert set(goals[:, 0].tolist()) == {6.0, 14.0}
    assert torch.equal(goals, replay.latent(skew.rows(50, torch.Generator().manual_seed(0))))


def test_what_cannot_be_weighed_is_refused() -> None:
    for alpha in (-1.1, 0.1):
        with pytest.raises(ValueError, match="alpha must lie in"):
            skew_weights(torch.zeros(3), alpha)
    with pytest.raises(ValueError, match="finite"):
        skew_weights(torch.tensor([0.0, -torch.inf]), -1.0)
    with pytest.raises(ValueError, match="at least one"):
        skew_weights(torch.zeros(0), -1.0)
    with pytest.raises(ValueError, match="3 rows, but 2"):
        SkewFit(torch.zeros(2), -1.0, torch.arange(3))
