"""Which demonstrations show, each in its own scene, what a goal shows here (ours, from none of VAL's papers).

Colours and things differ from scene to scene, the places where they can be and what can happen to them do not. So a demonstration is like a goal where the same
part of the picture changes, and where that part has edges in the same places before and after: a drawer that is opened there was shut.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from envs.columns import Columns
from imagoal.sight import to_tensor
from vision.images import to_float

PARTS = 12  # of a picture's side, of which each changes or does not
SHOWN = 0.3  # of the parts that change in either, that change in both: from there on a demonstration shows what a goal shows
CHANGED = 0.03  # mean absolute difference of the colour that differs most, of 1, from which a part has changed
STEEP = 0.16  # difference of brightness between neighbours, of 1, from which an edge is an edge
FRAMES = 24  # of a demonstration's first half, at most, whose median shows how it began, without the robot that passes


class Demonstrations:
    """Of E trajectories how each begins and ends; looks at every trajectory once.

    Attributes: columns: the trajectories.
    """

    def __init__(self, columns: Columns, device: torch.device):
        self.columns = columns
        before = np.stack([beginning(columns.image[s:e]) for s, e in zip(columns.start, columns.end, strict=True)])
        after = np.stack([columns.image[e - 1] for e in columns.end])
        self._changed = changed(before, after, device)
        self._before, self._after = edges(before, device), edges(after, device)

    def likeness(self, before: UInt8[np.ndarray, "n h w 3"], after: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n E"]:
        """How like each demonstration is to what turns `before` into `after`, in [-1.7, 3]: the share of the parts that change in either that change in both, and the
        correlations of edges before and after, where the goal's picture changes; -inf where that share is below `SHOWN`, as for a goal that shows no change, or
        another scene. The two pictures are to be drawn alike: both as the world shows them, or both through a latent model."""
        device = self._changed.device
        parts = changed(before, after, device)
        both = parts @ self._changed.T
        overlap = both / (parts.sum(1, keepdim=True) + self._changed.sum(1) - both).clamp_min(1.0)
        near = F.max_pool2d(parts.view(-1, 1, PARTS, PARTS), 3, 1, 1)
        where = F.interpolate(near, scale_factor=2).expand(-1, 2, -1, -1).flatten(1)
        alike = overlap + correlation(edges(before, device), self._before, where) + correlation(edges(after, device), self._after, where)
        return torch.where(overlap >= SHOWN, alike, -torch.inf)


def beginning(frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """How a trajectory begins: the median of its first half."""
    half = max(1, len(frames) // 2)
    return np.median(frames[:half : max(1, half // FRAMES)], 0).astype(np.uint8)


def changed(before: UInt8[np.ndarray, "n h w 3"], after: UInt8[np.ndarray, "n h w 3"], device: torch.device) -> Float[Tensor, "n c"]:
    """Which of `PARTS`^2 parts of pictures change: 0 or 1."""
    apart = (to_float(to_tensor(after, device)) - to_float(to_tensor(before, device))).abs().amax(1, keepdim=True)
    return (F.adaptive_avg_pool2d(apart, PARTS) > CHANGED).float().flatten(1)


def edges(pictures: UInt8[np.ndarray, "n h w 3"], device: torch.device) -> Float[Tensor, "n k"]:
    """How much edge, along and across, is in each half of a part, in [0, 1]: whatever the colours."""
    grey = to_float(to_tensor(pictures, device)).mean(1, keepdim=True)
    across, along = (F.pad(grey.diff(dim=dim).abs(), pad) for dim, pad in ((3, (0, 1)), (2, (0, 0, 0, 1))))
    return F.adaptive_avg_pool2d(torch.cat([across, along], 1).clamp_max(STEEP) / STEEP, 2 * PARTS).flatten(1)


def correlation(x: Float[Tensor, "n k"], y: Float[Tensor, "E k"], where: Float[Tensor, "n k"]) -> Float[Tensor, "n E"]:
    """Pearson's, of each x with each y over those places where `where` of x is 1; 0 where one does not vary."""
    count = where.sum(1, keepdim=True).clamp_min(1.0)
    mean_x, mean_y = (where * x).sum(1, keepdim=True) / count, where @ y.T / count
    shared = (where * x) @ y.T / count - mean_x * mean_y
    spread_x = (where * x.square()).sum(1, keepdim=True) / count - mean_x.square()
    spread_y = where @ y.square().T / count - mean_y.square()
    spread = (spread_x.clamp_min(0.0) * spread_y.clamp_min(0.0)).sqrt()
    return torch.where(spread > 1e-6, shared / spread.clamp_min(1e-6), 0.0)
