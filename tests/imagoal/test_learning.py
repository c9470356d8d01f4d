"""The loop of gradient updates."""

import pytest
import torch

from agents.bc import BC, BCConfig
from agents.iql import IQL, IQLConfig
from goals.relabel import HindsightSampler, Mixture
from goals.replay import Replay
from goals.rewards import SparseReward
from imagoal.learning import learn


def sampler() -> HindsightSampler:
    generator = torch.Generator().manual_seed(0)
    replay = Replay(101, 6, 2, 2)
    replay.add_episode(torch.randn(101, 6, generator=generator), torch.randn(101, 2, generator=generator), torch.rand(100, 2, generator=generator) * 2 - 1)
    return HindsightSampler(replay, Mixture(original=0.0, future=1.0), SparseReward(0.1))


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("build", [lambda: BC(BCConfig(hidden=16, learning_rate=1e-2), 8, 6, 2), lambda: IQL(IQLConfig(hidden=16, learning_rate=1e-2), 8, 6, 2)], ids=["bc", "iql"])
def test_many_updates_at_once_are_so_many_single_ones(build, precision: str) -> None:
    """In mixed precision too, whose casts of weights must not outlive the weights."""
    found = []
    for calls, updates in ((1, 20), (20, 1)):
        torch.manual_seed(0)
        agent, generator = build(), torch.Generator().manual_seed(1)
        for _ in range(calls):
            learn(agent, sampler(), updates, 32, generator, precision)
        found.append(agent.checkpoint())
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])
