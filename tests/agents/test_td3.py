"""TD3 by hand: targets, smoothing, the delay; a known optimum, reaching in a box, pictures, and what TD3+BC shares with it."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from agents.agent import Agent
from agents.exploration import OrnsteinUhlenbeck, disturbed
from agents.networks import PixelTrunk, make_trunk
from agents.td3 import TD3, TD3Config
from agents.td3_bc import TD3BC, TD3BCConfig
from goals.batch import Batch
from goals.lookup import PictureLookup
from goals.relabel import HindsightSampler, Mixture
from goals.replay import Replay
from goals.rewards import DenseReward, PixelReward


class LinearQ(nn.Module):
    """Q_1 = s + 10 a, Q_2 = s + 20 a - 2."""

    def forward(self, obs: Tensor, goal: Tensor, action: Tensor, members: int | None = None) -> Tensor:
        return torch.stack([obs[:, 0] + 10 * action[:, 0], obs[:, 0] + 20 * action[:, 0] - 2])


class EchoQ(nn.Module):
    """Q_1 = Q_2 = a."""

    def forward(self, obs: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        return action[:, 0].expand(2, -1)


class Still(nn.Module):
    """Always the same action."""

    def __init__(self, action: float):
        super().__init__()
        self.action = action

    def forward(self, obs: Tensor, goal: Tensor) -> Tensor:
        return torch.full((len(obs), 1), self.action)


def noise_batch(size: int = 32, obs: int = 3, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    rows = [torch.randn(size, obs, generator=g) for _ in range(3)]
    action = torch.rand(size, 2, generator=g) * 2 - 1
    return Batch.of(rows[0], action, -rows[1].norm(dim=1), torch.ones(size), rows[1], rows[2])


def test_targets_by_hand() -> None:
    """Without smoothing, y = r + .9 d min(s' + 10 a', s' + 20 a' - 2): at a' = .1 it is min(1, 0), at a' = .5 min(5, 8)."""
    batch = Batch.of(torch.zeros(3, 1), torch.zeros(3, 1), torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.0, 1.0, 0.0]),
                  torch.tensor([[0.0], [4.0], [4.0]]), torch.zeros(3, 1))  # fmt: skip
    agent = TD3(TD3Config(gamma=0.9, target_noise=0.0, hidden=(4, 4)), 1, 1, 1)
    agent.target_critic = LinearQ()  # type: ignore[assignment]
    agent.target_policy = Still(0.1)  # type: ignore[assignment]
    assert agent.target(batch).tolist() == pytest.approx([-1 + 0.9 * 0, -2 + 0.9 * 4, -3.0])
    agent.target_policy = Still(0.5)  # type: ignore[assignment]
    assert agent.target(batch).tolist() == pytest.approx([-1 + 0.9 * 5, -2 + 0.9 * 9, -3.0])
    agent.config = TD3Config(gamma=0.9, target_noise=0.0, target_clip=True)
    assert agent.target(batch).tolist() == pytest.approx([0.0, 0.0, -3.0])  # clamped to [-10, 0]


def test_target_smoothing_is_noise_of_its_std_clipped_and_so_is_the_action() -> None:
    n = 20_000
    batch = Batch.of(*[torch.zeros(n, 1)] * 2, torch.zeros(n), torch.ones(n), *[torch.zeros(n, 1)] * 2)

    def smoothed(std: float, clip: float, action: float) -> Tensor:
        """The smoothed actions, read back from a critic that is the action."""
        agent = TD3(TD3Config(gamma=1.0, target_noise=std, noise_clip=clip, hidden=(4, 4)), 1, 1, 1)
        agent.target_policy = Still(action)  # type: ignore[assignment]
        agent.target_critic = EchoQ()  # type: ignore[assignment]
        return agent.target(batch)

    torch.manual_seed(0)
    wide = smoothed(0.2, 10.0, 0.0)
    assert wide.std().item() == pytest.approx(0.2, rel=0.02) and abs(wide.mean()) < 0.01
    clipped = smoothed(0.2, 0.5, 0.0)
    assert clipped.abs().max().item() == pytest.approx(0.5) and (
        clipped.abs() == 0.5
    ).float().mean().item() == pytest.approx(0.0124, abs=0.004)
    edge = smoothed(0.2, 0.5, 0.9)
    assert edge.max().item() == 1.0 and edge.min().item() == pytest.approx(0.4)


def test_policy_and_targets_move_every_second_step_only() -> None:
    torch.manual_seed(0)
    agent = TD3(TD3Config(hidden=(16, 8), target_rate=0.25), 3, 3, 2)
    for step in range(1, 7):
        before = {key: value.clone() for key, value in agent.state_dict().items()}
        metrics = agent.update(noise_batch(seed=step))
        after = agent.state_dict()
        moved = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
        delayed = {"policy", "target_policy", "target_critic"} if step % 2 == 0 else set()
        assert moved == {"critic"} | delayed and ("policy_loss" in metrics) == (step % 2 == 0)
        if step % 2 == 0:  # the targets follow what this step has made
            for name in [key for key in after if key.startswith("target_")]:
                online = after[name.removeprefix("target_")]
                assert torch.allclose(after[name], 0.75 * before[name] + 0.25 * online, atol=1e-6), name


def test_losses_are_those_of_the_equations() -> None:
    for agent in (TD3(TD3Config(hidden=(16, 8)), 3, 3, 2), TD3BC(TD3BCConfig(hidden=16, bc_weight=0.7), 3, 3, 2)):
        agent.config.target_noise = 0.0
        b = noise_batch()
        next_q = agent.target_critic(b.next_obs, b.goal, agent.target_policy(b.next_obs, b.goal)).min(0).values
        y = (b.reward + 0.99 * next_q).clamp(*((-100.0, 0.0) if agent.config.target_clip else (-torch.inf, torch.inf)))
        q = agent.critic(b.obs, b.goal, b.action)
        assert torch.allclose(agent.critic_loss(b)[0], ((q[0] - y).square().mean() + (q[1] - y).square().mean()) / 2)
        action = agent.policy(b.obs, b.goal)
        q1 = agent.critic(b.obs, b.goal, action)[0]
        expected = -q1.mean()
        if isinstance(agent, TD3BC):
            expected = expected / q1.abs().mean() + 0.7 * (action - b.action).square().mean()
        assert torch.allclose(agent.policy_loss(b)[0], expected, atol=1e-6)


def test_without_cloning_td3_bc_takes_the_critic_steps_of_td3() -> None:
    """The same seed gives the same networks, noise and first critic step: what differs is the policy's loss alone."""
    shared = {f.name for f in dataclasses.fields(TD3Config)} & {f.name for f in dataclasses.fields(TD3BCConfig)} - {
        "hidden"
    }
    values = {name: getattr(TD3BCConfig(), name) for name in shared}
    agents: list[TD3] = []
    for build in (
        lambda: TD3(TD3Config(hidden=(16, 16), **values), 3, 3, 2),
        lambda: TD3BC(TD3BCConfig(hidden=16, bc_weight=0.0), 3, 3, 2),
    ):
        torch.manual_seed(0)
        agents.append(build())
    first, second = agents
    ours, theirs = first.update(noise_batch()), second.update(noise_batch())
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    mine, others = first.checkpoint(), second.checkpoint()
    assert set(others) - set(mine) == {"model.bc_weight"} and all(torch.equal(mine[key], others[key]) for key in mine)


def test_td3_finds_the_best_action_of_a_bandit_and_its_value() -> None:
    """Reward -.5 - (a - g)^2 for one step: the best action is the goal, its value -.5."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    agent = TD3(TD3Config(hidden=(48, 32), target_rate=0.05, learning_rate=3e-3), 1, 1, 1)
    for _ in range(600):
        action, goal, still = (
            torch.rand(128, 1, generator=g) * 2 - 1,
            torch.rand(128, 1, generator=g) * 1.6 - 0.8,
            torch.zeros(128, 1),
        )
        agent.update(Batch.of(still, action, -0.5 - (action - goal)[:, 0].square(), torch.zeros(128), still, goal))
    goals = torch.tensor([[-0.7], [0.0], [0.7]])
    assert torch.allclose(agent.act(torch.zeros(3, 1), goals), goals, atol=0.1)
    assert torch.allclose(agent.value(torch.zeros(3, 1), goals), torch.full((3,), -0.5), atol=0.1)


@pytest.mark.slow
def test_td3_learns_online_to_reach_points_from_its_own_practice() -> None:
    """A point moves .2 * action per step in [-1, 1]^2; RIG's loop on latents that are positions: imagined goals, noise, relabeling.

    The best policy takes the straight way; what is judged is the distance after 12 steps, 0 for it and .94 for no motion.
    """
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    agent = TD3(TD3Config(hidden=(64, 48), gamma=0.9, target_rate=0.02, policy_delay=2), 2, 2, 2)
    replay, noise = Replay(5000, 2, 0, 2), OrnsteinUhlenbeck(8, 2, 0.2)
    sampler = HindsightSampler(
        replay,
        Mixture(original=0.1, future=0.4, imagined=0.5),
        DenseReward(),
        torch.rand(1, 256, 2, generator=g) * 2 - 1,
    )

    def episodes(explore: bool, n: int = 8) -> tuple[Tensor, Tensor, Tensor]:
        place, goal = torch.rand(n, 2, generator=g) * 2 - 1, torch.rand(n, 2, generator=g) * 2 - 1
        places, actions = [place], []
        noise.reset()
        for _ in range(12):
            action = agent.act(place, goal)
            action = disturbed(action, noise.step(g)) if explore else action
            place = (place + 0.2 * action).clamp(-1, 1)
            places.append(place)
            actions.append(action)
        return torch.stack(places, 1), torch.stack(actions, 1), goal

    for _ in range(20):
        places, actions, goal = episodes(True)
        for e in range(8):
            replay.add_episode(places[e], torch.zeros(13, 0), actions[e], goal=goal[e])
        for _ in range(40):
            agent.update(sampler.sample(128, g))
    places, _, goal = episodes(False, 300)
    left = (places[:, -1] - goal).norm(dim=1)
    assert left.mean() < 0.15 and (places[:, 0] - goal).norm(dim=1).mean() > 0.9, left.mean()


def test_agents_without_a_grid_and_an_encoder_that_needs_one() -> None:
    agent = TD3(TD3Config(hidden=(8, 8)), 6, 4, 2, grid_shape=None)
    assert isinstance(agent, Agent) and agent.act(torch.zeros(5, 6), torch.zeros(5, 4)).shape == (5, 2)
    with pytest.raises(ValueError, match="encoder conv needs latents on a grid"):
        TD3(TD3Config(encoder="conv"), 6, 4, 2)
    with pytest.raises(ValueError, match=r"a picture of shape \(3, 1, 1\) does not fit goal_dim 4"):
        TD3(TD3Config(encoder="pixels"), 6, 4, 2)


@pytest.mark.parametrize(("shape", "grid"), [((3, 48, 48), 9), ((3, 24, 48), 3), ((1, 23, 23), 1)])
def test_the_pixel_trunk_sees_both_pictures_and_appends_proprio(shape: tuple[int, int, int], grid: int) -> None:
    z = shape[0] * shape[1] * shape[2]
    trunk = PixelTrunk(z + 2, z, shape, 16)
    obs, goal = torch.rand(2, z + 2), torch.rand(2, z)
    features = trunk(obs, goal)
    assert (
        trunk.features == 32 * grid + 2
        and features.shape == (2, trunk.features)
        and torch.equal(features[:, -2:], obs[:, -2:])
    )
    pictures = torch.cat([obs[:, :z].view(2, *shape), goal.view(2, *shape)], 1)  # "(c h w)", stacked on channels
    assert torch.allclose(features[:, :-2], trunk.convolutions(pictures - 0.5).flatten(1), atol=1e-6)
    assert [tuple(p.shape[:2]) for p in trunk.convolutions.parameters() if p.ndim == 4] == [
        (16, 2 * shape[0]),
        (32, 16),
        (32, 32),
    ]


def test_the_pixel_trunk_says_what_does_not_fit() -> None:
    trunk = make_trunk("pixels", 6912, 6912, None, 16)
    assert isinstance(trunk, PixelTrunk) and trunk.picture_shape == (3, 48, 48)
    with pytest.raises(ValueError, match=r"sides of at least 23 pixels, got \(3, 22, 30\)"):
        make_trunk("pixels", 1980, 1980, (3, 22, 30), 16)


@pytest.mark.slow
def test_td3_learns_from_pictures_of_a_replay_of_bytes() -> None:
    """A bandit in pictures: the brightness of observation and goal picture is the place; the action should be their difference."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    size = 3 * 24 * 24
    replay = Replay(400, size, 0, 1, PictureLookup())
    for _ in range(100):
        place = torch.rand((), generator=g) * 0.6 + 0.2
        action = torch.rand(1, 1, generator=g) * 0.4 - 0.2
        states = (
            torch.stack([place, (place + action[0, 0]).clamp(0, 1)])[:, None].mul(255).round().byte().expand(2, size)
        )
        replay.add_episode(states, torch.zeros(2, 0), 5 * action)
    assert replay.codes.dtype == torch.uint8
    sampler = HindsightSampler(replay, Mixture(future=0.0, random=1.0), PixelReward(scale=10.0))
    agent = TD3(TD3Config(hidden=(32, 32), encoder="pixels", channels=8, gamma=0.0), size, size, 1, (3, 24, 24))
    for _ in range(400):
        agent.update(sampler.sample(64, g))
    here, there = torch.full((2, size), 0.5), torch.tensor([[0.7], [0.3]]).expand(2, size)
    action = agent.act(here, there)
    assert action[0] > 0.5 and action[1] < -0.5, action


def test_a_config_without_widths_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden"):
        TD3Config(hidden=())
