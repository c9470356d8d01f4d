"""Every agent learns to reach goals in a box from aimless offline data, by hindsight alone.

A point moves 0.15 * action per step in [-1, 1]^2; latents are positions; the data are 200 random walks of 40 steps.
"""

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.registry import AGENTS
from goals.relabel import HindsightSampler, Mixture
from goals.replay import Replay
from goals.rewards import SparseReward

SPEED, REACHED = 0.15, 0.15


def walks(episodes: int, steps: int, g: torch.Generator) -> Replay:
    """Random walks with persistent directions."""
    place, push = torch.rand(episodes, 2, generator=g) * 2 - 1, torch.zeros(episodes, 2)
    places, actions = [place], []
    for _ in range(steps):
        push = 0.7 * push + 0.7 * torch.randn(episodes, 2, generator=g)
        actions.append(push.clamp(-1, 1))
        place = (place + SPEED * actions[-1]).clamp(-1, 1)
        places.append(place)
    replay = Replay(episodes * (steps + 1), 2, 0, 2)
    for where, what in zip(torch.stack(places, 1), torch.stack(actions, 1), strict=True):
        replay.add_episode(where, torch.zeros(steps + 1, 0), what)
    return replay


def success(act, g: torch.Generator) -> float:
    """Share of 300 random starts and goals with the point at the goal after 40 steps."""
    place, goal = torch.rand(300, 2, generator=g) * 2 - 1, torch.rand(300, 2, generator=g) * 2 - 1
    for _ in range(40):
        place = (place + SPEED * act(place, goal)).clamp(-1, 1)
    return float(((place - goal).norm(dim=1) < REACHED).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "updates", "at_least"),
    [
        ("bc", {}, 1000, 0.3),
        ("iql", {}, 1000, 0.8),
        ("iql", {"extraction": "ddpg_bc", "bc_weight": 0.1}, 450, 0.8),
        ("td3_bc", {"bc_weight": 0.1}, 1000, 0.8),
        ("awac", {"policy_layers": 2}, 900, 0.8),
        ("awr", {}, 700, 0.6),
        ("one_step", {}, 700, 0.7),
        ("td3", {"hidden": (64, 64)}, 800, 0.8),
        ("ddpg", {}, 500, 0.8),
        ("sac", {}, 800, 0.8),
        ("sac", {"bc_weight": 0.2}, 700, 0.8),
        ("cql", {"conservative_weight": 0.03, "samples": 3}, 800, 0.8),
        ("brac", {"divergence_weight": 0.1, "cloning_updates": 100}, 800, 0.8),
        ("bear", {"epsilon": 0.25, "multiplier_rate": 1e-2, "samples": 5}, 500, 0.8),
        ("bear", {"divergence": "kl", "epsilon": 1.0, "multiplier": 0.1, "multiplier_rate": 1e-2}, 600, 0.8),
        ("bcq", {"samples": 5, "perturbation": 0.3}, 600, 0.7),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_agent_learns_to_reach(name: str, options: dict, updates: int, at_least: float) -> None:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    sampler = HindsightSampler(walks(200, 40, g), Mixture(future=0.6, random=0.3, next=0.1), SparseReward(REACHED))
    agent_class, config = AGENTS[name]
    known = {field.name for field in fields(config)}
    values = {"gamma": 0.9, "target_rate": 0.02, "hidden": 64, "learning_rate": 1e-3, **options}
    agent: Any = agent_class(config(**{k: v for k, v in values.items() if k in known}), 2, 2, 2)
    for _ in range(updates):
        agent.update(sampler.draw(256, agent.length, g))

    def aimless(place: Tensor, goal: Tensor) -> Tensor:
        return torch.rand(len(place), 2, generator=g) * 2 - 1

    chance = success(aimless, g)
    reached = success(lambda place, goal: agent.act(place, goal, explore=False), g)
    assert reached > max(at_least, chance + 0.2), (reached, chance)
