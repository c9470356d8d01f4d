"""Agents for latents that are flat, with and without a grid."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from agents.td3 import TD3, TD3Config
from imagoal.loading import make_agent


def eyes(**model: object) -> Any:
    return SimpleNamespace(model=SimpleNamespace(**model), proprio=True, latent_dim=8)


def test_a_flat_latent_needs_no_grid() -> None:
    for model in ({}, {"grid_shape": None}, {"grid_shape": (2, 2, 2)}):
        agent = make_agent("td3", TD3Config(hidden=(8, 8)), eyes(**model), 2, torch.device("cpu"), proprio_dim=2)
        assert isinstance(agent, TD3) and (agent.obs_dim, agent.goal_dim) == (10, 8)


def test_an_encoder_that_needs_a_grid_says_so() -> None:
    with pytest.raises(ValueError, match="encoder conv needs latents on a grid"):
        make_agent("td3", TD3Config(encoder="conv"), eyes(), 2, torch.device("cpu"))
    make_agent("td3", TD3Config(encoder="conv"), eyes(grid_shape=(2, 2, 2)), 2, torch.device("cpu"))
