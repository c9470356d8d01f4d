"""The gradient updates that every loop makes: draw a batch, update, in float32 or mixed precision."""

from typing import Any

import torch
from torch import Tensor

from agents.agent import Agent
from goals.relabel import Sampler


def learn(agent: Agent, sampler: Sampler, updates: int, batch_size: int, generator: torch.Generator, precision: str = "32") -> dict[str, Tensor]:
    """So many updates on fresh batches; the metrics of the last ones, 0-d tensors.

    precision: "bf16" multiplies matrices in bfloat16; weights, optimisers, losses and targets stay float32. Casts of weights are not kept, for
    the optimisers change them meanwhile.
    """
    metrics: dict[str, Tensor] = {}
    update: Any = agent.update
    with torch.autocast(generator.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        for batch in sampler.draws(updates, batch_size, agent.length, generator):
            metrics |= update(batch)
    return metrics
