"""Rewards by hand, and thresholds from data."""

import pytest
import torch

from goals.replay import Replay
from goals.rewards import (
    ChangedCellsReward,
    DenseReward,
    LogProbReward,
    MahalanobisReward,
    PixelReward,
    RewardConfig,
    SparseReward,
    calibrate_epsilon,
    euclidean,
    inverse_variance,
    lag_distances,
    make_reward,
    mean_precision,
)
from goals.samplers import FixedGoals, PriorGoals, ReplayGoals, pick_novel


def walk(speed: float = 0.5, rows: int = 50) -> Replay:
    """Two episodes that move `speed` per step along the first of two latent dimensions."""
    replay = Replay(200, 2, 0, 1)
    for scene in range(2):
        states = torch.stack([speed * torch.arange(rows), torch.full((rows,), float(scene))], 1)
        replay.add_episode(states, torch.zeros(rows, 0), torch.zeros(rows, 1), scene=scene)
    return replay


def test_sparse_is_success_minus_one() -> None:
    nxt, goal = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.1]]), torch.zeros(3, 2)
    assert SparseReward(5.0)(nxt, goal).tolist() == [0.0, 0.0, -1.0]


@pytest.mark.parametrize("far", [0.0, 0.1, 0.9, 1.0])
def test_sparse_of_many_numbers_is_the_plain_comparison(far: float) -> None:
    """Where little, some, much or all of a batch is far at the first look, also right at the threshold, and with numbers that are none."""
    g = torch.Generator().manual_seed(0)
    reward = SparseReward(2.0)
    for z in (255, 256, 720):
        for _ in range(3):
            goal = torch.randn(400, z, generator=g)
            direction = torch.randn(400, z, generator=g)
            direction[::3, z // 5 :] = 0  # the first fifth holds all of the difference
            direction[1::3, : z // 5] = 0  # or nothing of it
            distance = torch.where(torch.rand(400, generator=g) < far, 50.0, torch.rand(400, generator=g) * 2 + 1)
            distance[:20] = 2 + 1e-6 * torch.randn(20, generator=g)
            after = goal + torch.nn.functional.normalize(direction, dim=1) * distance[:, None]
            after[20, -1] = after[21, 0] = torch.nan
            plain = torch.linalg.vector_norm(after - goal, dim=1) <= 2.0
            assert torch.equal(reward(after, goal), plain.float() - 1) and torch.equal(reward.reached(after, goal), plain)
            assert not reward(after[:0], goal[:0]).numel()


def test_distances_of_few_numbers_are_exact_in_mixed_precision_too() -> None:
    g = torch.Generator().manual_seed(0)
    for z in (0, 1, 3, 12, 13, 300):
        a, b = torch.randn(5000, z + 2, generator=g), torch.randn(5000, z, generator=g)
        b[:10] = a[:10, :z]
        plain = (a[:, :z].double() - b.double()).norm(dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            found = euclidean(a[:, :z], b)
        assert found.dtype == torch.float32 and torch.allclose(found.double(), plain, rtol=1e-6, atol=0)
        assert not found[:10].any()


def test_dense_is_minus_the_distance() -> None:
    assert DenseReward(2.0)(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)).tolist() == [-10.0]


def test_mahalanobis_weighs_each_dimension_by_its_precision() -> None:
    nxt, goal = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    reward = MahalanobisReward(torch.tensor([4.0, 0.25]), 2.0)
    assert reward.distance(nxt, goal).tolist() == pytest.approx([(4 * 9 + 0.25 * 16) ** 0.5, 2.0])
    assert reward(nxt, goal).tolist() == pytest.approx([-2 * 40**0.5, -4.0])
    assert torch.equal(
        MahalanobisReward(torch.ones(2))(nxt, goal), DenseReward()(nxt, goal)
    )  # A = I is RIG's own reward
    assert nxt.tolist() == [[3.0, 4.0], [0.0, 2.0]]
    for bad in (torch.tensor([1.0, -1.0]), torch.tensor([1.0, torch.inf]), torch.ones(1, 2)):
        with pytest.raises(ValueError, match="precision"):
            MahalanobisReward(bad)


def test_log_prob_is_the_gaussian_log_density_less_its_constant() -> None:
    std = torch.tensor([0.5, 2.0])
    density = torch.distributions.Normal(torch.zeros(2), std)
    nxt, goal = torch.randn(5, 2), torch.randn(5, 2)
    expected = density.log_prob(goal - nxt).sum(1) - density.log_prob(torch.zeros(2)).sum()
    precision = mean_precision((2 * std.log()).expand(9, 2))
    assert torch.allclose(LogProbReward(precision)(nxt, goal), expected, atol=1e-5)
    # the mean of precisions, not the precision of the mean: (1 / 1 + 1 / .25) / 2
    assert mean_precision(torch.tensor([[1.0], [0.25]]).log()).tolist() == pytest.approx([2.5])


def test_inverse_variance_is_of_the_data_and_bounded() -> None:
    latents = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    assert inverse_variance(latents, 1e-3).tolist() == pytest.approx([0.25, 1000.0])


def test_pixel_reward_is_the_mean_squared_difference_of_pictures() -> None:
    nxt, goal = torch.tensor([[0.0, 1.0, 0.5, 0.5]]), torch.tensor([[1.0, 1.0, 0.5, 0.0]])
    assert PixelReward()(nxt, goal).tolist() == pytest.approx([-1.25 / 4])
    assert nxt[0, 0] == 0.0 and goal[0, 0] == 1.0
    seen = []

    def decode(z: torch.Tensor) -> torch.Tensor:
        seen.append(len(z))
        return z[:, :, None, None] * torch.ones(1, 2, 3, 3)

    z, g = torch.tensor([[1.0, 0.0], [0.5, 0.5]], requires_grad=True), torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    reward = PixelReward(decode, scale=10.0)(z, g)
    assert reward.tolist() == pytest.approx([-5.0, -1.25]) and seen == [4] and not reward.requires_grad


def test_changed_cells_counts_cells_not_distance() -> None:
    goal = torch.zeros(3, 2, 2, 3)  # (B, c, h, w)
    nxt = goal.clone()
    nxt[1, 0, 0, 0] = 100.0  # one cell, far away
    nxt[2, 1, :, 1:] = 0.01  # four cells, slightly
    reward = ChangedCellsReward(1, (2, 2, 3))
    assert reward.distance(nxt.flatten(1), goal.flatten(1)).tolist() == [0.0, 1.0, 4.0]
    assert reward(nxt.flatten(1), goal.flatten(1)).tolist() == [0.0, 0.0, -1.0]
    assert ChangedCellsReward(1, (2, 2, 3), delta=0.1)(nxt.flatten(1), goal.flatten(1)).tolist() == [0.0, 0.0, 0.0]


def test_epsilon_is_the_distance_that_so_many_steps_cover() -> None:
    g = torch.Generator().manual_seed(0)
    assert calibrate_epsilon(lag_distances(walk(), SparseReward(0.0), 4, 500, g), 0.9) == pytest.approx(2.0)
    assert calibrate_epsilon(torch.arange(101).float(), 0.25) == pytest.approx(25.0)
    with pytest.raises(ValueError, match="lag=60"):
        lag_distances(walk(), SparseReward(0.0), 60, 500, g)
    with pytest.raises(ValueError, match="quantile"):
        calibrate_epsilon(torch.ones(3), 1.5)


def test_a_config_becomes_its_reward() -> None:
    g = torch.Generator().manual_seed(0)
    sparse = make_reward(RewardConfig(lag=2), None, walk(), g)
    assert isinstance(sparse, SparseReward) and sparse.epsilon == pytest.approx(1.0)
    assert isinstance(make_reward(RewardConfig(kind="dense"), None), DenseReward)
    cells = make_reward(RewardConfig(kind="changed_cells"), (1, 1, 2), walk(), g)
    assert isinstance(cells, ChangedCellsReward) and cells.tolerance == 1
    fixed = make_reward(RewardConfig(epsilon=0.25), None)
    assert isinstance(fixed, SparseReward) and fixed.epsilon == 0.25
    with pytest.raises(ValueError, match="needs a replay"):
        make_reward(RewardConfig(), None)
    with pytest.raises(ValueError, match="no grid shape"):
        make_reward(RewardConfig(kind="changed_cells"), None, walk(), g)
    spread = make_reward(RewardConfig(kind="mahalanobis", scale=2.0), None, walk(), g)
    assert isinstance(spread, MahalanobisReward) and spread.scale == 2.0
    assert spread.root[0].item() == pytest.approx(
        (0.25 * (50**2 - 1) / 12) ** -0.5, rel=0.05
    )  # uniform on 50 places .5 apart
    exact = make_reward(RewardConfig(kind="log_prob"), None, precision=torch.tensor([4.0, 9.0]))
    assert isinstance(exact, LogProbReward) and exact.root.tolist() == [2.0, 3.0]
    assert isinstance(make_reward(RewardConfig(kind="pixel"), None, decode=lambda z: z), PixelReward)
    assert isinstance(make_reward(RewardConfig(kind="pixel"), None, pictures=True), PixelReward)
    with pytest.raises(ValueError, match="reward log_prob: give it a precision"):
        make_reward(RewardConfig(kind="log_prob"), None)
    with pytest.raises(ValueError, match="reward pixel: give it either"):
        make_reward(RewardConfig(kind="pixel"), None)
    with pytest.raises(ValueError, match="unknown reward 'sprase'"):
        make_reward(RewardConfig(kind="sprase"), None)


class FakePrior:
    """Adds one number per context, drawn from the generator it is given."""

    def sample(self, n: int, context: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        return context + torch.rand(n, 1, generator=generator)

    def log_prob(self, z: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(z))


def test_goal_samplers_give_one_goal_per_context() -> None:
    context = torch.arange(6.0).view(3, 2)
    imagined = [PriorGoals(FakePrior())(context, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(imagined[0], imagined[1]) and ((imagined[0] - context) < 1).all()
    g = torch.Generator().manual_seed(0)
    assert (ReplayGoals(walk(), scene=1)(context, g)[:, 1] == 1).all()
    assert ReplayGoals(walk())(context.repeat(50, 1), g)[:, 1].unique().numel() == 2
    goals = torch.tensor([[5.0, 5.0], [6.0, 6.0]])
    assert FixedGoals(goals)(context.repeat(20, 1), g).unique(dim=0).tolist() == goals.tolist()
    with pytest.raises(ValueError, match="at least one"):
        FixedGoals(torch.zeros(0, 2))


def test_pick_novel_takes_any_goal_far_enough_else_the_farthest() -> None:
    distance = torch.tensor([[0.1, 5.0, 0.2, 3.0], [0.3, 0.1, 0.9, 0.2]])
    picks = torch.stack([pick_novel(distance, 1.0, torch.Generator().manual_seed(seed)) for seed in range(40)])
    assert set(picks[:, 0].tolist()) == {1, 3}
    assert set(picks[:, 1].tolist()) == {2}


def test_pick_novel_draws_by_weights_among_those_far_enough() -> None:
    """Three goals weigh 3, 1 and 96, but the last is near: of 4,000 picks three quarters are the first."""
    distance = torch.tensor([5.0, 3.0, 0.1]).expand(4000, 3)
    picks = pick_novel(distance, 1.0, torch.Generator().manual_seed(0), torch.tensor([3.0, 1.0, 96.0], dtype=torch.float64).expand(4000, 3))
    shares = torch.bincount(picks, minlength=3) / 4000
    assert shares.tolist() == pytest.approx([0.75, 0.25, 0.0], abs=0.03)
    assert pick_novel(distance[:1] * 0 + torch.tensor([0.2, 0.4, 0.1]), 1.0, None, torch.ones(1, 3)).tolist() == [1]
