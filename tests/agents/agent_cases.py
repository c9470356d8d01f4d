"""What the tests of every agent share: small instances and batches."""

from dataclasses import fields
from typing import Any

import torch

from agents.agent import Agent
from agents.registry import AGENTS
from goals.batch import Batch, Snippet

GRID = (2, 4, 4)
OBS, GOAL, ACTION = 35, 32, 3
CASES = [
    ("bc", {}),
    ("bc", {"policy_std": 0.0, "encoder": "conv", "average_rate": 0.1}),
    ("iql", {}),
    ("iql", {"extraction": "ddpg_bc", "encoder": "conv"}),
    ("iql", {"encoder": "attention"}),
    ("iql", {"policy_std": 0.0, "layer_norm": False, "max_grad_norm": 0.5}),
    ("td3", {"hidden": (24, 16)}),
    ("td3", {"hidden": (24, 16), "encoder": "conv", "layer_norm": True, "max_grad_norm": 0.5}),
    ("td3_bc", {}),
    ("td3_bc", {"encoder": "conv", "layer_norm": False, "max_grad_norm": 0.5}),
    ("td3_bc", {"encoder": "attention", "average_rate": 0.01}),
    ("awr", {"returns_length": 4}),
    ("awr", {"returns_length": 1, "policy_std": 0.0, "normalise": False, "encoder": "conv"}),
    ("one_step", {}),
    ("ddpg", {}),
    ("sac", {}),
    ("sac", {"learn_temperature": False, "bc_weight": 1.0, "encoder": "conv", "average_rate": 0.01}),
    ("cql", {"samples": 3, "encoder": "attention"}),
    ("cql", {"samples": 2, "cloning_updates": 2, "encoder": "conv", "layer_norm": True}),
    ("brac", {}),
    ("brac", {"penalty": "policy", "encoder": "conv"}),
    ("bear", {}),
    ("bear", {"divergence": "kl", "epsilon": 1.0, "encoder": "conv"}),
    ("bcq", {}),
    ("bcq", {"encoder": "conv", "max_grad_norm": 0.5}),
    ("awac", {}),
    ("awac", {"encoder": "conv", "baseline": "sample", "weights": "exp", "advantage_clip": 0.5}),
]
NAMES = ["-".join([name, *map(str, options.values())]) for name, options in CASES]


def make(name: str, seed: int = 0, dims: tuple[int, int, int] = (OBS, GOAL, ACTION), **options: object) -> Agent:
    """A small agent by name."""
    torch.manual_seed(seed)
    agent, config = AGENTS[name]
    known = {field.name for field in fields(config)}
    small = {"hidden": 24, "channels": 4, **options}
    return agent(config(**{k: v for k, v in small.items() if k in known}), *dims, grid_shape=GRID)  # type: ignore[call-arg, arg-type]


def random_snippet(length: int, size: int = 16, seed: int = 0) -> Snippet:
    """Pieces of noise, some of them cut short by the end of an episode."""
    g = torch.Generator().manual_seed(seed)
    valid = torch.rand(size, length, generator=g) < 0.8
    valid[:, 0] = True
    valid = valid.cumprod(1).bool()
    return Snippet(
        obs=torch.randn(size, length + 1, OBS, generator=g),
        action=torch.rand(size, length, ACTION, generator=g) * 2 - 1,
        reward=((torch.rand(size, length, generator=g) < 0.3).float() - 1) * valid,
        discount=torch.ones(size, length),
        valid=valid,
        goal=torch.randn(size, GOAL, generator=g),
        task=torch.zeros(size, dtype=torch.int64),
        demo=torch.zeros(size, dtype=torch.bool),
    )


def batch_for(agent: Agent, seed: int = 0) -> Any:
    """What `agent.update` takes."""
    return random_snippet(agent.length, seed=seed) if agent.length else random_batch(seed=seed)


def random_batch(size: int = 16, seed: int = 0) -> Batch:
    """A batch of noise with rewards -1 and 0."""
    g = torch.Generator().manual_seed(seed)
    return Batch.of(
        obs=torch.randn(size, OBS, generator=g),
        action=torch.rand(size, ACTION, generator=g) * 2 - 1,
        reward=(torch.rand(size, generator=g) < 0.3).float() - 1,
        discount=torch.ones(size),
        next_obs=torch.randn(size, OBS, generator=g),
        goal=torch.randn(size, GOAL, generator=g),
    )
