"""Experience as columns: one tensor per column, whole episodes in a ring, hindsight as index arithmetic.

Row i of an episode is followed by row i + 1; the last row holds the final observation and no action. Because an episode
never wraps around the end of the ring (it starts again at row 0 and leaves a gap), "next" is always row + 1 and "the
future of row t" is the range t + 1 .. end - 1. An episode that is overwritten drops out whole.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from goals.lookup import Lookup, writer
from goals.scenes import SceneRows

ROW_COLUMNS = ("codes", "proprio", "action", "reward", "terminal", "start", "end", "episode", "transition", "aim")
EPISODE_COLUMNS = (
    "episode_start", "episode_end", "episode_scene", "episode_pool", "episode_demo", "episode_has_goal", "episode_goal"
)  # fmt: skip


class Replay:
    """Ring buffer of `capacity` rows.

    Args:
        capacity: rows (observations, final ones included) it can hold.
        cells: width of the stored state: code indices per image with a `lookup`, else the latent's own dimension.
        proprio_dim, action_dim: widths of the other columns (proprio_dim may be 0).
        lookup: (codes (B, cells)) -> latents (B, z). Given, the state is stored as int16 codes (or as its
            `dtype`: bytes for pictures); None, as float32 latents.
        device: where the columns live. Generators given to sampling methods must be on the same device.
        aims: every transition keeps the goal that was aimed at there, not only every episode (plans of subgoals): the column `aim`.
    """

    def __init__(
        self,
        capacity: int,
        cells: int,
        proprio_dim: int,
        action_dim: int,
        lookup: Lookup | None = None,
        device: str | torch.device = "cpu",
        aims: bool = False,
    ):
        self.capacity, self.cells, self.lookup, self.device = capacity, cells, lookup, torch.device(device)
        self.proprio_dim, self.action_dim = proprio_dim, action_dim
        self.dtype = torch.float32 if lookup is None else getattr(lookup, "dtype", torch.int16)
        if lookup is None:  # side by side, so that one gather reads an observation
            self._seen = torch.zeros(capacity, cells + proprio_dim, device=device)
            self.codes, self.proprio = self._seen.split([cells, proprio_dim], 1)
        else:
            self.codes = torch.zeros(capacity, cells, dtype=self.dtype, device=device)
            self.proprio = torch.zeros(capacity, proprio_dim, device=device)
        self.action = torch.zeros(capacity, action_dim, device=device)
        self.aim = torch.zeros(capacity, cells if aims else 0, dtype=self.dtype, device=device)
        self.reward, self.terminal = (torch.zeros(capacity, device=device) for _ in range(2))
        self.start, self.end, self.episode, self.transition = (
            torch.zeros(capacity, dtype=torch.int32, device=device) for _ in range(4)
        )
        self._allocate_episodes(64)
        self.first_transition = self.transitions = 0  # window of the ring `transition` that is live
        self.oldest = self.next_episode = 0  # live episodes are the ids [oldest, next_episode)
        self.position = self.used_rows = 0  # next free row; rows ever written
        self.version = 0  # grows with every change
        self._write_latent = (lambda codes, out: out.copy_(codes)) if lookup is None else writer(lookup)
        probe = torch.zeros(1, cells, dtype=torch.int64, device=device)
        self.latent_dim = cells if lookup is None else int(lookup(probe).shape[1])
        self._scenes: tuple[int, SceneRows] | None = None  # of a version

    def __len__(self) -> int:
        """Valid transitions."""
        return self.transitions

    @property
    def episodes(self) -> int:
        """Live episodes."""
        return self.next_episode - self.oldest

    @property
    def obs_dim(self) -> int:
        """Width of an observation [latent | proprio]."""
        return self.latent_dim + self.proprio_dim

    @property
    def aims(self) -> bool:
        """Whether every transition keeps its own original goal."""
        return self.aim.shape[1] > 0

    # ---------------------------------------------------------------- writing
    def add_episode(
        self,
        codes: Tensor,
        proprio: Tensor,
        action: Tensor,
        goal: Tensor | None = None,
        scene: int = 0,
        pool: int | None = None,
        reward: Tensor | None = None,
        terminal: bool = False,
        demo: bool = False,
    ) -> int:
        """Append one episode of T >= 2 rows (the last is its final observation); returns its id.

        Args: codes (T, cells); proprio (T, p); action (T, a) with an unused last row, or (T - 1, a); goal (cells,) the goal
        it was collected for, or with `aims` (T - 1, cells) that of every transition, of which the last is the episode's; scene or task id; pool: its row in the sampler's pool of imagined goals (default: the scene);
        reward (T - 1,) of an environment, for samplers that do not make their own; terminal: whether it ended there, rather than
        at a time limit; demo: whether it is a demonstration.
        Raises ValueError where shapes, the length or the range of the codes do not fit, or a reward is not finite.
        """
        rows = codes.shape[0]
        self._check("codes", codes, (rows, self.cells))
        self._check("proprio", proprio, (rows, self.proprio_dim))
        self._check("action", action, (rows if action.shape[0] == rows else rows - 1, self.action_dim))
        aim = goal
        if goal is not None and goal.ndim == 2 and self.aims:
            self._check("goal", goal, (rows - 1, self.cells))
            goal = goal[-1]
        if goal is not None:
            self._check("goal", goal, (self.cells,))
        if reward is not None:
            self._check("reward", reward, (rows - 1,))
            if not bool(torch.isfinite(reward).all()):
                raise ValueError("rewards of an episode hold numbers that are not finite")
        if not 2 <= rows <= self.capacity:
            raise ValueError(f"an episode needs 2 to {self.capacity} (the capacity) rows, got {rows}")
        start = self._make_room(rows)
        here = slice(start, start + rows)
        self.codes[here] = self._stored(codes)
        self.proprio[here] = proprio
        self.action[here] = 0.0
        self.action[start : start + action.shape[0]] = action
        self.action[start + rows - 1] = 0.0
        self.reward[here] = self.terminal[here] = 0.0
        if reward is not None:
            self.reward[start : start + rows - 1] = reward
        self.terminal[start + rows - 2] = float(terminal)
        if self.aims and aim is not None:
            self.aim[start : start + rows - 1] = self._stored(aim)
        self.start[here], self.end[here], self.episode[here] = start, start + rows, self.next_episode
        offset = torch.arange(rows - 1, device=self.device, dtype=torch.int32)
        ring = (offset + (self.first_transition + self.transitions) % self.capacity) % self.capacity
        self.transition[ring] = start + offset
        if self.episodes == self.episode_start.shape[0]:
            self._grow_episodes()
        slot = self.next_episode % self.episode_start.shape[0]
        self.episode_start[slot], self.episode_end[slot] = start, start + rows
        self.episode_scene[slot] = scene
        self.episode_pool[slot] = scene if pool is None else pool
        self.episode_demo[slot] = demo
        self.episode_has_goal[slot] = goal is not None
        self.episode_goal[slot] = 0 if goal is None else self._stored(goal)
        self.transitions += rows - 1
        self.next_episode += 1
        self.position = start + rows
        self.used_rows = max(self.used_rows, self.position)
        self.version += 1
        return self.next_episode - 1

    def add_episodes(
        self,
        codes: Tensor,
        proprio: Tensor,
        action: Tensor,
        start: Sequence[int] | Tensor,
        end: Sequence[int] | Tensor,
        scene: Sequence[int] | Tensor | None = None,
        goal: Tensor | None = None,
        pool: Sequence[int] | Tensor | None = None,
    ) -> None:
        """Append episodes given as columns: episode e is rows [start[e], end[e]).

        Args: codes (N, cells), proprio (N, p), action (N, a); start, end, scene, pool (E,); goal (E, cells).
        """
        for e, (a, b) in enumerate(zip(map(int, start), map(int, end), strict=True)):
            self.add_episode(
                codes[a:b],
                proprio[a:b],
                action[a:b],
                None if goal is None else goal[e],
                0 if scene is None else int(scene[e]),
                None if pool is None else int(pool[e]),
            )

    def replace_latents(self, latents: Float[Tensor, "rows z"], goals: Float[Tensor, "e z"] | None = None) -> None:
        """Swap every stored latent and every episode's original goal at once, when the model that encodes them has moved (RIG).

        After it no latent of the old model is left: nothing here mixes the two. A sampler's pool of imagined goals is not here;
        assign it anew. `version` grows.

        Args: latents of the rows 0 .. used_rows - 1 in their order (rows of episodes that dropped out included: anything); goals
        of the live episodes, oldest first (of episodes without one: anything). Keep pictures beside the rows by `episode_rows`.
        Raises ValueError, having changed nothing, for a replay of codes, other shapes, numbers that are not finite, or goals that
        are missing.
        """
        if self.lookup is not None or self.aims:
            raise ValueError("this replay stores codes, or a goal for every transition: only one that stores latents (lookup=None) without aims can replace them")
        live = self.live_slots()
        self._check("latents", latents, (self.used_rows, self.cells))
        if goals is None and bool(self.episode_has_goal[live].any()):
            raise ValueError("some episodes have an original goal: give goals= too, encoded by the same model")
        if goals is not None:
            self._check("goals", goals, (self.episodes, self.cells))
        for name, value in (("latents", latents), ("goals", goals)):
            if value is not None and not bool(torch.isfinite(value).all()):
                raise ValueError(f"the new {name} hold numbers that are not finite")
        self.codes[: self.used_rows] = self._stored(latents)
        if goals is not None:
            self.episode_goal[live] = self._stored(goals)
        self.version += 1

    # ---------------------------------------------------------------- reading
    def episode_rows(self, episode: int) -> slice:
        """Rows of a live episode, final observation included: where columns kept beside the replay, as pictures, put its own.

        Raises ValueError for an episode that dropped out or never was.
        """
        if not self.oldest <= episode < self.next_episode:
            raise ValueError(
                f"episode {episode} is not live: the live ones are {self.oldest} .. {self.next_episode - 1}"
            )
        slot = episode % self.episode_start.shape[0]
        return slice(int(self.episode_start[slot]), int(self.episode_end[slot]))

    def sample_rows(self, n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Rows of n valid transitions, uniform with replacement. Raises ValueError when there are none."""
        self._check_not_empty()
        return self._rows_of(torch.randint(self.transitions, (n,), generator=generator, device=self.device)).long()

    def rows_at(self, u: Float[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
        """Rows (int32) of valid transitions, and numbers to draw something else by, of numbers in [0, 1) in float64: uniform ones give uniform rows, and what
        is left of each number after its row is chosen is uniform in [0, 1) again (of a million rows by 33 of 53 bits). Raises ValueError when there are none."""
        self._check_not_empty()
        place = u * self.transitions  # below it, for u < 1 in the same precision
        number = place.int()
        return self._rows_of(number), place.frac_()

    def latent(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n z"]:
        """Latents of some rows."""
        return self.decode_codes(self.codes.index_select(0, rows))

    def observation(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n o"]:
        """Observations [latent | proprio] of some rows."""
        out = torch.empty(len(rows), self.obs_dim, device=self.device)
        self.write_observation(rows, out)
        return out

    def write_observation(self, rows: Int[Tensor, " n"], out: Float[Tensor, "n o"]) -> None:
        """Write the observations of some rows into `out`."""
        if self.lookup is None:
            torch.index_select(self._seen, 0, rows, out=out)
            return
        self.write_states(self.codes, rows, out[:, : self.latent_dim])
        if self.proprio_dim:
            out[:, self.latent_dim :] = self.proprio.index_select(0, rows)

    def decode_codes(self, codes: Tensor) -> Float[Tensor, "n z"]:
        """Latents (n, z) of stored states (n, cells)."""
        out = torch.empty(codes.shape[0], self.latent_dim, device=self.device)
        self.write_latent(codes, out)
        return out

    def write_latent(self, codes: Tensor, out: Float[Tensor, "n z"]) -> None:
        """Write the latents of stored states (n, cells) into `out`."""
        self._write_latent(codes, out)

    def write_states(self, table: Tensor, index: Int[Tensor, " n"], out: Float[Tensor, "n z"]) -> None:
        """Write the latents of some rows of a table of stored states (N, cells) into `out`."""
        if self.lookup is None:
            torch.index_select(table, 0, index, out=out)
        else:
            self._write_latent(table.index_select(0, index), out)

    def slot(self, rows: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Index into the episode columns (episode_scene, episode_goal, ...) of the episodes that rows belong to."""
        episode, slots = self.episode.index_select(0, rows), self.episode_start.shape[0]
        return episode if self.next_episode <= slots else episode & (slots - 1)  # modulo a power of two

    def live_slots(self) -> Int[Tensor, " e"]:
        """Index into the episode columns of every live episode, oldest first."""
        return torch.arange(self.oldest, self.next_episode, device=self.device) % self.episode_start.shape[0]

    def rows_of_scene(self, scene: Int[Tensor, " n"] | None, n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """One uniform live row (final observations included) of each given scene; of the whole buffer with None."""
        return self.rows_of_scene_at(scene, torch.rand(n, generator=generator, device=self.device, dtype=torch.float64))

    def rows_of_scene_at(self, scene: Int[Tensor, " n"] | None, u: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """`rows_of_scene` by numbers in [0, 1), in float64, that were drawn already."""
        if self._scenes is None or self._scenes[0] != self.version:
            live = self.live_slots()
            self._scenes = self.version, SceneRows(self.episode_scene[live], self.episode_start[live], self.episode_end[live])
        return self._scenes[1].at(scene, u)

    # ---------------------------------------------------------------- checkpoints
    def state_dict(self) -> dict[str, Tensor]:
        """Everything, as flat tensors (views: save them before the next `add_episode`)."""
        counters = [
            self.capacity,
            self.first_transition,
            self.transitions,
            self.oldest,
            self.next_episode,
            self.position,
            self.used_rows,
        ]
        state = {name: getattr(self, name)[: self.used_rows] for name in ROW_COLUMNS if name != "transition"}
        state |= {name: getattr(self, name) for name in ("transition", *EPISODE_COLUMNS)}
        return state | {"counters": torch.tensor(counters)}

    @classmethod
    def restored(cls, state: dict[str, Tensor], lookup: Lookup | None = None, device: str | torch.device = "cpu") -> "Replay":
        """A replay like the one that `state_dict` was taken of. Raises ValueError where the lookup does not store what that did."""
        capacity = int(state["counters"][0])
        cells, proprio, action, aim = (state[name].shape[1] for name in ("codes", "proprio", "action", "aim"))
        replay = cls(capacity, cells, proprio, action, lookup, device, aims=aim > 0)
        replay.load_state_dict(state)
        return replay

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken. Raises ValueError for another capacity, width or dtype."""
        capacity, *counters = (int(x) for x in state["counters"])
        if capacity != self.capacity:
            raise ValueError(f"replay checkpoint: capacity is {capacity}, this replay's is {self.capacity}")
        for name in (*ROW_COLUMNS, *EPISODE_COLUMNS):
            mine, saved = getattr(self, name), state[name]
            if saved.shape[1:] != mine.shape[1:] or saved.dtype != mine.dtype:
                raise ValueError(
                    f"replay checkpoint: {name} is {saved.dtype} {tuple(saved.shape)}, "
                    f"this replay's is {mine.dtype} {tuple(mine.shape)}"
                )
        for name in ROW_COLUMNS:
            getattr(self, name)[: state[name].shape[0]] = state[name].to(self.device)
        for name in EPISODE_COLUMNS:
            setattr(self, name, state[name].to(self.device).clone())
        (self.first_transition, self.transitions, self.oldest, self.next_episode, self.position, self.used_rows) = (
            counters
        )
        self.version += 1

    # ---------------------------------------------------------------- inside
    def _check_not_empty(self) -> None:
        if self.transitions == 0:
            raise ValueError("the replay is empty: add an episode before sampling")

    def _rows_of(self, number: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Rows of live transitions, which are numbered from the oldest on."""
        place = number + self.first_transition if self.first_transition else number
        if self.first_transition + self.transitions > self.capacity:
            place = place % self.capacity
        return self.transition.index_select(0, place)

    def _check(self, name: str, value: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} of an episode has shape {tuple(value.shape)}, expected {shape}")

    def _stored(self, codes: Tensor) -> Tensor:
        if self.lookup is not None and not 0 <= int(codes.min()) <= int(codes.max()) <= torch.iinfo(self.dtype).max:
            top = torch.iinfo(self.dtype).max
            raise ValueError(f"codes must lie in [0, {top}], got [{int(codes.min())}, {int(codes.max())}]")
        return codes.to(self.device, self.dtype)

    def _make_room(self, rows: int) -> int:
        """Row where an episode of `rows` rows goes; the episodes it overwrites drop out, oldest first."""
        start = self.position
        if start + rows > self.capacity:
            while self.episodes and self._oldest_rows()[0] >= start:
                self._drop_oldest()
            start = 0
        while self.episodes:
            a, b = self._oldest_rows()
            if a >= start + rows or b <= start:
                break
            self._drop_oldest()
        return start

    def _oldest_rows(self) -> tuple[int, int]:
        slot = self.oldest % self.episode_start.shape[0]
        return int(self.episode_start[slot]), int(self.episode_end[slot])

    def _drop_oldest(self) -> None:
        start, end = self._oldest_rows()
        self.first_transition = (self.first_transition + end - start - 1) % self.capacity
        self.transitions -= end - start - 1
        self.oldest += 1

    def _allocate_episodes(self, slots: int) -> None:
        """Empty columns of so many episodes, a power of two (`slot`)."""
        self.episode_start, self.episode_end, self.episode_scene, self.episode_pool = (
            torch.zeros(slots, dtype=torch.int64, device=self.device) for _ in range(4)
        )
        self.episode_demo, self.episode_has_goal = (
            torch.zeros(slots, dtype=torch.bool, device=self.device) for _ in range(2)
        )
        self.episode_goal = torch.zeros(slots, self.cells, dtype=self.dtype, device=self.device)

    def _grow_episodes(self) -> None:
        """Twice the slots; live episodes keep their ids (slot = id modulo slots)."""
        old = {name: getattr(self, name) for name in EPISODE_COLUMNS}
        ids = torch.arange(self.oldest, self.next_episode, device=self.device)
        slots = self.episode_start.shape[0]
        self._allocate_episodes(2 * slots)
        for name, column in old.items():
            getattr(self, name)[ids % (2 * slots)] = column[ids % slots]
