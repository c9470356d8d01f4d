"""What keeps practice from forgetting: in a part of a batch the policy as it was before practice says what to do.

Practice in one scene shows few outcomes, and a policy that clones its attempts comes to do them whatever the goal is: the other goals of that scene are in no data.
So some of the states that were practised get other goals of the scene, and the action of the policy before practice: its own knowledge, rehearsed where it would be
lost (learning without forgetting, Li and Hoiem 2016). Ours, from none of the papers.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.agent import Agent
from goals.batch import Batch, Snippet
from goals.relabel import MixedSampler, Sampler


class Recall(Sampler):
    """Batches of a mixed sampler, in `share` of whose practised rows goal and action are the teacher's.

    Args: mixed: prior data and practice; agent: whose present policy is kept as the teacher; goals: (n, z), of the scene; share in [0, 1].
    """

    def __init__(self, mixed: MixedSampler, agent: Agent, goals: Float[Tensor, "n z"], share: float):
        self.mixed, self.goals, self.share = mixed, goals, share
        self.teacher = copy.deepcopy(agent).eval().requires_grad_(False)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """A batch; its rewards are not those of the goals rehearsed, so only agents that clone can learn from it. Valid until the next call."""
        batch = self.mixed.sample(size, generator)
        practised = round(self.mixed.share * size)
        rows = batch.part(size - practised, size - practised + round(self.share * practised))
        if len(rows.goal):
            rows.goal.copy_(self.goals[torch.randint(len(self.goals), (len(rows.goal),), generator=generator, device=self.goals.device)])
            rows.action.copy_(self.teacher.act(rows.obs, rows.goal))
        return batch

    def snippets(self, size: int, length: int, generator: torch.Generator) -> Snippet:
        """Raises ValueError: agents that learn from returns cannot recall."""
        raise ValueError("only agents that clone single steps can recall")


def clones_only(agent: Any) -> bool:
    """Whether an agent learns nothing from rewards."""
    return not hasattr(agent, "critic") and not hasattr(agent, "value") and agent.length == 0
