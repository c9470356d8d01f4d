"""What every agent keeps: the interface, gradient ownership, exact checkpoints, and refusing what does not fit."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

sys.path.insert(0, str(Path(__file__).parent))
from agent_cases import ACTION, CASES, GOAL, GRID, NAMES, OBS, batch_for, make, random_batch

from agents.agent import Agent
from agents.iql import IQL
from agents.td3_bc import TD3BC


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_update_returns_finite_scalars_and_moves_every_parameter(name: str, options: dict) -> None:
    agent = make(name, **options)
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    for seed in range(4):
        metrics = agent.update(batch_for(agent, seed))
        assert metrics and all(m.shape == () and torch.isfinite(m) and not m.requires_grad for m in metrics.values())
    for key, parameter in agent.named_parameters():
        assert torch.equal(parameter, before[key]) != (parameter.requires_grad or key.startswith(("target", "average"))), key
    assert agent.step == 4


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_actions_are_bounded_and_exploration_repeats_with_its_generator(name: str, options: dict) -> None:
    agent = make(name, **options)
    obs, goal = torch.randn(40, OBS), torch.randn(40, GOAL)
    quiet = agent.act(obs, goal, explore=False)
    noisy = [agent.act(obs, goal, explore=True, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert quiet.shape == (40, ACTION) and torch.equal(quiet, agent.act(obs, goal, explore=False))
    assert torch.equal(*noisy) and not torch.equal(quiet, noisy[0])
    assert max(quiet.abs().max(), noisy[0].abs().max()) <= 1
    assert not quiet.requires_grad
    if name != "bc":
        assert agent.value(obs, goal).shape == (40,)


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_a_restored_agent_continues_exactly(name: str, options: dict) -> None:
    agent = make(name, **options)
    agent.fit_scaling(torch.randn(100, OBS) * 3 + 1, torch.randn(100, GOAL))
    for seed in range(5):
        agent.update(batch_for(agent, seed))
    saved = save(agent.checkpoint())
    other = make(name, seed=1, **options)
    other.update(batch_for(other, 9))
    other.restore(load(saved))
    for seed in range(5, 10):
        first, second = agent.update(batch_for(agent, seed)), other.update(batch_for(agent, seed))
        assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first), (seed, first)
    ours, theirs = agent.checkpoint(), other.checkpoint()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_in_mixed_precision_losses_and_weights_stay_float32_and_near_those_of_float32(name: str, options: dict) -> None:
    found = {}
    for enabled in (False, True):
        agent = make(name, **options)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for seed in range(2):
                metrics = agent.update(batch_for(agent, seed))
        assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in metrics.values())
        assert all(p.dtype == torch.float32 for p in agent.parameters())
        found[enabled] = metrics
    for key, exact in found[False].items():
        assert abs(float(found[True][key] - exact)) <= 0.1 * abs(float(exact)) + 0.05, key


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_a_fresh_checkpoint_clears_a_used_optimiser(name: str, options: dict) -> None:
    fresh, used = make(name, **options), make(name, seed=1, **options)
    saved = {key: value.clone() for key, value in fresh.checkpoint().items()}
    for seed in range(3):
        used.update(batch_for(used, seed))
    used.restore(saved)
    fresh.update(batch_for(fresh))
    used.update(batch_for(used))
    ours, theirs = fresh.checkpoint(), used.checkpoint()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_what_does_not_fit_is_named_and_changes_nothing() -> None:
    agent = make("iql")
    before = {key: value.clone() for key, value in agent.checkpoint().items()}
    wider = make("iql", dims=(OBS + 5, GOAL, ACTION)).checkpoint()
    with pytest.raises(ValueError, match=r"tensor model.obs_scale is \(40,\) in the checkpoint and \(35,\) here"):
        agent.restore(wider)
    with pytest.raises(ValueError, match=r"IQL: tensor model\.bc_weight is absent in the checkpoint"):
        agent.restore(make("awac", policy_layers=2).checkpoint())
    trained = make("iql", hidden=24)
    trained.update(random_batch())
    state = trained.checkpoint()
    state["optimizer.critic.0.exp_avg"] = torch.zeros(2)
    with pytest.raises(ValueError, match=r"tensor optimizer.critic.0.exp_avg is \(2,\) in the checkpoint"):
        agent.restore(state)
    with pytest.raises(ValueError, match=r"tensor extra is \(1,\) in the checkpoint and absent here"):
        agent.restore(before | {"extra": torch.zeros(1)})
    assert all(torch.equal(value, before[key]) for key, value in agent.checkpoint().items())


@pytest.mark.parametrize("owner", ["value", "critic", "policy"])
def test_a_step_touches_only_what_its_optimiser_owns(owner: str) -> None:
    agent = make("iql", extraction="ddpg_bc")
    assert isinstance(agent, IQL)
    b = agent.prepare(random_batch())
    losses = {
        "value": agent.value_loss(b)[0],
        "critic": agent.critic_loss(b)[0],
        "policy": agent.policy_loss(b, torch.zeros(16))[0],
    }
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    agent.descend(owner, losses[owner])
    moved = {key.split(".")[0] for key, value in agent.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"value_network" if owner == "value" else owner}


def test_policy_delay_and_the_cloning_weight() -> None:
    agent = make("td3_bc", policy_delay=3)
    assert isinstance(agent, TD3BC)
    stepped = ["policy_loss" in agent.update(random_batch(seed=s)) for s in range(6)]
    assert stepped == [False, False, True, False, False, True]
    b = agent.prepare(random_batch())
    mse = agent.policy_loss(b)[1]["mse"]
    base = agent.policy_loss(b)[0]
    agent.set_bc_weight(agent.config.bc_weight + 2.0)
    assert torch.allclose(agent.policy_loss(b)[0], base + 2.0 * mse)
    other = make("td3_bc", policy_delay=3)
    other.restore(agent.checkpoint())
    assert torch.equal(other.policy_loss(b)[0], agent.policy_loss(b)[0])


def test_scaling_standardises_and_treats_observation_and_goal_alike() -> None:
    agent = make("bc")
    obs, goal = torch.randn(2000, OBS) * 5 + 2, torch.randn(2000, GOAL) * 5 + 2
    same = torch.cat([goal, obs[:, GOAL:]], 1)
    agent.fit_scaling(obs, goal)
    scaled_obs, scaled_goal = agent.scaled(same, goal)
    assert torch.equal(scaled_obs[:, :GOAL], scaled_goal)
    assert scaled_obs.mean().abs() < 0.1 and (scaled_obs.std() - 1).abs() < 0.1
    first = agent.prepare(random_batch())
    assert torch.equal(first.obs, agent.scaled(random_batch().obs, random_batch().goal)[0])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("iql", {"extraction": "awrr"}, "extraction"),
        ("awac", {"weights": "sotfmax"}, "weights"),
        ("awac", {"baseline": "median"}, "baseline"),
        ("td3_bc", {"encoder": "vit"}, "encoder"),
    ],
)
def test_unknown_variants_are_named(name: str, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=f"unknown {words}"):
        make(name, **options)


def test_grid_is_the_shape_the_cases_use() -> None:
    assert isinstance(make("bc"), Agent) and GRID[0] * GRID[1] * GRID[2] == GOAL


@pytest.mark.parametrize("name", ["bc", "awac", "iql", "sac"])
def test_the_average_is_of_the_policys_weights_and_acts(name: str) -> None:
    rate = 0.3
    agent, plain = make(name, average_rate=rate), make(name)
    mean = [p.detach().clone() for p in plain.policy.parameters()]
    for step in range(1, 6):
        batch = random_batch(seed=step)
        agent.update(batch)
        plain.update(batch)
        share = max(rate, 1 / (step + 1))  # 1/2, 1/3, then .3
        mean = [m + share * (p.detach() - m) for m, p in zip(mean, plain.policy.parameters(), strict=True)]
    for m, a, p, q in zip(mean, agent.average.parameters(), agent.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(p, q)  # learning does not see the average
        assert torch.allclose(a, m, atol=1e-6)
    obs, goal = torch.randn(3, OBS), torch.randn(3, GOAL)
    with torch.no_grad():
        assert torch.equal(agent.act(obs, goal), agent.average(*agent.scaled(obs, goal)))
    assert not torch.equal(agent.act(obs, goal), plain.act(obs, goal))
    other = make(name, seed=1, average_rate=rate)
    other.restore({k: v.clone() for k, v in agent.checkpoint().items()})
    assert torch.equal(other.act(obs, goal), agent.act(obs, goal))


def test_a_policy_without_weights_has_no_average() -> None:
    with pytest.raises(ValueError, match=r"average_rate=0\.1: the policy of BCQ has no weights of its own"):
        make("bcq", average_rate=0.1)
