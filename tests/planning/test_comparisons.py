"""What PTP's planner is compared with: other searches, subgoals that ask nothing of what comes before (LEAP), midpoints without search (GCP)."""

import pytest
import torch

from planning import (
    MidpointCVAE,
    PlannerConfig,
    StateVAE,
    SubgoalCVAEConfig,
    SubgoalPairs,
    SubgoalPlanner,
    cem,
    midpoints,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- searches
def test_cem_reaches_a_known_optimum_and_never_forgets_the_best():
    g, optimum = seeded(), torch.tensor([[0.7, -1.2], [0.3, 0.9]])

    def cost(x):
        return (x - optimum).square().sum((-1, -2))

    found = cem(cost, torch.randn(5, 512, 2, 2, generator=g), 12, floor=0.01, generator=g)
    assert found.best.shape == (5, 2, 2) and (found.best - optimum).abs().max() < 0.05
    assert found.history.shape == (13, 5) and (found.history.diff(dim=0) <= 0).all()
    torch.testing.assert_close(found.cost, cost(found.best[:, None])[:, 0])


def test_the_elite_is_fitted_by_hand():
    """Of costs 0, 1, 2, 3 at places 0, 1, 2, 3 the elite half is 0 and 1: without spread the next round is all at .5."""
    seen = []

    def cost(x):
        seen.append(x.clone())
        return x[..., 0, 0]

    initial = torch.arange(4.0)[:, None, None]
    zero = seeded()
    cem(cost, initial, 1, elite=0.5, floor=0.0, generator=zero)
    assert float(seen[1][0]) == 0.0  # the best so far stays
    noise = torch.randn(4, 1, 1, generator=seeded())
    torch.testing.assert_close(seen[1][1:], (0.5 + 0.5 * noise)[1:])


@pytest.mark.parametrize("wrong", [{"rounds": -1}, {"rounds": 1, "elite": 0.0}, {"rounds": 1, "floor": -1.0}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="cem needs"):
        cem(lambda x: x.sum((-1, -2)), torch.zeros(4, 1, 1), **wrong)


def test_all_searches_look_as_often_and_refining_beats_shooting():
    """A goal that four links reach only if all go the same way: refining finds it nearer than drawing anew."""
    costs = {}
    for search in ("mppi", "cem", "shooting"):
        calls = []

        def step(z, u, calls=calls):
            calls.append(len(z))
            return z + 0.3 * torch.tanh(u)

        config = PlannerConfig(subgoals=4, latent_dim=4, samples=128, eta=0.0, prior_weight=0.0, search=search)
        planner = SubgoalPlanner(step, lambda a, b: torch.zeros(len(a)), config)
        plan = planner.plan(torch.zeros(8, 4), torch.full((8, 4), 1.0), seeded())
        costs[search] = float(plan.cost.mean())
        assert sum(calls) == 8 * 128 * 4 * 6 + 8 * 4, search  # six looks at every chain, and the answer's own
    assert costs["mppi"] < 0.6 * costs["shooting"] and costs["cem"] < 0.6 * costs["shooting"]
    with pytest.raises(ValueError, match="mppi, cem, shooting"):
        SubgoalPlanner(step, lambda a, b: a, PlannerConfig(search="genetic"))


# ---------------------------------------------------------------- LEAP and GCP
def walks(episodes=200, length=17):
    """Straight walks in the plane with equal steps, as latents of two numbers in the shape (2, 1, 1)."""
    g = seeded(1)
    first = torch.rand(episodes, 1, 2, generator=g) * 2 - 1
    step = (torch.rand(episodes, 1, 2, generator=g) * 2 - 1) / 8
    rows = (first + step * torch.arange(length)[:, None]).flatten(0, 1)
    start = torch.arange(episodes) * length
    return rows, start, start + length


CONFIG = SubgoalCVAEConfig((2, 1, 1), "mlp", latent_dim=2, hidden=64, kl_weight=0.1)


def trained(model, middle, steps=400):
    rows, start, end = walks()
    pairs = SubgoalPairs(torch.arange(len(rows))[:, None], start, end, (4, 16), lambda c: rows[c[:, 0]], middle=middle)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for k in range(steps):
        loss, metrics = model.loss(*pairs.batch(torch.arange(k * 64, (k + 1) * 64).numpy()), generator=seeded(k))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, metrics


def test_rows_of_midpoints():
    rows = midpoints(torch.tensor([0, 10]), torch.tensor([10, 13]), (4, 6), 500, seeded())
    first, middle, last = rows
    assert ((first < last) & (first <= middle) & (middle <= last)).all()
    assert torch.equal(middle, (first + last) // 2)
    assert ((first < 10) == (last < 10)).all() and (last - first).max() == 6  # in one episode


def test_midpoints_of_straight_walks_are_half_way():
    torch.manual_seed(0)
    model, metrics = trained(MidpointCVAE(CONFIG), middle=True)
    assert set(metrics) == {"loss", "reconstruction", "kl", "distance"}
    z, goal = torch.tensor([[-0.4, 0.2], [0.1, -0.3]]), torch.tensor([[0.8, 0.6], [0.7, 0.3]])
    chain = model.plan(z, goal, 2, seeded())
    assert chain.shape == (2, 4, 2) and torch.equal(chain[:, -1], goal)
    straight = torch.stack([z + (goal - z) * t for t in (0.25, 0.5, 0.75)], 1)
    assert (chain[:, :3] - straight).norm(dim=-1).max() < 0.2
    assert torch.equal(model.plan(z, goal, 0), goal[:, None])
    with pytest.raises(ValueError, match="at least 0"):
        model.plan(z, goal, -1)


def test_leap_draws_states_whatever_came_before_and_plans_with_them():
    torch.manual_seed(0)
    model, _ = trained(StateVAE(CONFIG), middle=False)
    u = torch.randn(64, 2, generator=seeded())
    assert torch.equal(model.generate(torch.zeros(64, 2), u), model.generate(torch.ones(64, 2), u))
    assert 0.3 < float(model.generate(u, u).detach().std()) < 2.0  # spread as the walks are
    config = PlannerConfig(subgoals=2, latent_dim=2, samples=256, eta=1.0)
    planner = SubgoalPlanner(model.generate, lambda a, b: -4 * (a - b).square().sum(-1), config)
    z, goal = torch.tensor([[-0.5, 0.0]]), torch.tensor([[0.9, 0.4]])
    plan = planner.plan(z, goal, seeded())
    assert (plan.subgoals[0, 0] - (z + goal)[0] / 2).norm() < 0.3  # squared steps are least when equal: the value alone ties the chain


@pytest.mark.parametrize("shape", [(5, 12, 12), (8, 6, 6)])
def test_grids(shape):
    config = SubgoalCVAEConfig(shape, "unet", channels=8, hidden=16)
    z = [torch.randn(3, shape[0] * shape[1] * shape[2], generator=seeded(i)) for i in range(3)]
    for model, batch in ((MidpointCVAE(config), z), (StateVAE(config), z[:2])):
        loss, _ = model.loss(*batch, generator=seeded())
        loss.backward()
        assert torch.isfinite(loss)
    assert MidpointCVAE(config).plan(z[0], z[1], 3).shape == (3, 8, z[0].shape[1])
