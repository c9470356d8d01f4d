"""Updates as CUDA graphs do what the agent's own do: here all but the recording itself, which tests/test_cuda.py has."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from agent_cases import CASES, NAMES, make, random_batch, random_snippet

from agents import graphed
from agents.graphed import GraphedUpdate


@pytest.fixture
def replayed(monkeypatch):
    """A recording that is the function itself, and a device that passes for a GPU. Returns how many updates were recorded, and how many replayed."""
    counts = SimpleNamespace(recorded=0, replayed=0)

    def record(run, generators, stream):
        found: dict[str, torch.Tensor] = {}
        counts.recorded += 1

        def replay():
            counts.replayed += 1
            found.update(run())

        return replay, found

    monkeypatch.setattr(graphed, "record", record)
    monkeypatch.setattr(graphed, "apart", lambda run, stream: run())
    return counts


def graph(agent):
    """Its graphed update, for an agent that is on the CPU."""
    update = GraphedUpdate.__new__(GraphedUpdate)
    update.agent, update.device, update.batch, update.recorded = agent, torch.device("cpu"), None, {}
    update.begin, update.restores, update.stream = agent.step, agent.restores, None
    return update


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_replayed_updates_are_the_agents_own(name, options, replayed):
    eager, agent = make(name, **options), make(name, **options)
    update = graph(agent)
    updates = 16
    for seed in range(updates):
        batch = random_snippet(agent.length, seed=seed) if agent.length else random_batch(seed=seed)
        expected, found = eager.update(batch), update(batch)
        assert found.keys() == expected.keys() and all(torch.equal(found[key], value) for key, value in expected.items())
    assert agent.step == updates
    for key, value in eager.checkpoint().items():
        assert torch.equal(agent.checkpoint()[key], value), key
    if "average_rate" not in options:
        assert replayed.recorded == agent.rhythm and replayed.replayed == updates - max(3 * agent.rhythm, options.get("cloning_updates", 0))


def test_what_changes_with_the_steps_is_not_recorded(replayed):
    agent = make("bc", average_rate=0.125)  # the mean of all weights so far, for the first 7 updates
    update = graph(agent)
    for seed in range(10):
        assert agent.settled == (seed >= 6)
        update(random_batch(seed=seed))
    assert replayed.replayed == 4 and not make("cql", cloning_updates=2).settled


def test_after_restoring_it_is_recorded_anew(replayed):
    agent, other = make("awac"), make("awac", seed=1)
    update = graph(agent)
    for seed in range(5):
        update(random_batch(seed=seed))
    agent.restore(other.checkpoint())
    for seed in range(5):
        update(random_batch(seed=seed))
        other.update(random_batch(seed=seed))
    assert replayed.recorded == 2
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(agent.parameters(), other.parameters(), strict=True))


def test_refusals(replayed):
    with pytest.raises(ValueError, match="needs an agent on a GPU, this IQL is on cpu"):
        GraphedUpdate(make("iql"))
    update = graph(make("iql"))
    for seed in range(4):
        update(random_batch(seed=seed))
    with pytest.raises(ValueError, match="recorded for batches of 16 rows, not 8"):
        update(random_batch(size=8))
