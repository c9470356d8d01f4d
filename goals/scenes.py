"""Where the rows of each scene are: uniform rows of a scene by one random number each."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class SceneRows:
    """Rows of E episodes ordered by scene, as ranges: per scene its id, the rows before it and its own; per episode the rows before it and its first row.

    Building it takes O(E log E). Args: scene, start, end (E,): each episode's scene and its rows, end exclusive.
    """

    def __init__(self, scene: Int[Tensor, " E"], start: Int[Tensor, " E"], end: Int[Tensor, " E"]):
        ordered, order = scene.sort(stable=True)
        self.first = start[order]
        length = end[order] - self.first
        after = length.cumsum(0)
        self.before = after - length
        self.scenes, episodes = ordered.unique_consecutive(return_counts=True)
        top = after[episodes.cumsum(0) - 1]
        self.low = torch.cat([top.new_zeros(1), top[:-1]])
        self.total, self.all = top - self.low, after[-1]

    def at(self, scene: Int[Tensor, " n"] | None, u: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """One row of each given scene, of any scene with None, by numbers in [0, 1) in float64: uniform ones give uniform rows."""
        if scene is None:
            low, size = torch.zeros((), device=u.device), self.all
        else:
            index = torch.searchsorted(self.scenes, scene)
            low, size = self.low[index], self.total[index]
        place = (low + torch.minimum((u * size).floor(), size - 1)).long()
        episode = torch.searchsorted(self.before, place, right=True) - 1
        return self.first[episode] + place - self.before[episode]
