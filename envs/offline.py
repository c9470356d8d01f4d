"""Offline data of numbers: Minari datasets of states, as columns; written, and added to, in Minari's own layout.

Observations are vectors, or the goal API's dictionary of `observation`, `achieved_goal` and `desired_goal`. Actions are scaled to
[-1, 1] on reading and back on writing. Datasets of pictures are read by `envs.trajectories`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_dataset import MinariDataset
from minari.dataset.minari_storage import MinariStorage

GOAL_KEYS = ("observation", "achieved_goal", "desired_goal")
TOLERANCE = 1e-4  # of the bounds of actions, for what was rounded in storage
Rewards = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Attributes:
        observation: (T + 1, o) float32. achieved: (T + 1, k) float32, k = 0 without goals. goal: (k,) float32.
        action: (T, a) float32 in [-1, 1]. reward: (T,) float32. terminal: whether it ended rather than ran out of time.
    """

    observation: np.ndarray
    achieved: np.ndarray
    goal: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: bool


@dataclass(frozen=True)
class Numbers:
    """N rows of E episodes; the last row of each holds its final observation, an action of zeros and no reward.

    Attributes:
        observation: (N, o) float32. achieved: (N, k) float32, k = 0 without goals. goal: (E, k) float32.
        action: (N, a) float32 in [-1, 1]. reward: (N,) float32. start, end: (E,) rows of each episode.
        terminal: (E,) bool, whether the episode ended rather than ran out of time.
    """

    observation: np.ndarray
    achieved: np.ndarray
    goal: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    start: np.ndarray
    end: np.ndarray
    terminal: np.ndarray

    @property
    def transitions(self) -> int:
        """Transitions in all."""
        return len(self.observation) - len(self.start)

    @property
    def returns(self) -> np.ndarray:
        """Sum of the rewards of each episode, (E,)."""
        return np.add.reduceat(self.reward, self.start)

    def episodes(self) -> Iterator[Episode]:
        """Each, as views of the columns."""
        for a, b, goal, terminal in zip(self.start, self.end, self.goal, self.terminal, strict=True):
            yield Episode(self.observation[a:b], self.achieved[a:b], goal, self.action[a : b - 1], self.reward[a : b - 1], bool(terminal))


def stack(episodes: Sequence[Episode]) -> Numbers:
    """Episodes as columns. Raises ValueError where there are none."""
    if not episodes:
        raise ValueError("there are no episodes")
    length = np.array([len(e.observation) for e in episodes])
    end = length.cumsum()

    def padded(name: str) -> np.ndarray:
        return np.concatenate([np.concatenate([x, np.zeros_like(x[:1])]) for x in (getattr(e, name) for e in episodes)]).astype(np.float32)

    return Numbers(
        np.concatenate([e.observation for e in episodes]).astype(np.float32),
        np.concatenate([e.achieved for e in episodes]).astype(np.float32),
        np.stack([e.goal for e in episodes]).astype(np.float32),
        padded("action"), padded("reward"), end - length, end, np.array([e.terminal for e in episodes]),
    )  # fmt: skip


# ---------------------------------------------------------------- spaces
def checked_spaces(observation: spaces.Space[Any], action: spaces.Space[Any]) -> tuple[int, int, spaces.Box]:
    """Widths of observation and goal (0 without goals), and the space of actions.

    Raises ValueError for pictures, other dictionaries, discrete or unbounded actions.
    """
    if not isinstance(action, spaces.Box) or action.shape is None or len(action.shape) != 1:
        raise ValueError(f"actions must be vectors of numbers, not {action}")
    if not np.isfinite([action.low, action.high]).all():
        raise ValueError(f"actions need finite bounds, so that they can be scaled to [-1, 1], not {action}")
    parts = observation
    if isinstance(observation, spaces.Dict):
        if not set(GOAL_KEYS) <= set(observation.spaces):
            raise ValueError(f"a dictionary of observations needs {', '.join(GOAL_KEYS)}; this one has {', '.join(observation.spaces)}")
        parts = observation["observation"]
    if not isinstance(parts, spaces.Box) or len(parts.shape) != 1:
        raise ValueError(f"observations must be vectors of numbers, not {parts}; for pictures give a model=")
    goal = observation["achieved_goal"].shape[0] if isinstance(observation, spaces.Dict) else 0  # type: ignore[index]
    return parts.shape[0], goal, action


def scale_actions(action: np.ndarray, space: spaces.Box) -> np.ndarray:
    """From the space's bounds to [-1, 1]. Raises ValueError where some lie outside, and says how many."""
    middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
    scaled = (action - middle) / half
    outside = (np.abs(scaled) > 1 + TOLERANCE).any(-1)
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} of {len(scaled)} actions lie outside the bounds of their space, by up to"
            f" {float((np.abs(scaled).max() - 1) * half.max()):.3g}: the data and its environment do not fit, or actions were stored before they were clipped."
            " Clip them in the dataset"
        )
    return np.clip(scaled, -1, 1).astype(np.float32)


def unscale_actions(action: np.ndarray, space: spaces.Box) -> np.ndarray:
    """From [-1, 1] to the space's bounds, in its dtype."""
    return ((space.high + space.low) / 2 + action * (space.high - space.low) / 2).astype(space.dtype)


# ---------------------------------------------------------------- reading
def open_minari(data: str | Path) -> MinariDataset:
    """A dataset's folder, or the id of one in Minari's local store. Raises ValueError where there is none."""
    path = Path(data).expanduser()
    for folder in (path, path / "data"):
        if (folder / "metadata.json").is_file():
            try:
                return MinariDataset(folder.resolve())
            except Exception as error:
                raise ValueError(f"{data} is no Minari dataset that can be read: {error}") from error
    try:
        return minari.load_dataset(str(data))
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{data} is neither the folder of a Minari dataset nor the id of one in Minari's local store (minari list local)") from error


def read_numbers(dataset: MinariDataset) -> Numbers:
    """All of a dataset. Where the desired goal changes within an episode, a new one begins.

    Raises ValueError for pictures, actions outside their bounds, or numbers that are not finite.
    """
    _, goals, space = checked_spaces(dataset.observation_space, dataset.action_space)
    episodes: list[Episode] = []
    for found in dataset.iterate_episodes():
        seen = found.observations
        observation = np.asarray(seen["observation"] if goals else seen, np.float32)
        achieved = np.asarray(seen["achieved_goal"] if goals else observation[:, :0], np.float32)
        desired = np.asarray(seen["desired_goal"] if goals else achieved, np.float32)
        action, reward = scale_actions(np.asarray(found.actions), space), np.asarray(found.rewards, np.float32)
        for name, values in (("observations", observation), ("goals", desired), ("achieved goals", achieved), ("actions", action), ("rewards", reward)):
            if not np.isfinite(values).all():
                raise ValueError(f"episode {found.id}: {int((~np.isfinite(values)).sum())} of its {name} are not finite numbers")
        terminal = bool(np.asarray(found.terminations)[-1]) if len(action) else False
        cuts = (np.flatnonzero((desired[1:-1] != desired[:-2]).any(1)) + 1).tolist()
        for a, b in pairwise([0, *cuts, len(action)]):
            if b > a:
                episodes.append(Episode(observation[a : b + 1], achieved[a : b + 1], desired[a], action[a:b], reward[a:b], terminal and b == len(action)))
    return stack(episodes)


def with_rewards(data: Numbers, rewards: Rewards | None, scale: float = 1.0, shift: float = 0.0) -> Numbers:
    """The data with other rewards: scale * rewards(observation, action, next observation) + shift, of all transitions at once; None: of its own rewards.

    Raises ValueError unless these are finite numbers, one for each transition.
    """
    last = np.zeros(len(data.observation), bool)
    last[data.end - 1] = True
    rows = np.flatnonzero(~last)
    found = data.reward[rows] if rewards is None else np.asarray(rewards(data.observation[rows], data.action[rows], data.observation[rows + 1]), np.float32)
    if found.shape != rows.shape:
        raise ValueError(f"the rewards have shape {found.shape}, and there are {len(rows)} transitions")
    reward = np.zeros(len(last), np.float32)
    reward[rows] = scale * found + shift
    if not np.isfinite(reward).all():
        raise ValueError(f"{int((~np.isfinite(reward)).sum())} of {len(rows)} rewards are not finite numbers")
    return replace(data, reward=reward)


# ---------------------------------------------------------------- writing
def check_can_append(path: str | Path, env: "gymnasium.Env[Any, Any]") -> None:
    """Raises ValueError where a folder holds data of other spaces than the environment's, or something else."""
    path = Path(path).expanduser().resolve()
    if (path / "metadata.json").is_file():
        theirs = MinariDataset(path)
        if (theirs.observation_space, theirs.action_space) != (env.observation_space, env.action_space):
            raise ValueError(f"{path} holds data of other observations or actions than the environment's")
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} is there already and is no Minari dataset: name another folder")


def append_numbers(path: str | Path, episodes: Sequence[Episode], env: "gymnasium.Env[Any, Any]", about: str = "") -> MinariDataset:
    """Adds episodes to the dataset in a folder, which is made where it is missing, with the environment's spaces and spec.

    Raises ValueError where the folder holds data of other spaces, or something else.
    """
    check_can_append(path, env)
    path = Path(path).expanduser().resolve()
    _, goals, space = checked_spaces(env.observation_space, env.action_space)
    if (path / "metadata.json").is_file():
        storage = MinariStorage.read(path)
    else:
        path.mkdir(parents=True, exist_ok=True)
        storage = MinariStorage.new(path, env.observation_space, env.action_space, env.spec)
        storage.update_metadata({
            "dataset_id": f"imagoal/{path.name}-v0".lower(), "minari_version": minari.__version__, "author": {"imagoal"},
            "description": about or f"Episodes of {env.spec.id if env.spec else 'an environment'}, written by imagoal.",
        })  # fmt: skip
    storage.update_episodes(buffer(e, space, goals) for e in episodes)
    return MinariDataset(path)


def buffer(e: Episode, space: spaces.Box, goals: int) -> EpisodeBuffer:
    """An episode as Minari stores it."""
    steps = len(e.action)
    seen: Any = e.observation
    if goals:
        seen = {"observation": e.observation, "achieved_goal": e.achieved, "desired_goal": np.repeat(e.goal[None], steps + 1, 0)}
    last = np.arange(steps) == steps - 1
    return EpisodeBuffer(
        observations=seen, actions=unscale_actions(e.action, space), rewards=list(map(float, e.reward)),
        terminations=list(map(bool, last & e.terminal)), truncations=list(map(bool, last & (not e.terminal))),
    )  # fmt: skip
