"""MPPI on problems whose answer is known."""

import pytest
import torch

from planning.mppi import mppi, path_weights

SIGMAS = (1.0, 0.5, 0.2, 0.1, 0.1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_weights_are_boltzmann_by_hand():
    weights = path_weights(torch.tensor([0.0, 1.0, torch.inf]), temperature=0.5)
    e = torch.tensor(-2.0).exp()
    torch.testing.assert_close(weights, torch.stack([1 / (1 + e), e / (1 + e), torch.tensor(0.0)]))
    assert torch.equal(path_weights(torch.full((4,), torch.inf), 0.1), torch.full((4,), 0.25))


def test_convex_quadratic_reaches_the_known_optimum():
    g = seeded()
    root = torch.randn(6, 6, generator=g)
    hessian = root @ root.T / 6 + torch.eye(6)
    optimum = torch.randn(3, 2, generator=g)

    def cost(x):
        error = (x - optimum).flatten(-2)
        return torch.einsum("...i,ij,...j->...", error, hessian, error)

    sigmas = (*SIGMAS, 0.05, 0.05, 0.02, 0.02, 0.01)
    found = mppi(cost, torch.randn(1024, 3, 2, generator=g), sigmas, 0.05, g)
    assert (found.best - optimum).abs().max() < 0.05
    assert found.cost < 0.01
    assert (found.history.diff(dim=0) <= 0).all() and found.history.shape == (11,)


def test_two_modes_never_ends_between_them():
    """Wells at -1 (cost 0) and +1 (cost 0.05), a ridge between: the weighted mean alone would sit near the ridge."""

    def cost(x):
        x = x[..., 0, 0]
        return 4 * (x.square() - 1).square() + 0.025 * (x + 1)

    for seed in range(5):
        g = seeded(seed)
        found = mppi(cost, torch.randn(512, 1, 1, generator=g), SIGMAS, 0.1, g)
        assert abs(found.best.item() + 1) < 0.1


def test_problems_in_a_batch_do_not_touch_each_other():
    targets = torch.tensor([[-2.0], [0.5], [1.5]])

    def cost(x):  # (p, n, 1, 1) -> (p, n)
        return (x[..., 0, 0] - targets).square()

    g = seeded()
    found = mppi(cost, torch.randn(3, 400, 1, 1, generator=g), SIGMAS, 0.1, g)
    assert found.best.shape == (3, 1, 1) and found.cost.shape == (3,) and found.history.shape == (6, 3)
    torch.testing.assert_close(found.best[:, 0], targets, atol=0.05, rtol=0)


def test_without_refinements_it_is_random_shooting():
    draw = torch.randn(64, 2, 3, generator=seeded())
    found = mppi(lambda x: x.square().sum((-1, -2)), draw, (), 0.1)
    assert torch.equal(found.best, draw[draw.square().sum((-1, -2)).argmin()])


def test_same_seed_same_plan_and_bad_numbers_are_refused():
    draw = torch.randn(32, 2, 2, generator=seeded())
    runs = [mppi(lambda x: x.norm(dim=(-1, -2)), draw.clone(), SIGMAS, 0.1, seeded(3)).best for _ in range(2)]
    assert torch.equal(*runs)
    with pytest.raises(ValueError, match="temperature"):
        mppi(lambda x: x.sum((-1, -2)), draw, SIGMAS, 0.0)
