"""Collection: scripted and random trajectories over a family's scenes, by several processes, resumable.

Episode e happens in scene e % scenes and draws everything from the generator of (seed, e), so the data depend neither
on the number of processes nor on where a collection was interrupted. Processes write shards (a few episodes of one
scene); once all shards are there they become a Minari dataset and its columns, and are removed.
"""

import contextlib
import copy
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import gymnasium
import numpy as np

from envs.columns import MIN_STEPS, Columns
from envs.experts import Policy
from envs.families import FAMILIES, SceneBatch, SceneSettings, open_scene
from envs.scenes import KINDS, SPLITS
from envs.trajectories import Episode, columns_from_minari, is_minari, write_both

SHARD = 16  # episodes in a shard, at most
ATTEMPTS = 10  # at an episode in which nothing leaves the table
RESTARTS = 3  # of the processes, when one of them dies
_GOLDEN = 0.6180339887498949  # spreads the expert's turns over scenes


@dataclass(frozen=True)
class Plan:
    """What to collect. Nothing else decides what the data are.

    Attributes:
        episodes: trajectories in all. scenes: they go round scenes `split`/0 .. `split`/scenes-1.
        horizon: steps of a trajectory, at most. expert_share: share of trajectories by the scripted expert, in [0, 1].
        linger: steps that an expert's trajectory goes on once the expert has finished; -1: to the horizon.
        elsewhere: share of trajectories that begin with the robot anywhere, instead of where it waits, in [0, 1].
        seed: of everything drawn at random. image_size, kinds, family, yaw: see `envs.families.SceneSettings`.
    """

    episodes: int
    scenes: int
    horizon: int = 30
    expert_share: float = 0.5
    seed: int = 0
    split: str = "train"
    image_size: int = 48
    kinds: tuple[str, ...] = KINDS
    family: str = "tabletop"
    yaw: bool = False
    linger: int = -1
    elsewhere: float = 0.0

    @property
    def settings(self) -> SceneSettings:
        """What its scenes are made with."""
        return SceneSettings(self.family, self.image_size, self.kinds, self.yaw)

    def __post_init__(self) -> None:
        """Raises ValueError for values out of range."""
        if self.episodes < 1 or self.scenes < 1:
            raise ValueError(f"episodes and scenes must be at least 1, not {self.episodes} and {self.scenes}")
        if self.horizon < MIN_STEPS:
            raise ValueError(f"horizon must be at least {MIN_STEPS} steps, not {self.horizon}")
        if self.linger < -1:
            raise ValueError(f"linger must be at least 0 steps, or -1, not {self.linger}")
        for name in ("expert_share", "elsewhere"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {tuple(SPLITS)}, not {self.split!r}")
        FAMILIES[self.settings.family].tasks(f"{self.split}/0", self.settings)  # raises for an unknown family, or kinds

    def by_expert(self, episode: int) -> bool:
        """Whether the expert acts in this episode: evenly spread over a scene's episodes, its turn differing by scene."""
        turn, scene = divmod(episode, self.scenes)
        offset = scene * _GOLDEN % 1
        return int((turn + 1) * self.expert_share + offset) > int(turn * self.expert_share + offset)

    def shards(self) -> list[tuple[int, ...]]:
        """The episodes of each shard: all of one scene."""
        of_scene = [tuple(range(s, self.episodes, self.scenes)) for s in range(min(self.scenes, self.episodes))]
        return [numbers[i : i + SHARD] for numbers in of_scene for i in range(0, len(numbers), SHARD)]


def rollout(world: SceneBatch, policy: Policy, start: np.ndarray, horizon: int, rng: np.random.Generator, linger: int = -1) -> dict[str, np.ndarray]:
    """One trajectory in copy 0 of `world` from a start (S,): arrays image, proprio, state (T + 1), action (T); T is `horizon`, or as many steps as `Plan.linger` says."""
    world.reset(start[None])
    state = world.states()[0]
    policy.reset(state, rng)
    images, states = [world.images()[0]], [state]
    actions: list[np.ndarray] = []
    until = horizon
    while len(actions) < until:
        action = policy.act(state).astype(np.float32)
        world.step(action[None])
        state = world.states()[0]
        images.append(world.images()[0])
        states.append(state)
        actions.append(action)
        if linger >= 0 and until == horizon and policy.finished:
            until = min(horizon, max(len(actions) + linger, MIN_STEPS))
    stacked = np.stack(states)
    return {"image": np.stack(images), "proprio": world.proprio_of(stacked), "state": stacked, "action": np.stack(actions)}


def draw(plan: Plan, number: int, tasks: int, attempt: int = 0) -> tuple[int, np.random.Generator]:
    """What episode `number` begins with: the number of the task the expert shall do (-1: a random policy), whatever the attempt, and its generator."""
    rng = np.random.default_rng([plan.seed, number, 11])
    task = int(rng.integers(tasks)) if plan.by_expert(number) else -1
    return task, rng if attempt == 0 else np.random.default_rng([plan.seed, number, 11, attempt])


def collect_episode(plan: Plan, world: SceneBatch, number: int, tasks: int) -> tuple[Episode, int]:
    """Episode `number` of the plan, and how many were discarded before it in which a thing left the table; `world` must be its scene.

    Raises ValueError when none of `ATTEMPTS` can be kept.
    """
    for attempt in range(ATTEMPTS):
        task, rng = draw(plan, number, tasks, attempt)
        start = world.start_for(task, rng)
        if plan.elsewhere and rng.random() < plan.elsewhere:
            start = world.elsewhere(start, rng)
        columns = rollout(world, world.expert(task), start, plan.horizon, rng, plan.linger)
        if not world.lost()[0]:
            return Episode(**columns, scene=number % plan.scenes, number=number, policy=policy_name(task), thing=task), attempt
    raise ValueError(f"scene {plan.split}/{number % plan.scenes} lost its object in all of {ATTEMPTS} episodes")


def policy_name(task: int) -> str:
    """"expert" where there is a task, else "random"."""
    return "random" if task < 0 else "expert"


def _shard_path(folder: Path, numbers: tuple[int, ...]) -> Path:
    return folder / f"{numbers[0]:06d}-{len(numbers)}.npz"


def collect_shard(plan: Plan, folder: Path, numbers: tuple[int, ...]) -> int:
    """Collects these episodes (all of one scene) into one file, in one move; returns how many."""
    scene = f"{plan.split}/{numbers[0] % plan.scenes}"
    world, tasks = open_scene(scene, 1, plan.settings), len(FAMILIES[plan.family].tasks(scene, plan.settings))
    found = [collect_episode(plan, world, number, tasks) for number in numbers]
    world.close()
    episodes = [episode for episode, _ in found]
    columns = {name: np.concatenate([getattr(e, name) for e in episodes]) for name in ("image", "proprio", "state", "action")}
    steps = np.array([len(e.action) for e in episodes])
    things = np.array([e.thing for e in episodes])
    path = _shard_path(folder, numbers)
    begun = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(begun, "wb") as file:
            np.savez(file, thing=things, steps=steps, discarded=np.array([n for _, n in found]), **columns)  # type: ignore[arg-type]
        os.replace(begun, path)
    finally:
        begun.unlink(missing_ok=True)
    return len(numbers)


def discarded(plan: Plan, folder: Path) -> int:
    """How many episodes the finished shards left out because a thing left the table."""
    return _sum(plan, folder, "discarded")


def _sum(plan: Plan, folder: Path, name: str) -> int:
    """Of a number that finished shards have for every episode."""
    return sum(int(_load(folder, numbers, name)[name].sum()) for numbers in plan.shards())


def _load(folder: Path, numbers: tuple[int, ...], *names: str) -> dict[str, np.ndarray]:
    """Arrays of a finished shard. Raises ValueError if it cannot be read."""
    path = _shard_path(folder, numbers)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"shard {path} cannot be read ({error}); delete it to collect it again") from error


def read_shard(plan: Plan, folder: Path, numbers: tuple[int, ...]) -> Iterator[Episode]:
    """The episodes of a finished shard. Raises ValueError if it cannot be read."""
    columns = _load(folder, numbers, "image", "proprio", "state", "action", "thing", "steps")
    things, ends = columns.pop("thing"), columns.pop("steps").cumsum()
    parts = {name: np.split(column, ends[:-1] if name == "action" else (ends + np.arange(1, len(ends) + 1))[:-1]) for name, column in columns.items()}
    for i, number in enumerate(numbers):
        arrays, thing = {name: part[i] for name, part in parts.items()}, int(things[i])
        yield Episode(**arrays, scene=number % plan.scenes, number=number, policy=policy_name(thing), thing=thing)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C is ignored inside, so that processes begun here leave it to their parent from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to its parent and ends when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Ends this process as soon as the other one is gone."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


class WorkerDied(RuntimeError):
    """A collecting process was killed; what was finished is kept."""


def collect_shards(plan: Plan, folder: Path, workers: int, progress: Callable[[int], None]) -> None:
    """Collects the shards that are missing in `folder`; `progress(n)` is called for every n episodes found or finished.

    Raises:
        WorkerDied: if worker processes die (out of memory, killed) `RESTARTS` times. Finished shards stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*.tmp-*"):
        leftover.unlink()
    todo = []
    for numbers in plan.shards():
        if _shard_path(folder, numbers).is_file():
            progress(len(numbers))
        else:
            todo.append(numbers)
    workers = min(workers or len(os.sched_getaffinity(0)), len(todo))
    if workers <= 1:
        for numbers in todo:
            progress(collect_shard(plan, folder, numbers))
        return
    for _ in range(RESTARTS):
        try:
            _together(plan, folder, todo, workers, progress)
            return
        except BrokenProcessPool as error:  # a crash of the simulator, or killed
            died = error
            todo = [numbers for numbers in todo if not _shard_path(folder, numbers).is_file()]
    raise WorkerDied(
        f"a collecting process died (killed, or out of memory) {RESTARTS} times; what was finished is kept, try fewer workers"
    ) from died


def _together(plan: Plan, folder: Path, todo: list[tuple[int, ...]], workers: int, progress: Callable[[int], None]) -> None:
    """Collects these shards by several processes. Raises BrokenProcessPool when one of them dies; shards finished by then stay."""
    context = multiprocessing.get_context("spawn")  # a forked child cannot use its parent's GL
    with ProcessPoolExecutor(workers, context, initializer=_begin_worker) as pool:
        futures: dict[Future[int], tuple[int, ...]] = {}
        said: set[Future[int]] = set()
        try:
            with _interrupts_ignored():  # workers start with the first task, and inherit this
                futures = {pool.submit(collect_shard, plan, folder, numbers): numbers for numbers in todo}
            for future in as_completed(futures):
                done = future.result()
                said.add(future)
                progress(done)
        except BrokenProcessPool:
            pool.shutdown(wait=True, cancel_futures=True)
            for future, numbers in futures.items():  # finished, and not said yet
                if future not in said and _shard_path(folder, numbers).is_file():
                    progress(len(numbers))
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def assemble(plan: Plan, folder: Path, progress: Callable[[int], None]) -> Columns:
    """Turns the finished `folder`/shards into `folder`/minari and `folder`/columns and removes them; see `collect`."""
    shards = folder / "shards"

    def episodes() -> Iterator[Episode]:
        for numbers in plan.shards():
            yield from read_shard(plan, shards, numbers)
            progress(len(numbers))

    family = FAMILIES[plan.family]
    spec = copy.deepcopy(gymnasium.spec(family.env))
    spec.max_episode_steps = plan.horizon
    given = asdict(plan) | {"kinds": list(plan.kinds)}
    own = {name: given[name] for name in family.own}
    spec.kwargs.update(scene=plan.split, image_size=plan.image_size, scenes=plan.scenes, **own)
    columns = write_both(
        episodes(), folder / "minari", folder / "columns", count=plan.episodes, rows=_sum(plan, shards, "steps") + plan.episodes,
        split=plan.split, meta={**given, "discarded": discarded(plan, shards)}, env_spec=spec,
        description=f"Scripted and random trajectories of {family.description}.",
    )  # fmt: skip
    shutil.rmtree(shards, ignore_errors=True)
    return columns


class Bar(Protocol):
    """Hears how many more episodes are done."""

    def advance(self, n: int = 1) -> None: ...


class Silent:
    """No progress bar."""

    def advance(self, n: int = 1) -> None:
        """Says nothing."""


def silent(label: str, total: int) -> AbstractContextManager[Bar]:
    """A progress bar for nobody."""
    return nullcontext(Silent())


def collect(
    plan: Plan, folder: str | Path, workers: int = 0,
    progress: Callable[[str, int], AbstractContextManager[Bar]] = silent,
) -> Columns:  # fmt: skip
    """Collects the plan into `folder`/minari (a Minari dataset) and `folder`/columns, continuing what is there.

    Args:
        plan: what to collect.
        folder: of the run. An interrupted collection leaves `folder`/shards, which the next call with the same plan
            continues (the caller must make sure that it is the same plan).
        workers: processes, 0 for one per core.
        progress: `with progress(label, episodes) as bar` is entered for collecting and for writing.

    Raises:
        WorkerDied: if a worker process dies. ValueError: if a shard cannot be read. OSError: if the disk is full.
    """
    folder = Path(folder)
    if is_minari(folder / "minari"):  # it appears whole or not at all
        columns = columns_from_minari(folder / "minari", folder / "columns")
        shutil.rmtree(folder / "shards", ignore_errors=True)
        return columns
    with progress("collect", plan.episodes) as bar:
        collect_shards(plan, folder / "shards", workers, bar.advance)
    with progress("write", plan.episodes) as bar:
        return assemble(plan, folder, bar.advance)


def outcomes(plan: Plan, columns: Columns) -> dict[str, dict[str, tuple[int, int]]]:
    """Ground truth: how often a task was done when an episode was over, as (times, of how many).

    Returns:
        {"expert": {task: ..., "all": ...}, "random": {...}}: of the expert's episodes its own task counts (on the tabletop, that the thing stood at its
        other end), of the random ones every task of the scene. Tasks that did not occur are left out.
    """
    counts: dict[str, dict[str, list[int]]] = {"expert": {}, "random": {}}
    state, family, settings = np.asarray(columns.state), FAMILIES[plan.family], plan.settings
    numbers = [number for shard in plan.shards() for number in shard]
    tasks = {s: family.tasks(f"{plan.split}/{s}", settings) for s in set(columns.scene.tolist())}
    for number, begin, end, scene in zip(numbers, columns.start, columns.end, columns.scene.tolist(), strict=True):
        task, _ = draw(plan, number, len(tasks[scene]))
        for one in range(len(tasks[scene])) if task < 0 else [task]:
            done = family.done(f"{plan.split}/{scene}", settings, one, state[begin], state[end - 1])
            for name in (tasks[scene][one], "all"):
                count = counts[policy_name(task)].setdefault(name, [0, 0])
                count[0] += int(done)
                count[1] += 1
    return {who: {name: (hits, n) for name, (hits, n) in sorted(names.items())} for who, names in counts.items()}
