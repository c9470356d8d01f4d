"""What a context that lies on the grid of codes adds to a `PixelCNN` (`context_blocks`): a map that tells every cell what is near it, and logits of codes by their
vectors instead of their numbers."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vision.grids import ResidualBlock


class ContextMap(nn.Module):
    """What a context on the grid says to every cell: `out` numbers each, from a residual ConvNet that knows where it is."""

    def __init__(self, channels: int, width: int, blocks: int, grid: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(width, grid, grid))
        self.blocks = nn.Sequential(*(ResidualBlock(width, width) for _ in range(blocks)))
        self.out = nn.Linear(width, out)

    def forward(self, grids: Float[Tensor, "n c g g"]) -> Float[Tensor, "n g g out"]:
        """Channels last, as the layers want it."""
        return self.out(F.relu(self.blocks(self.enter(grids) + self.place)).permute(0, 2, 3, 1))


class VectorHead(nn.Module):
    """Logits of codes by their vectors e: features(h) . features(e), less a learned weight times |e - x|^2, x the context's
    vector at the same cell, and with `copy` more by a learned number for the code that the context has there. The second says "much as it
    was" for every code at once, also ones this cell never had; the third "just as it was", which most cells are."""

    def __init__(self, width: int, hidden: int, codes: int, channels: int, copy: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.features = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(codes))
        self.stay = nn.Linear(hidden, 1)
        self.copy = nn.Linear(hidden, 1) if copy else None

    def keys(self, vectors: Float[Tensor, "k c"]) -> Float[Tensor, "hidden k"]:
        """What a cell's features are matched with, of all codes."""
        features = self.features(vectors)
        return features.T / features.shape[-1] ** 0.5

    def forward(
        self,
        h: Float[Tensor, "*b w"],
        x: Float[Tensor, "*b c"],
        here: Int[Tensor, "*b"],
        vectors: Float[Tensor, "k c"],
        keys: Float[Tensor, "hidden k"],
    ) -> Float[Tensor, "*b k"]:
        """From a cell's features, the context's vector and code there, and the vectors of all codes with their `keys`."""
        f = F.relu(self.hidden(h))
        match = f @ keys + self.bias
        distance = x.square().sum(-1, keepdim=True) - 2 * x @ vectors.T + vectors.square().sum(1)
        logits = match - F.softplus(self.stay(f)) * distance
        return logits if self.copy is None else logits.scatter_add(-1, here[..., None], self.copy(f).to(logits.dtype))
