"""Remembered plans: codes that solved earlier problems are first guesses for the next (PTP's latent plan buffer).

Released numbers (facts.md): 1,000 plans per level; used once there are 32, for half of the samples, and left out with
probability 0.1. The released ring index resets and shrinks its buffer; this one does not.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class MemoryConfig:
    """When and how much remembered plans take part."""

    capacity: int = 1000  # plans kept; the oldest give way
    ready_after: int = 32  # plans before any is proposed
    share: float = 0.5  # of the planner's samples, in [0, 1]
    skip: float = 0.1  # probability of planning without them, so that new ways are still found


class PlanMemory:
    """A ring of code sequences (K, d). One per level; `state_dict` and `load_state_dict` hold tensors only."""

    def __init__(self, config: MemoryConfig, subgoals: int, latent_dim: int, device: torch.device | str = "cpu"):
        """Raises ValueError for a share or skip outside [0, 1] or a capacity below 1."""
        if config.capacity < 1 or not 0 <= config.share <= 1 or not 0 <= config.skip <= 1:
            raise ValueError(f"need capacity >= 1, share and skip in [0, 1]: {config}")
        self.config = config
        self.codes = torch.zeros(config.capacity, subgoals, latent_dim, device=device)
        self.added = 0  # plans ever added

    def __len__(self) -> int:
        return min(self.added, self.config.capacity)

    def add(self, codes: Float[Tensor, "P K d"]) -> None:
        """Remember the codes of P plans."""
        rows = torch.arange(self.added, self.added + len(codes), device=codes.device) % self.config.capacity
        self.codes[rows[-self.config.capacity :]] = codes[-self.config.capacity :]
        self.added += len(codes)

    def propose(
        self, problems: int, samples: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "P n K d"] | None:
        """Guesses for each of `problems` problems, n = share * samples of them, drawn with replacement; None for no guesses."""
        device = self.codes.device
        skipped = torch.rand((), generator=generator, device=device) < self.config.skip
        count = int(self.config.share * samples)
        if len(self) < max(1, self.config.ready_after) or skipped or count == 0:
            return None
        rows = torch.randint(len(self), (problems, count), generator=generator, device=device)
        return self.codes[rows]

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        return {"codes": self.codes, "added": torch.tensor(self.added)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The reverse. Raises ValueError for another shape."""
        if state["codes"].shape != self.codes.shape:
            raise ValueError(
                f"plan memory of shape {tuple(state['codes'].shape)} does not fit {tuple(self.codes.shape)}"
            )
        self.codes.copy_(state["codes"])
        self.added = int(state["added"])
