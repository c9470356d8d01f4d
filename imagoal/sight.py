"""What an agent sees of a world: latents of a model, the pictures themselves, or, for the oracle, the simulator's state.

All of them turn what is there into the form a replay stores, (n, cells), and that into latents, (n, z).
"""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from goals.lookup import CodebookLookup, Lookup, PictureLookup
from vision.encoding import width
from vision.images import to_uint8
from vision.protocols import CodeModel, LatentModel


class Sight(Protocol):
    """How a loop sees."""

    cells: int
    """numbers of one stored observation"""
    latent_dim: int
    context_dim: int
    """how many of a latent's last numbers are its scene's, the same in a whole episode"""
    proprio: bool
    """whether the policy also reads the hand's own position"""
    draws: bool
    """whether it needs pictures"""
    device: torch.device

    @property
    def lookup(self) -> Lookup | None:
        """Stored form -> latents, for a replay; None where they are the same."""
        ...

    def look(self, images: np.ndarray | None, states: np.ndarray, first: np.ndarray | None) -> Tensor:
        """Stored form (n, cells) of pictures (n, H, W, 3) uint8 (and, for the oracle only, of states (n, s)); `first` are the first
        pictures of their episodes."""
        ...

    def latents(self, stored: Tensor) -> Tensor:
        """Latents (n, z) of the stored form (n, cells); the next call may overwrite them."""
        ...

    def pictures(self, stored: Tensor, first: np.ndarray | None) -> np.ndarray | None:
        """What they look like (n, H, W, 3) uint8, where that can be drawn."""
        ...


def to_tensor(images: np.ndarray | None, device: torch.device) -> Tensor:
    """Pictures on the device. Raises ValueError where there are none."""
    if images is None:
        raise ValueError("this needs pictures, and none were drawn")
    return torch.from_numpy(np.ascontiguousarray(images)).to(device)


class Eyes:
    """The frozen latent model as the loops use it: pictures -> codes -> latents, codes by table lookup; of a model without codes its flat latents, which
    are stored as they are, and where it needs a context, are of the first picture of the episode too (CC-RIG, thesis ch. 3).

    Args:
        model: the trained model, put into evaluation mode.
        proprio: whether the policy reads the hand's position beside the latent.

    `first` is everywhere the first pictures (n, H, W, 3) of the trajectories, which models that need a context raise ValueError without.
    """

    draws = True

    def __init__(self, model: LatentModel, proprio: bool = True, device: str | torch.device = "cpu") -> None:
        self.model: Any = model.eval().to(device)  # type: ignore[attr-defined]
        self.proprio, self.device = proprio, torch.device(device)
        self.lookup = CodebookLookup(model.code_vectors.detach()) if isinstance(model, CodeModel) else None
        self.cells, self.latent_dim = width(model), model.latent_dim
        self.context_dim = getattr(model.config, "contexts", 0)

    def look(self, images: np.ndarray | None, states: np.ndarray, first: np.ndarray | None) -> Tensor:
        """`codes`; states are not used."""
        assert images is not None
        return self.codes(images, first)

    @torch.no_grad()
    def codes(self, images: np.ndarray, first: np.ndarray | None = None) -> Tensor:
        """What is stored of pictures (n, H, W, 3) uint8: codes (n, cells) int64, or latents (n, z)."""
        shown = to_tensor(images, self.device)
        if self.lookup is not None:
            return self.model.codes(shown).flatten(1)  # type: ignore[no-any-return]
        return self.model.encode(shown, self.context(first)).float()  # type: ignore[no-any-return]

    def latents(self, codes: Tensor) -> Tensor:
        """Latents (n, z) of what is stored (n, cells)."""
        return codes if self.lookup is None else self.lookup(codes.long())

    @torch.no_grad()
    def pictures(self, codes: Tensor, first: np.ndarray | None = None) -> np.ndarray:
        """Decoded pictures (n, H, W, 3) uint8 of what is stored (n, cells)."""
        return to_uint8(self.model.decode(self.latents(codes), self.context(first))).cpu().numpy()

    def context(self, first: np.ndarray | None) -> Tensor | None:
        """The first pictures, for models that need them."""
        return to_tensor(first, self.device) if self.model.needs_context and first is not None else None


class PixelSight:
    """The pictures themselves, flattened "(c h w)": hindsight experience replay on pixels, RIG's baseline."""

    proprio, draws, context_dim = False, True, 0

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self.device, self.lookup = size, device, PictureLookup()
        self.cells = self.latent_dim = 3 * size * size

    def look(self, images: np.ndarray | None, states: np.ndarray, first: np.ndarray | None) -> Tensor:
        """Intensities (n, 3 * H * W) uint8."""
        return to_tensor(images, self.device).permute(0, 3, 1, 2).flatten(1)

    def latents(self, stored: Tensor) -> Tensor:
        """In [0, 1]."""
        return self.lookup(stored)

    def pictures(self, stored: Tensor, first: np.ndarray | None) -> np.ndarray:
        """As they were."""
        return stored.to(torch.uint8).unflatten(1, (3, self.size, self.size)).permute(0, 2, 3, 1).cpu().numpy()


class StateSight:
    """The simulator's state: the oracle that the others are measured against."""

    proprio, draws, context_dim, lookup = False, False, 0, None

    def __init__(self, world: Any, device: torch.device) -> None:
        self.world, self.device = world, device
        self.cells = self.latent_dim = world.oracle(world.states()[:1]).shape[1]

    def look(self, images: np.ndarray | None, states: np.ndarray, first: np.ndarray | None) -> Tensor:
        """What moves, scaled (n, s)."""
        return torch.from_numpy(self.world.oracle(states)).to(self.device)

    def latents(self, stored: Tensor) -> Tensor:
        """They are what is stored."""
        return stored

    def pictures(self, stored: Tensor, first: np.ndarray | None) -> None:
        """Not drawn."""
