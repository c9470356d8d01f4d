"""Noise processes against their closed forms, and how noise meets actions."""

import pytest
import torch

from agents.exploration import GaussianNoise, OrnsteinUhlenbeck, Team, disturbed, make_noise, uniform_mixed


@pytest.mark.parametrize(("sigma", "theta"), [(0.2, 0.15), (0.3, 0.5), (0.1, 1.0)])
def test_ornstein_uhlenbeck_has_its_stationary_std_and_autocorrelation(sigma: float, theta: float) -> None:
    g = torch.Generator().manual_seed(0)
    noise = OrnsteinUhlenbeck(2000, 2, sigma, theta)
    for _ in range(100):
        noise.step(g)
    x = torch.stack([noise.step(g) for _ in range(30)])  # (30, 2000, 2)
    expected = sigma / (1 - (1 - theta) ** 2) ** 0.5
    assert noise.std == pytest.approx(expected)
    assert x.std().item() == pytest.approx(expected, rel=0.02) and abs(x.mean().item()) < 0.05 * expected
    for lag in (1, 3, 10):
        correlation = (x[lag:] * x[:-lag]).mean() / x.square().mean()
        assert correlation.item() == pytest.approx((1 - theta) ** lag, abs=0.02)
    assert abs((x[:, :, 0] * x[:, :, 1]).mean() / x.square().mean()) < 0.02  # dimensions are independent
    assert abs((x[:, ::2] * x[:, 1::2]).mean() / x.square().mean()) < 0.02  # and so are copies


def test_ornstein_uhlenbeck_by_hand_resets_and_continues() -> None:
    noise = OrnsteinUhlenbeck(3, 2, 0.5, 0.25)
    first, second = (noise.step(g) for g in [torch.Generator().manual_seed(0)] for _ in range(2))
    g = torch.Generator().manual_seed(0)
    white = [torch.randn(3, 2, generator=g) for _ in range(2)]
    assert torch.allclose(first, 0.5 * white[0]) and torch.allclose(second, 0.75 * first + 0.5 * white[1])
    saved, other = noise.state_dict(), OrnsteinUhlenbeck(3, 2, 0.5, 0.25)
    other.load_state_dict(saved)
    steps = [each.step(torch.Generator().manual_seed(2)) for each in (noise, other)]
    assert torch.equal(*steps) and not torch.equal(steps[0], saved["noise"])
    noise.reset(torch.tensor([True, False, False]))
    assert (noise.state[0] == 0).all() and torch.equal(noise.state[1:], steps[0][1:])
    noise.reset()
    assert (noise.state == 0).all() and (steps[0] != 0).any()  # what was handed out stays
    with pytest.raises(ValueError, match=r"saved noise is \(3, 2\), this one is \(4, 2\)"):
        OrnsteinUhlenbeck(4, 2, 0.5).load_state_dict(saved)


def test_gaussian_noise_is_white() -> None:
    noise, g = GaussianNoise(5000, 3, 0.2), torch.Generator().manual_seed(0)
    first, second = noise.step(g), noise.step(g)
    assert first.shape == (5000, 3) and first.std().item() == pytest.approx(noise.std, rel=0.03)
    assert abs((first * second).mean()) < 0.002
    noise.load_state_dict(noise.state_dict())
    noise.reset()


def test_actions_stay_in_range_and_epsilon_of_them_are_uniform() -> None:
    g = torch.Generator().manual_seed(0)
    assert disturbed(torch.tensor([[0.9, -0.5]]), torch.tensor([[0.3, 0.2]]))[0].tolist() == pytest.approx([1.0, -0.3])
    action = torch.full((200_000, 2), 0.5)
    mixed = uniform_mixed(action, 0.3, g)
    replaced = (mixed != action).any(1)
    assert replaced.float().mean().item() == pytest.approx(0.3, abs=0.005)
    drawn = mixed[replaced]  # whole actions: both dimensions or neither
    assert (drawn != 0.5).all() and drawn.abs().max() <= 1
    assert abs(drawn.mean()) < 0.02 and drawn.std().item() == pytest.approx(3**-0.5, abs=0.01)
    assert torch.equal(uniform_mixed(action, 0.0, g), action) and (uniform_mixed(action, 1.0, g) != action).all()
    assert (action == 0.5).all()


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma"):
        make_noise("gaussian", 1, 1, -0.1)
    for theta in (0.0, 1.5):
        with pytest.raises(ValueError, match="theta"):
            make_noise("ou", 1, 1, 0.1, theta)
    with pytest.raises(ValueError, match="unknown noise 'pink'"):
        make_noise("pink", 1, 1, 0.1)
    with pytest.raises(ValueError, match="epsilon"):
        uniform_mixed(torch.zeros(1, 1), 1.5)


class Constant:
    """Always the same action, but to explore."""

    def __init__(self, value: float):
        self.value = value

    def act(self, obs, goal, explore=False, generator=None):
        return torch.full((len(obs), 2), self.value) + goal[:, :1] + 100 * explore


def test_a_team_acts_in_turn_each_on_its_own_rows():
    team, goal = Team([Constant(0.1), Constant(0.2), Constant(0.3)]), 10 * torch.arange(7.0)[:, None]
    assert (team.act(torch.zeros(7, 4), goal)[:, 0] - goal[:, 0]).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1], abs=1e-5)
    assert (team.act(torch.zeros(7, 4), goal, True) - goal >= 100).all()
    assert team.act(torch.zeros(2, 4), goal[:2]).shape == (2, 2)  # fewer copies than members
    with pytest.raises(ValueError, match="at least one member"):
        Team([])
