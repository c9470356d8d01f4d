"""What makes each agent the one it is: the value it learns, the constraint it keeps, against numbers known beforehand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.awr import AWR, AWRConfig
from agents.bcq import BCQ, BCQConfig
from agents.bear import BEAR, BEARConfig
from agents.brac import BRAC, BRACConfig
from agents.cql import CQL, CQLConfig, importance_log_sum_exp
from agents.one_step import OneStep, OneStepConfig
from agents.policies import Dual
from agents.sac import SAC, SACConfig
from goals.batch import Batch, Snippet

STATES, GAMMA = 5, 0.8


def chain(length: int) -> Snippet:
    """Every walk of `length` steps on a line of 5 states, -1 or +1 each time; reward 0 at the right end, else -1; it ends nowhere."""
    n = STATES * 2**length
    code = torch.arange(n)
    state, actions = [code % STATES], []
    for step in range(length):
        actions.append(2.0 * ((code // STATES) >> step & 1) - 1)
        state.append((state[-1] + actions[-1].long()).clamp(0, STATES - 1))
    reward = torch.stack([(s == STATES - 1).float() - 1 for s in state[1:]], 1)
    one_hot = torch.eye(STATES)
    goal = one_hot[torch.full((n,), STATES - 1)]
    whole = torch.ones(n, length, dtype=torch.bool)
    one = torch.zeros(n, dtype=torch.int64)
    return Snippet(one_hot[torch.stack(state, 1)], torch.stack(actions, 1)[..., None], reward, whole.float(), whole, goal, one, one.bool())


def behaviour_value() -> Tensor:
    """V (5,) of the uniform random walk, by its fixed point."""
    state = torch.arange(STATES)
    v = torch.zeros(STATES)
    for _ in range(300):
        nxt = [(state + move).clamp(0, STATES - 1) for move in (-1, 1)]
        v = sum(0.5 * ((s == STATES - 1).float() - 1 + GAMMA * v[s]) for s in nxt)  # type: ignore[assignment]
    return v


def train(agent: Any, batch: Any, updates: int, rate: float = 3e-3) -> None:
    for step in range(updates):
        for optimizer in agent.optimizers.values():
            optimizer.param_groups[0]["lr"] = rate * (1 - step / updates)
        agent.update(batch)


def test_one_step_learns_the_values_of_the_data_not_the_best_ones() -> None:
    torch.manual_seed(0)
    agent = OneStep(OneStepConfig(gamma=GAMMA, hidden=64, target_rate=0.1), STATES, STATES, 1)
    train(agent, chain(2), 500)
    eye, goal = torch.eye(STATES), torch.eye(STATES)[[STATES - 1] * STATES]
    with torch.no_grad():
        q = sum(0.5 * agent.critic(eye, goal, torch.full((STATES, 1), move)).mean(0) for move in (-1.0, 1.0))
    assert torch.allclose(q, behaviour_value(), atol=0.1), (q, behaviour_value())
    assert (agent.act(eye, goal) > 0.1).all()  # yet it walks to the right: one step of improvement


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_awr_learns_the_values_of_the_data(decay: float) -> None:
    torch.manual_seed(0)
    agent = AWR(AWRConfig(gamma=GAMMA, decay=decay, returns_length=4, hidden=64), STATES, STATES, 1)
    batch = chain(4)
    train(agent, batch, 500)
    learned = agent.value(torch.eye(STATES), batch.goal[:STATES])
    assert torch.allclose(learned, behaviour_value(), atol=0.1), (learned, behaviour_value())


def test_a_dual_finds_the_multiplier_of_a_known_problem() -> None:
    """min (x - 2)^2 with x <= 1: x = 1, and the multiplier is 2 = -d/dx (x - 2)^2 there."""
    x, dual = torch.tensor(0.0, requires_grad=True), Dual(0.1)
    primal, adam = torch.optim.SGD([x], 0.1), torch.optim.SGD(dual.parameters(), 0.02)
    for _ in range(3000):
        primal.zero_grad()
        ((x - 2).square() + dual() * (x - 1)).backward()
        primal.step()
        adam.zero_grad()
        dual.loss(1 - x.detach()).backward()
        adam.step()
    assert x.item() == pytest.approx(1.0, abs=0.02) and dual().item() == pytest.approx(2.0, abs=0.05)


class Rising(nn.Module):
    """Q = 3 a, twice: the best action is 1, wherever the data are."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # moving averages need one

    def forward(self, obs: Tensor, goal: Tensor, action: Tensor, members: int | None = None) -> Tensor:
        return 3.0 * action[:, 0].expand(members or 2, -1)

    def each(self, obs: Tensor, goal: Tensor, actions: Tensor) -> Tensor:
        return 3.0 * actions[..., 0].expand(2, -1, -1)


def near_three_tenths(size: int = 256) -> Batch:
    """Actions N(.3, .05^2) of any state."""
    g = torch.Generator().manual_seed(0)
    obs, goal = torch.randn(size, 2, generator=g), torch.randn(size, 2, generator=g)
    action = 0.3 + 0.05 * torch.randn(size, 1, generator=g)
    return Batch.of(obs, action, torch.zeros(size), torch.ones(size), obs, goal)


def rising(agent: Any, updates: int) -> Tensor:
    """The best guesses of an agent trained with Q = 3 a, which is not itself trained."""
    agent.critic, agent.target_critic, descend = Rising(), Rising(), agent.descend
    agent.critic_loss = lambda b: (torch.zeros(()), {})
    agent.descend = lambda name, loss: None if name == "critic" else descend(name, loss)
    if isinstance(agent, BCQ):
        agent.policy.networks = (agent.behaviour, agent.perturbation, agent.critic)  # type: ignore[attr-defined]
    for optimizer in agent.optimizers.values():
        optimizer.param_groups[0]["lr"] = 3e-3
    batch = near_three_tenths()
    for _ in range(updates):
        agent.update(batch)
    return agent.act(batch.obs, batch.goal)  # type: ignore[no-any-return]


def test_constraints_hold_actions_near_the_data_where_q_would_leave_them() -> None:
    """Data actions are N(.3, .05^2) and Q = 3 a: SAC goes to 1; the constrained agents stay, BCQ above the mean by sampling and .05 at most."""
    small: dict[str, Any] = {"hidden": 32}
    torch.manual_seed(0)
    free = rising(SAC(SACConfig(**small, learn_temperature=False, temperature=0.01), 2, 2, 1), 300)
    held = {
        "brac": rising(BRAC(BRACConfig(**small, divergence_weight=1.0, cloning_updates=300), 2, 2, 1), 700),
        "bear": rising(BEAR(BEARConfig(**small, divergence="kl", epsilon=0.5, cloning_updates=300), 2, 2, 1), 900),
        "bcq": rising(BCQ(BCQConfig(**small), 2, 2, 1), 500),
    }
    assert free.mean() > 0.9
    for name, action in held.items():
        assert 0.28 < action.mean() < 0.5, (name, action.mean())


def test_bear_keeps_its_divergence_at_epsilon() -> None:
    torch.manual_seed(0)
    agent = BEAR(BEARConfig(hidden=32, divergence="kl", epsilon=0.5, cloning_updates=200, divergence_samples=16), 2, 2, 1)
    rising(agent, 1200)
    found = torch.stack([agent.update(near_three_tenths())["divergence"] for _ in range(100)]).mean()
    assert found.item() == pytest.approx(0.5, abs=0.15)


def test_sac_keeps_the_entropy_it_is_asked_for() -> None:
    """Q = 3 a pushes all mass to 1; the temperature rises until the entropy is the target, here -1 of one dimension."""
    torch.manual_seed(0)
    agent = SAC(SACConfig(hidden=32), 2, 2, 1)
    rising(agent, 1500)
    found = torch.stack([agent.update(near_three_tenths())["entropy"] for _ in range(50)]).mean()
    assert found.item() == pytest.approx(-1.0, abs=0.2)


def test_cql_log_sum_exp_is_an_integral() -> None:
    """Of exp(-a^2) over [-1, 1]: sqrt(pi) erf(1), from uniform actions and from others of known density."""
    g = torch.Generator().manual_seed(0)
    exact = math.log(math.sqrt(math.pi) * math.erf(1.0))
    uniform = torch.rand(40_000, 1, generator=g) * 2 - 1
    flat = torch.full((40_000, 1), -math.log(2.0))
    assert importance_log_sum_exp(-uniform.square()[None], flat).item() == pytest.approx(exact, abs=0.01)
    tilted = 1.0 - 2.0 * torch.rand(40_000, 1, generator=g).sqrt()  # density (1 - a) / 2
    density = ((1.0 - tilted) / 2.0).log()
    both = importance_log_sum_exp(-torch.cat([uniform, tilted]).square()[None], torch.cat([flat, density]))
    assert both.item() == pytest.approx(exact, abs=0.02)


def test_cql_is_low_on_actions_the_data_do_not_have() -> None:
    torch.manual_seed(0)
    agent = CQL(CQLConfig(hidden=32, gamma=0.0, conservative_weight=1.0, samples=4, learning_rate=3e-3), 2, 2, 1)
    batch = near_three_tenths(64)
    for _ in range(200):
        agent.update(batch)
    with torch.no_grad():
        inside, outside = (agent.critic(batch.obs, batch.goal, torch.full_like(batch.action, a)).mean() for a in (0.3, -0.6))
    assert inside > outside + 1.0, (inside, outside)
