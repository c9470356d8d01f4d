"""How much each outcome is practised: kinds of change alike, of those that are imagined at all (ours, from none of the papers).

Attempts in one scene bring about few kinds of outcomes, some of them by the hundred and some a handful of times, and half of them nothing that anybody would
ask for: a thing pushed aside, a drawer left half open. Two changes are of a kind where they point the same way in latents (cosine), however large: a small
thing's are as telling as a large one's. An outcome's weight is

    w = (asked + 1) / (asked + DOUBT) / max(FEW, alike),

`alike` the outcomes that changed the same (itself among them), `asked` the imagined goals that show that change.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from goals.replay import Replay

ALIKE, ASKED = 0.5, 0.7  # cosines, from which outcomes are of a kind, and from which a goal shows it
FEW = 8  # outcomes of a kind, up to which each counts the same: what was had once is no kind of its own
DOUBT = 3.0  # of the goals that show it: what was never imagined counts a third


def outcome_weights(changes: Float[Tensor, "N z"], practised: Float[Tensor, "M z"], imagined: Float[Tensor, "K z"]) -> Float[Tensor, " N"]:
    """Weights, float64, positive, of outcomes by what they change (end minus begin), beside what is practised, and what goals that were imagined would have changed. What changes nothing is of no kind."""
    own, had, goals = (F.normalize(x, dim=1) for x in (changes, practised, imagined))
    alike = torch.cat([(some @ had.T > ALIKE).sum(1) for some in own.split(1024)])
    asked = torch.cat([(some @ goals.T > ASKED).sum(1) for some in own.split(1024)])
    return (asked + 1) / (asked + DOUBT) / alike.clamp_min(FEW).double()


class WeightedRows:
    """Transitions of a replay, those of an episode as likely as its weight says: stands in for `Replay.rows_at` in a `HindsightSampler`.

    Args: weights (E,) of the live episodes, oldest first, positive. It is of the replay as it is now: weigh anew when that has changed.
    Raises ValueError for another number of weights, or where none is positive.
    """

    def __init__(self, replay: Replay, weights: Float[Tensor, " E"]):
        if weights.shape != (replay.episodes,):
            raise ValueError(f"{replay.episodes} episodes, but weights of shape {tuple(weights.shape)}")
        places = torch.arange(len(replay), dtype=torch.float64, device=replay.device).add_(0.5) / max(1, len(replay))
        self._rows = replay.rows_at(places)[0]  # every transition once
        self._below = weights.to(replay.device, torch.float64)[replay.episode[self._rows].long() - replay.oldest].cumsum(0)
        if not float(self._below[-1]) > 0:
            raise ValueError("no episode has a positive weight")
        self._below = self._below / self._below[-1]

    def rows_at(self, u: Float[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
        """As `Replay.rows_at`: rows (int32) by numbers in [0, 1) in float64, and what is left of each number, uniform again."""
        index = torch.searchsorted(self._below, u, right=True).clamp_(max=len(self._below) - 1)
        upper = self._below[index]
        lower = torch.where(index > 0, self._below[(index - 1).clamp_min(0)], 0.0)
        return self._rows[index], ((u - lower) / (upper - lower)).clamp_(0.0, 1.0 - 1e-9)
