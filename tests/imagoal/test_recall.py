"""Recall: in its share of the practised rows goals are others and actions the policy's of before practice, and nothing else changes."""

from types import SimpleNamespace

import pytest
import torch

from agents.bc import BC, BCConfig
from agents.td3_bc import TD3BC, TD3BCConfig
from goals.relabel import HindsightSampler, MixedSampler, Mixture
from goals.replay import Replay
from goals.rewards import SparseReward
from imagoal.recall import Recall, clones_only

Z, P, A = 6, 2, 3


def replay(mark, seed):
    """Ten episodes of latents, whose last number of proprioception says which replay it is."""
    out, generator = Replay(200, Z, P, A), torch.Generator().manual_seed(seed)
    for _ in range(10):
        proprio = torch.randn(12, P, generator=generator)
        proprio[:, -1] = mark
        out.add_episode(torch.randn(12, Z, generator=generator), proprio, torch.rand(11, A, generator=generator) * 2 - 1)
    return out


def samplers():
    parts = [HindsightSampler(replay(mark, seed), Mixture(future=1.0), SparseReward(1.0)) for mark, seed in ((0.0, 0), (1.0, 1))]
    return MixedSampler(*parts, 0.5)


def test_the_teacher_says_what_to_do_in_its_share_of_the_practised_rows():
    torch.manual_seed(0)
    agent, pool = BC(BCConfig(hidden=16), Z + P, Z, A), torch.randn(5, Z) + 100
    recall = Recall(samplers(), agent, pool, 0.25)
    before = agent.policy(*agent.scaled(torch.ones(1, Z + P), torch.ones(1, Z))).detach().clone()
    plain = samplers().sample(64, torch.Generator().manual_seed(3))
    batch = recall.sample(64, torch.Generator().manual_seed(3))
    assert torch.equal(batch.obs, plain.obs) and (batch.obs[:32, -1] == 0).all() and (batch.obs[32:, -1] == 1).all()
    rehearsed = (batch.goal > 50).all(1)
    assert rehearsed.nonzero().flatten().tolist() == list(range(32, 40))  # a quarter of the practised half
    assert torch.equal(batch.goal[~rehearsed], plain.goal[~rehearsed]) and torch.equal(batch.action[~rehearsed], plain.action[~rehearsed])
    assert torch.equal(batch.action[rehearsed], agent.act(batch.obs[rehearsed], batch.goal[rehearsed]))
    for _ in range(20):
        agent.update(batch)
    taught = recall.sample(64, torch.Generator().manual_seed(4))
    assert not torch.allclose(agent.policy(*agent.scaled(torch.ones(1, Z + P), torch.ones(1, Z))), before)
    assert torch.equal(recall.teacher.policy(*recall.teacher.scaled(torch.ones(1, Z + P), torch.ones(1, Z))), before)
    assert torch.equal(taught.action[32:40], recall.teacher.act(taught.obs[32:40], taught.goal[32:40]))


def test_a_policy_that_rehearses_keeps_what_it_does_elsewhere():
    """Taught one thing for one goal, it does the same for all of them; rehearsing the others it does not."""
    forgotten = {}
    for share in (0.0, 0.5):
        torch.manual_seed(0)
        agent, pool = BC(BCConfig(hidden=32, learning_rate=3e-3), Z + P, Z, A), torch.randn(40, Z)
        mixed = samplers()
        mixed.share = 1.0
        mixed.second.replay.action.fill_(0.8)  # practice does the same in all states
        recall = Recall(mixed, agent, pool, share)
        generator = torch.Generator().manual_seed(0)
        for _ in range(150):
            agent.update(recall.sample(64, generator))
        obs = mixed.second.sample(40, generator).obs
        forgotten[share] = float((agent.act(obs, pool) - recall.teacher.act(obs, pool)).abs().mean())
    assert forgotten[0.5] < 0.5 * forgotten[0.0]


def test_only_who_clones_can_recall():
    assert clones_only(BC(BCConfig(hidden=8), Z, Z, A)) and not clones_only(TD3BC(TD3BCConfig(hidden=8), Z, Z, A)) and not clones_only(SimpleNamespace(length=3))
    with pytest.raises(ValueError, match="single steps"):
        Recall(samplers(), BC(BCConfig(hidden=8), Z + P, Z, A), torch.zeros(1, Z), 0.5).snippets(4, 2, torch.Generator())
