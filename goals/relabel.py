"""Hindsight: transitions of a replay, each with a goal drawn from a mixture, and the reward that goal implies.

The mixture is six fractions (RIG: 10% original / 50% prior / 40% future; VAL: 40 / 20 / 40; PTP: 30% original / 10% next /
60% future; `similar` is our own). Counts per batch are deterministic and goals of one kind form a contiguous block: the transitions themselves
are uniform, so the order within a batch carries no information.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from goals.batch import Batch, Snippet, empty_batch
from goals.kinds import WeightedRows
from goals.replay import Replay
from goals.rewards import Reward, RewardConfig, SuccessReward
from goals.similar import SIMILAR, similar_endings

KINDS = ("original", "future", "next", "random", "imagined", "similar")
AHEAD, MOST = 8 << 20, 64  # bytes of batches that are drawn at once, and how many at most


@dataclass
class Mixture:
    """Fractions of goals by kind (they are normalised by their sum) and how future and random are drawn."""

    original: float = 0.0
    """the goal the episode was collected for"""
    future: float = 1.0
    """a later state of the same episode, rows t + 1 .. end - 1"""
    next: float = 0.0
    """the next state"""
    random: float = 0.0
    """any state of the same scene (or of the buffer, see random_scope)"""
    imagined: float = 0.0
    """a prior's sample for the same scene or episode, from the sampler's pool"""
    similar: float = 0.0
    """how another episode of the same scene ended, among the four that ended most like this one, where the reward calls that reached (else how this one
    ended): a goal in hindsight is exactly what was done, one that is asked for never is"""
    future_discount: float = 1.0
    """1: uniform over the future; below 1: truncated geometric, offset k with probability ~ future_discount^k"""
    random_scope: str = "scene"
    """scene | buffer"""

    def counts(self, size: int) -> dict[str, int]:
        """Goals of each kind in a batch of `size`: largest remainder, so the counts sum to `size`."""
        share = {kind: getattr(self, kind) for kind in KINDS}
        total = sum(share.values())
        if min(share.values()) < 0 or total <= 0:
            raise ValueError(f"goal fractions must be >= 0 and not all zero, got {share}")
        exact = {kind: size * value / total for kind, value in share.items()}
        counts = {kind: int(value + 1e-9) for kind, value in exact.items()}
        rest = sorted(KINDS, key=lambda kind: counts[kind] - exact[kind])[: size - sum(counts.values())]
        return {kind: counts[kind] + (kind in rest) for kind in KINDS}


@dataclass
class GoalsConfig:
    """The goals room's part of a run's configuration."""

    mixture: Mixture = field(default_factory=Mixture)
    """of the data set's batches and, by default, of practice"""
    reward: RewardConfig = field(default_factory=RewardConfig)
    done_on_reach: bool = False
    """discount 0 where reached (goal reaching itself has no terminals)"""


def future_rows(
    rows: Int[Tensor, "*n"], end: Int[Tensor, "*n"], discount: float, u: Float[Tensor, "*n"]
) -> Int[Tensor, "*n"]:
    """A later row of each row's episode, in rows + 1 .. end - 1 (end exclusive; every row needs a successor), by uniform numbers in [0, 1), in float64.

    Uniform for discount = 1, else offset k in 1 .. m with probability proportional to discount^k (by inverting its
    distribution function, so the truncation is exact).
    """
    following = rows + 1
    room = end - following  # m >= 1
    if discount == 1.0:  # u * m < m for every u < 1: float64 has numbers between them
        return (u * room).to(rows.dtype).add_(following)
    log = math.log(discount)
    skipped = torch.log1p(u * torch.expm1(room.double() * log)) / log
    return torch.minimum(skipped.to(rows.dtype), room - 1).add_(following)


class Sampler(ABC):
    """Where an agent's batches come from."""

    @abstractmethod
    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """A batch of `size` loose transitions."""

    @abstractmethod
    def snippets(self, size: int, length: int, generator: torch.Generator) -> Snippet:
        """`size` pieces of `length` transitions in a row."""

    def draw(self, size: int, length: int, generator: torch.Generator) -> Batch | Snippet:
        """What an agent's `update` takes: `snippets` of its `length`, or with 0 a `sample`."""
        return self.snippets(size, length, generator) if length else self.sample(size, generator)

    def draws(self, count: int, size: int, length: int, generator: torch.Generator) -> Iterator[Batch | Snippet]:
        """What `count` calls of `draw` would give, each valid until the next. Small batches may be drawn several at once: until the last one was taken nothing
        else may draw from the generator, and neither the replay nor the sampler change."""
        for _ in range(count):
            yield self.draw(size, length, generator)


class HindsightSampler(Sampler):
    """Replay + mixture + reward -> Batch.

    A batch's memory is reused: it is valid until the next call with the same size (`Batch.clone` keeps one).

    Every transition takes one random number, which chooses its row and, by what is left of it, its goal. So many batches drawn at once are those that
    would be drawn one by one.

    Args:
        replay: where transitions come from.
        mixture: fractions by kind.
        reward: (next_latent (B, z), goal (B, z)) -> (B,); None: the rewards and terminals that are stored, which a goal in
            hindsight would make wrong, so that the mixture can only be of original ones (or the replay has no latents:
            one task, without goals).
        pool: (S, K, cells) imagined goals in the replay's stored form (codes, or latents for a replay without codes): K for
            each scene or episode; an episode's `pool` index says which row of S is its own.
        done_on_reach: discount 0 where reached. Raises ValueError for a reward without `reached`.
    """

    def __init__(
        self,
        replay: Replay,
        mixture: Mixture,
        reward: Reward | None,
        pool: Tensor | None = None,
        done_on_reach: bool = False,
    ):
        if mixture.random_scope not in ("scene", "buffer"):
            raise ValueError(f"random_scope must be scene or buffer, got {mixture.random_scope!r}")
        if not 0.0 < mixture.future_discount <= 1.0:
            raise ValueError(f"future_discount must lie in (0, 1], got {mixture.future_discount}")
        if done_on_reach and not isinstance(reward, SuccessReward):
            kind = "stored rewards have" if reward is None else f"{type(reward).__name__} has"
            raise ValueError(f"done_on_reach: {kind} no notion of success")
        if reward is None and replay.latent_dim and any(getattr(mixture, k) for k in KINDS if k != "original"):
            raise ValueError("stored rewards are of original goals: set mixture.original to 1 and the others to 0")
        self.replay, self.mixture, self.reward, self.done_on_reach = replay, mixture, reward, done_on_reach
        self.drawn: Replay | WeightedRows = replay  # where transitions are drawn from; assign weighted ones to practise some more than others
        self._buffers: dict[int, tuple[Batch, list[Batch]]] = {}  # of each size, and its parts
        self._checked: tuple[int, Mixture] | None = None
        self._counts: dict[int, dict[str, int]] = {}  # of the mixture that was checked, by size, without zeros
        self._task: int | None = None  # of every episode, where they are all of one
        self._demo: bool | None = None  # likewise
        self._endings: tuple[int, Tensor] | None = None
        self.pool = pool

    @property
    def pool(self) -> Tensor | None:
        """Imagined goals (S, K, cells); assign to replace them."""
        return self._pool

    @pool.setter
    def pool(self, pool: Tensor | None) -> None:
        if pool is not None and (pool.ndim != 3 or pool.shape[2] != self.replay.cells):
            raise ValueError(
                f"the pool of imagined goals has shape {tuple(pool.shape)}, expected (S, K, {self.replay.cells})"
            )
        self._pool = None if pool is None else pool.to(self.replay.device, self.replay.dtype)
        self._checked = None

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """A batch of `size` relabeled transitions, valid until the next call with the same size."""
        return self._batches(1, size, generator)[0]

    def draws(self, count: int, size: int, length: int, generator: torch.Generator) -> Iterator[Batch | Snippet]:
        """As many batches at once as `at_once` allows: of small ones the calls cost more than the memory."""
        if length:
            yield from super().draws(count, size, length, generator)
            return
        while count > 0:
            ready = self._batches(count, size, generator)
            yield from ready
            count -= len(ready)

    def at_once(self, size: int) -> int:
        """How many batches of that size `draws` draws at once, at most."""
        width = 2 * self.replay.obs_dim + self.replay.latent_dim + self.replay.action_dim
        return max(1, min(MOST, AHEAD // (4 * max(1, width * size))))

    def _batches(self, most: int, size: int, generator: torch.Generator) -> list[Batch]:
        """At least one batch and at most `most`, in memory that lies together."""
        if size not in self._buffers:
            replay, room = self.replay, self.at_once(size)
            whole = empty_batch(room * size, replay.obs_dim, replay.action_dim, replay.latent_dim, replay.device)
            self._buffers[size] = whole, [whole.part(i * size, (i + 1) * size) for i in range(room)]
        whole, parts = self._buffers[size]
        count = min(most, len(parts))
        self.sample_into(whole if count == len(parts) else parts[0] if count == 1 else whole.part(0, count * size), generator, count)
        return parts[:count]

    def sample_into(self, batch: Batch, generator: torch.Generator, count: int = 1) -> None:
        """Fill a batch, or a part of one, or `count` batches one after another. Raises ValueError where the mixture asks for goals that are not there."""
        self._check()
        with torch.inference_mode():  # every call costs a sixth less, and nothing here has a gradient
            self._fill(batch, generator, count)

    def _fill(self, batch: Batch, generator: torch.Generator, count: int) -> None:
        replay, z = self.replay, self.replay.latent_dim
        rows, left = self.drawn.rows_at(self._uniform(count, batch.action.shape[0] // count, generator))
        replay.write_observation(rows, batch.obs)
        replay.write_observation(rows + 1, batch.next_obs)
        torch.index_select(replay.action, 0, rows, out=batch.action)
        self._write_labels(rows, batch)
        if z:
            self.write_goals(rows.view(count, -1), left.view(count, -1), batch.goal)
        if self.reward is None:
            torch.index_select(replay.reward, 0, rows, out=batch.reward)
            torch.sub(1.0, replay.terminal.index_select(0, rows), out=batch.discount)
            return
        after = batch.next_obs if z == replay.obs_dim else batch.next_obs[:, :z]
        batch.reward.copy_(self.reward(after, batch.goal))
        batch.discount.fill_(1.0)
        if self.done_on_reach and isinstance(self.reward, SuccessReward):
            batch.discount.sub_(self.reward.reached(after, batch.goal).float())

    def _write_labels(self, rows: Int[Tensor, " n"], batch: Batch) -> None:
        """Task and demo of every row: looked up only where they differ between episodes."""
        replay = self.replay
        if self._task is not None and self._demo is not None:
            batch.task.fill_(self._task)
            batch.demo.fill_(self._demo)
            return
        slot = replay.slot(rows)
        torch.index_select(replay.episode_scene, 0, slot, out=batch.task)
        torch.index_select(replay.episode_demo, 0, slot, out=batch.demo)

    def _uniform(self, count: int, size: int, generator: torch.Generator) -> Float[Tensor, " n"]:
        """A number in [0, 1) for every transition of `count` batches: the same ones whether they are drawn at once or batch by batch."""
        device = self.replay.device
        if device.type == "cpu":  # one after another, however many at once
            return torch.rand(count * size, generator=generator, dtype=torch.float64)
        return torch.cat([torch.rand(size, generator=generator, dtype=torch.float64, device=device) for _ in range(count)])

    def snippets(self, size: int, length: int, generator: torch.Generator) -> Snippet:
        """`size` pieces of `length` transitions in a row, whose first ones are drawn and relabeled as `sample`'s; new memory each time."""
        replay, z = self.replay, self.replay.latent_dim
        if length < 1:
            raise ValueError(f"a snippet has at least 1 transition, not {length}")
        self._check()
        first, left = self.drawn.rows_at(self._uniform(1, size, generator))
        first = first.long()
        steps = torch.arange(length + 1, device=replay.device)
        last = replay.end[first].long()[:, None] - 1
        rows = torch.minimum(first[:, None] + steps, last)  # (size, length + 1)
        valid = rows[:, :-1] < last
        obs = replay.observation(rows.flatten()).view(size, length + 1, -1)
        action = replay.action[rows[:, :-1].flatten()].view(size, length, -1)
        goal = obs.new_empty(size, z)
        if z:
            self.write_goals(first[None], left[None], goal)
        slot = replay.slot(first)
        task, demo = replay.episode_scene[slot], replay.episode_demo[slot]
        if self.reward is None:
            reward, discount = replay.reward[rows[:, :-1]] * valid, 1.0 - replay.terminal[rows[:, :-1]]
            return Snippet(obs, action, reward, discount, valid, goal, task, demo)
        after, aims = obs[:, 1:, :z].flatten(0, 1), goal[:, None].expand(-1, length, -1).flatten(0, 1)
        reward = self.reward(after, aims).view(size, length) * valid
        discount = torch.ones_like(reward)
        if self.done_on_reach and isinstance(self.reward, SuccessReward):
            discount -= self.reward.reached(after, aims).float().view(size, length)
        return Snippet(obs, action, reward, discount, valid, goal, task, demo)

    def write_goals(self, rows: Int[Tensor, "b n"], u: Float[Tensor, "b n"], out: Float[Tensor, "bn z"]) -> None:
        """Write the latents of one goal per transition row of b batches, by uniform numbers: in each batch blocks by kind, in the order of `KINDS`."""
        replay, blocks = self.replay, self._goal_blocks(rows, u)
        if len(rows) == 1:
            for (table, index), part in zip(blocks, out.split([len(index) for _, index in blocks]), strict=True):
                replay.write_states(table, index, part)
            return
        states = [table.index_select(0, index).view(len(rows), -1, replay.cells) for table, index in blocks]
        if replay.lookup is None:
            torch.cat(states, 1, out=out.view(*rows.shape, -1))
        else:
            replay.write_latent(torch.cat(states, 1).flatten(0, 1), out)

    def _goal_blocks(self, rows: Int[Tensor, "b n"], u: Float[Tensor, "b n"]) -> list[tuple[Tensor, Tensor]]:
        """For each kind that the mixture asks for, where its goals are: a table of stored states (N, cells) and an index into it (b * block,)."""
        size = rows.shape[1]
        if size not in self._counts:
            self._counts[size] = {kind: count for kind, count in self.mixture.counts(size).items() if count}
        counts = list(self._counts[size].values())
        parts = zip(self._counts[size], rows.split(counts, 1), u.split(counts, 1), strict=True)
        return [getattr(self, f"_{kind}")(self.replay, some, numbers) for kind, some, numbers in parts]

    # Of rows and numbers (b, block), which lie apart: what a kind does not ask for is not copied.
    def _original(self, replay: Replay, rows: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return (replay.aim, rows.flatten()) if replay.aims else (replay.episode_goal, replay.slot(rows.flatten()))

    def _future(self, replay: Replay, rows: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        end = replay.end.index_select(0, rows.flatten()).view(rows.shape)
        return replay.codes, future_rows(rows, end, self.mixture.future_discount, u).flatten()

    def _next(self, replay: Replay, rows: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return replay.codes, (rows + 1).flatten()

    def _random(self, replay: Replay, rows: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        scene = replay.episode_scene[replay.slot(rows.flatten())] if self.mixture.random_scope == "scene" else None
        return replay.codes, replay.rows_of_scene_at(scene, u.flatten())

    def _imagined(self, replay: Replay, rows: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        assert self._pool is not None  # _check
        each = self._pool.shape[1]
        return self._pool.flatten(0, 1), replay.episode_pool[replay.slot(rows.flatten())] * each + (u * each).long().flatten()

    def _similar(self, replay: Replay, rows: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        assert self._endings is not None  # _check
        return replay.codes, self._endings[1][replay.slot(rows.flatten()), (u * SIMILAR).long().flatten()]

    def _check(self) -> None:
        """Once per change of the replay, the pool or the mixture: what the mixture asks for is there."""
        if self._checked == (self.replay.version, self.mixture):
            return
        live = self.replay.live_slots()
        if self.replay.latent_dim and self.mixture.original > 0 and not bool(self.replay.episode_has_goal[live].all()):
            lacking = int((~self.replay.episode_has_goal[live]).sum())
            raise ValueError(
                f"mixture.original is {self.mixture.original}, but {lacking} of {len(live)} episodes were stored "
                "without the goal they were collected for: add them with goal=, or set original to 0"
            )
        if self.mixture.imagined > 0:
            if self._pool is None:
                raise ValueError(
                    f"mixture.imagined is {self.mixture.imagined}, but the sampler has no pool of imagined goals: "
                    "give it pool=(S, K, cells), or set imagined to 0"
                )
            index = self.replay.episode_pool[live]
            if len(live) and not 0 <= int(index.min()) <= int(index.max()) < len(self._pool):
                raise ValueError(
                    f"episodes point at rows {int(index.min())} .. {int(index.max())} of the pool of imagined goals, "
                    f"which has {len(self._pool)}"
                )
        if self.mixture.similar > 0 and (self._endings is None or self._endings[0] != self.replay.version):
            if not isinstance(self.reward, SuccessReward):
                raise ValueError(f"mixture.similar is {self.mixture.similar}, but the reward does not say when a goal is reached: use a sparse one, or set similar to 0")
            self._endings = self.replay.version, similar_endings(self.replay, self.reward)
        tasks, demos = self.replay.episode_scene[live], self.replay.episode_demo[live]
        self._task = int(tasks[0]) if len(live) and bool((tasks == tasks[0]).all()) else None
        self._demo = bool(demos[0]) if len(live) and bool((demos == demos[0]).all()) else None
        self._counts.clear()
        self._checked = self.replay.version, Mixture(**asdict(self.mixture))


class MixedSampler(Sampler):
    """Two samplers, such as offline and online experience, in one batch.

    Args: first, second; share in [0, 1]: the second's part of a batch (PTP: 0.6 online). `share` may be assigned.
    """

    def __init__(self, first: HindsightSampler, second: HindsightSampler, share: float):
        if (first.replay.obs_dim, first.replay.action_dim) != (second.replay.obs_dim, second.replay.action_dim):
            raise ValueError("the two replays hold different observations or actions")
        self.first, self.second, self.share = first, second, share
        self._buffers: dict[int, Batch] = {}

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """A batch: first the rows of `first`, then round(share * size) of `second`; valid until the next call."""
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share must lie in [0, 1], got {self.share}")
        replay, cut = self.first.replay, size - round(self.share * size)
        if size not in self._buffers:
            self._buffers[size] = empty_batch(size, replay.obs_dim, replay.action_dim, replay.latent_dim, replay.device)
        batch = self._buffers[size]
        if cut > 0:
            self.first.sample_into(batch.part(0, cut), generator)
        if cut < size:
            self.second.sample_into(batch.part(cut, size), generator)
        return batch

    def snippets(self, size: int, length: int, generator: torch.Generator) -> Snippet:
        """Pieces of `length` transitions in a row in the same shares."""
        second = round(self.share * size)
        parts = [sampler.snippets(n, length, generator) for sampler, n in ((self.first, size - second), (self.second, second)) if n]
        return parts[0] if len(parts) == 1 else Snippet(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
