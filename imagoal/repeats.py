"""Attempts that do again what was done before, and what is remembered of attempts for that.

What a policy does not do it does not find. A demonstration of another scene that shows what the goal shows (`imagoal.demonstrations`), done again here along the
same path, mostly does it; and what an attempt did here is done again from where it can be: return, then explore (Ecoffet et al. 2021, "First return, then
explore"), by the robot's path rather than by resets. Ours, from none of VAL's papers.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.exploration import Actor
from envs.columns import Columns
from goals.kinds import outcome_weights

DEMONSTRATED = 0.5  # of repeats, that are of demonstrations
LIKE = 8  # demonstrations, at most, of which one is done again for a goal
SAME = 0.5  # of the size of what it changed, in latents: nearer than this a start looks, there, as the attempt's own did
WOBBLE = 0.1  # standard deviation of white noise on the actions, as the desk's experts have

Follow = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # `SceneBatch.follow`


class History:
    """What was imagined for attempts here, and of those that are practised, in their order, what they did. It grows; latents are (n, z).

    Attributes: asked (N, z): imagined goal minus begin, of all attempts; begun, ended (E, z); proprio (E, T, p) before, and action (E, T, a) in every step.
    """

    def __init__(self, latent_dim: int, steps: int, proprio_dim: int, action_dim: int, device: torch.device) -> None:
        self.asked, self.begun, self.ended = (torch.empty(0, latent_dim, device=device) for _ in range(3))
        self.proprio, self.action = (torch.empty(0, steps, width, device=device) for width in (proprio_dim, action_dim))

    def __len__(self) -> int:
        """Attempts that are practised."""
        return len(self.begun)

    def add(self, asked: Tensor, begun: Tensor, ended: Tensor, proprio: Tensor, action: Tensor) -> None:
        """More of them."""
        for name, more in (("asked", asked), ("begun", begun), ("ended", ended), ("proprio", proprio), ("action", action)):
            setattr(self, name, torch.cat([getattr(self, name), more.to(getattr(self, name))]))

    def weights(self) -> Float[Tensor, " E"]:
        """How much each is to be practised, `goals.kinds.outcome_weights`."""
        return self.wanted(self.ended - self.begun)

    def wanted(self, changes: Float[Tensor, "n z"]) -> Float[Tensor, " n"]:
        """How much such changes are to be practised, the same."""
        return outcome_weights(changes, self.ended - self.begun, self.asked)

    def fits(self, begun: Float[Tensor, "n z"]) -> Bool[Tensor, "n E"]:
        """Whether starts look as an attempt's own did where it changed something."""
        changed = self.begun != self.ended
        size = (self.ended - self.begun).square().sum(1)
        away = torch.stack([((one - self.begun).square() * changed).sum(1) for one in begun])
        return away < SAME**2 * size

    def state_dict(self) -> dict[str, Tensor]:
        """Everything."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Back to it."""
        for name, value in state.items():
            setattr(self, name, value.to(getattr(self, name)))


class Repeats:
    """An actor whose rows follow paths, but for those that have none, which act as `base` does.

    Args: follow: of the scene; which (n,): rows that have a path; proprio (n, T, p) and action (n, T, a): the paths.
    """

    def __init__(self, base: Actor, follow: Follow, which: Bool[Tensor, " n"], proprio: Float[Tensor, "n T p"], action: Float[Tensor, "n T a"]):
        self.base, self.follow, self.which, self.proprio, self.action = base, follow, which, proprio, action
        self.step = 0

    def act(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], explore: bool = False, generator: torch.Generator | None = None
    ) -> Float[Tensor, "B a"]:
        """Actions in [-1, 1] of the next step of an episode: call it once a step."""
        action = self.base.act(obs, goal, explore, generator)
        felt = obs[:, -self.proprio.shape[2] :]
        now, path, taken = (x.cpu().numpy() for x in (felt, self.proprio[:, self.step], self.action[:, self.step]))
        along = torch.from_numpy(self.follow(now, path, taken)).to(action)
        self.step += 1
        wobble = WOBBLE * torch.randn(along.shape, generator=generator, device=along.device)
        return torch.where(self.which[:, None], (along + wobble).clamp_(-1.0, 1.0), action)


def repeats(
    base: Actor, follow: Follow, begun: Float[Tensor, "n z"], likeness: Float[Tensor, "n D"], share: float, history: History, demonstrations: Columns,
    generator: torch.Generator,
) -> Repeats:  # fmt: skip
    """Who makes a round of attempts that begin so: of a `share` of them, drawn at random, half do again what a demonstration did that is like their goal (the
    likest twice as often as the next, and so on; those of a likeness of -inf never), the others what an attempt here did that fits, by `History.weights`; where
    no attempt fits, or no demonstration is like the goal, the other of the two; `base` acts where neither does."""
    n, steps, device = len(begun), history.action.shape[1], begun.device
    which = torch.rand(n, generator=generator, device=device) < share
    proprio, action = (torch.zeros(n, *like.shape[1:], device=device) for like in (history.proprio, history.action))
    fits = history.fits(begun)
    likest = likeness.topk(min(LIKE, likeness.shape[1]))
    chance = 0.5 ** torch.arange(likest.values.shape[1], device=device) * likest.values.isfinite()
    shown = chance.any(1)
    chance[~shown] = 1.0  # not used
    demo = likest.indices.gather(1, torch.multinomial(chance, 1, generator=generator))[:, 0].cpu().numpy()
    own = ((torch.rand(n, generator=generator, device=device) >= DEMONSTRATED) | ~shown) & fits.any(1)
    which &= own | shown
    if len(history):
        weights = torch.where(fits, history.weights(), 0.0)
        weights[~fits.any(1)] = 1.0  # not used
        source = torch.multinomial(weights, 1, generator=generator)[:, 0]
        proprio[own], action[own] = history.proprio[source[own]], history.action[source[own]]
    for i in (which & ~own).nonzero()[:, 0].tolist():
        begin = demonstrations.start[demo[i]]
        rows = np.minimum(np.arange(begin, begin + steps), demonstrations.end[demo[i]] - 2)  # at its end it stays
        proprio[i], action[i] = (torch.from_numpy(np.asarray(column[rows])) for column in (demonstrations.proprio, demonstrations.action))
    return Repeats(base, follow, which, proprio, action)
