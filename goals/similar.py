"""Episodes that ended alike: goals that ask for what was done, but never for exactly that (the kind `similar` of goals/relabel.py; ours)."""

import torch
from jaxtyping import Int
from torch import Tensor

from goals.replay import Replay
from goals.rewards import SuccessReward

SIMILAR = 4  # episodes that a goal of this kind is drawn from
COMPARED = 2048  # of a scene's episodes, at most, that an episode is compared with
CHUNK = 4096  # episodes compared at a time


@torch.no_grad()
def similar_endings(replay: Replay, reward: SuccessReward) -> Int[Tensor, "slots k"]:
    """For every episode, by its slot, the last rows of the `SIMILAR` other episodes of its scene that ended nearest to where it ended, its own last row in
    place of those that its own ending does not count as having reached. Of a scene with many episodes `COMPARED`, evenly spread, are looked at."""
    live = replay.live_slots()
    last = replay.episode_end[live].long() - 1
    found = torch.zeros(len(replay.episode_end), SIMILAR, dtype=torch.int64, device=replay.device)
    scene = replay.episode_scene[live]
    for number in scene.unique():
        mine = (scene == number).nonzero()[:, 0]
        others = mine[torch.linspace(0, len(mine) - 1, min(len(mine), COMPARED), device=mine.device).round().long()]
        ends, k = replay.latent(last[others]), min(SIMILAR, len(others) - 1)
        for some in mine.split(CHUNK):
            z, rows = replay.latent(last[some]), last[some][:, None].repeat(1, SIMILAR)
            if k:
                apart = torch.cdist(z, ends).masked_fill_(some[:, None] == others, torch.inf)
                nearest = apart.topk(k, largest=False).indices
                close = reward.reached(z.repeat_interleave(k, 0), ends[nearest.flatten()]).view(-1, k) & apart.gather(1, nearest).isfinite()
                rows[:, :k] = torch.where(close, last[others][nearest], rows[:, :k])
                rows[:, k:] = rows[:, :1]  # fewer episodes than that
            found[live[some]] = rows
    return found
