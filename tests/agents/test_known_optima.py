"""Agents on problems whose solutions are known in closed form."""

from functools import partial

import pytest
import torch
from torch import Tensor

from agents.awac import AWAC, AWACConfig
from agents.iql import IQL, IQLConfig
from agents.td3_bc import TD3BC, TD3BCConfig
from goals.batch import Batch

STATES = 5


def chain_batch() -> Batch:
    """Every transition of a chain of 5 states: action -1 or +1 moves left or right; the goal is the right end."""
    state, right = torch.arange(2 * STATES) // 2, torch.arange(2 * STATES) % 2
    nxt = (state + 2 * right - 1).clamp(0, STATES - 1)
    one_hot = torch.eye(STATES)
    return Batch.of(
        obs=one_hot[state],
        action=(2.0 * right - 1)[:, None],
        reward=(nxt == STATES - 1).float() - 1,
        discount=torch.ones(2 * STATES),
        next_obs=one_hot[nxt],
        goal=one_hot[torch.full((2 * STATES,), STATES - 1)],
    )


@pytest.mark.parametrize(("expectile", "bf16"), [(0.5, False), (0.9, False), (0.9, True)])
def test_iql_finds_the_expectile_values_of_a_chain(expectile: float, bf16: bool) -> None:
    """Of two equally frequent actions the expectile is tau * better + (1 - tau) * worse: iterate that to the fixed point."""
    gamma = 0.8
    b = chain_batch()
    nxt = b.next_obs.argmax(1)
    v = torch.zeros(STATES)
    for _ in range(300):
        q = (b.reward + gamma * v[nxt]).view(STATES, 2)
        v = expectile * q.amax(1) + (1 - expectile) * q.amin(1)
    torch.manual_seed(0)
    config = IQLConfig(gamma=gamma, expectile=expectile, hidden=64, learning_rate=3e-3, target_rate=0.1)
    agent = IQL(config, STATES, STATES, 1)
    for step in range(800):
        for optimizer in agent.optimizers.values():
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 800)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
            agent.update(b)
    learned = agent.value(torch.eye(STATES), b.goal[:STATES])
    assert torch.allclose(learned, v, atol=0.08), (learned, v)
    optimal = -(1 - gamma ** torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0])) / (1 - gamma)  # V* with 4, 3, 2, 1, 0 steps to go
    if expectile == 0.9:
        assert (v - optimal).abs().max() < 0.8 and (agent.act(b.obs, b.goal) > 0.5).all()


class QuadraticQ(torch.nn.Module):
    """Q(s, a, g) = -(a - 0.5)^2, twice."""

    def forward(self, obs: Tensor, goal: Tensor, action: Tensor) -> Tensor:
        return -(action[:, 0] - 0.5).square().expand(2, -1)


def bandit_batch(size: int, g: torch.Generator) -> Batch:
    """One state, one step: actions U(-1, 1), reward -0.5 - (a - 0.5)^2, no continuation."""
    action = torch.rand(size, 1, generator=g) * 2 - 1
    still = torch.zeros(size, 1)
    return Batch.of(still, action, -0.5 - (action[:, 0] - 0.5).square(), torch.zeros(size), still, still)


@pytest.mark.parametrize("weights", ["softmax", "exp"])
@pytest.mark.parametrize("baseline", ["mean", "sample"])
def test_awac_projects_onto_the_improved_policy(weights: str, baseline: str) -> None:
    """pi* ~ uniform x exp(-(a - 0.5)^2 / lambda) on [-1, 1]: the projection has its mean and standard deviation."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    config = AWACConfig(
        weights=weights,
        baseline=baseline,
        temperature=0.08,
        hidden=16,
        policy_layers=1,
        learning_rate=2e-2,
        weight_decay=0.0,
    )
    agent = AWAC(config, 1, 1, 1)
    agent.critic = QuadraticQ()  # type: ignore[assignment]
    for step in range(600):
        agent.step += 1
        agent.optimizers["policy"].param_groups[0]["lr"] = 2e-2 * (1 - step / 600)
        b = bandit_batch(512, g)
        q_of = partial(agent.critic, b.obs, b.goal)
        agent.descend("policy", agent.policy_loss(b, q_of(b.action), q_of)[0])
    a = torch.linspace(-1, 1, 20_001)
    density = torch.softmax(-(a - 0.5).square() / 0.08, 0)
    mean = (density * a).sum()
    std = (density * (a - mean).square()).sum().sqrt()
    assert agent.act(torch.zeros(1, 1), torch.zeros(1, 1)).item() == pytest.approx(mean.item(), abs=0.02)
    assert agent.policy.distribution(torch.zeros(1, 1), torch.zeros(1, 1))[1].item() == pytest.approx(std.item(), abs=0.015)


def test_awac_moves_to_the_better_action_with_its_own_critic() -> None:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    agent = AWAC(AWACConfig(temperature=0.02, hidden=32, policy_layers=1, learning_rate=5e-3), 1, 1, 1)
    for _ in range(500):
        metrics = agent.update(bandit_batch(256, g))
    assert agent.act(torch.zeros(1, 1), torch.zeros(1, 1)).item() == pytest.approx(0.5, abs=0.08)
    assert metrics["critic_loss"] < 0.01


def test_td3_bc_weighs_improvement_against_cloning() -> None:
    """Uniform actions have mean 0 and the best action is 0.5: w = 0 finds 0.5, a large w clones 0."""
    found = {}
    for weight in (0.0, 50.0):
        torch.manual_seed(0)
        g = torch.Generator().manual_seed(0)
        agent = TD3BC(TD3BCConfig(bc_weight=weight, hidden=32, learning_rate=5e-3), 1, 1, 1)
        for _ in range(600):
            agent.update(bandit_batch(256, g))
        found[weight] = agent.act(torch.zeros(1, 1), torch.zeros(1, 1)).item()
        assert agent.value(torch.zeros(1, 1), torch.zeros(1, 1)).item() == pytest.approx(
            -0.5 - (found[weight] - 0.5) ** 2, abs=0.06
        )
    assert found[0.0] == pytest.approx(0.5, abs=0.08) and found[50.0] == pytest.approx(0.0, abs=0.08)
