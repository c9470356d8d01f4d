"""What tells one kind of desk from another, as the batch and the environment of `envs.desk` use it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.desk_simulation import DeskSimulation
from envs.experts import Policy


@dataclass(frozen=True)
class DeskKind:
    """A kind of desk. A scene is what `scene` makes of a name, and has that `name`; states are (..., S).

    Attributes:
        horizon: steps of a demonstration. turns: whether actions always turn the gripper. state: S, which begins with the desk's own state.
        scene: builds one by its name. simulation: a copy of it.
        tasks: what an expert can do there, by number. goals: what goals can be asked for there. names: those of any scene.
        to_do: (scene, task or "", changes, rng) -> the task that the start must allow, and what experts do one after the other.
        start: (scene, rng, task or None) -> start state (S,). expert: (scene, task, noise, yaw) -> who does it.
        done: (scene, task, first state, states) -> whether it was done, (...). success: (scene, states, goals) -> (...).
        clean: (scene, what was done, first state, last) -> whether nothing else was moved.
    """

    horizon: int
    turns: bool
    state: int
    scene: Callable[[str], Any]
    simulation: Callable[[Any], DeskSimulation]
    tasks: Callable[[Any], list[str]]
    goals: Callable[[Any], list[str]]
    names: tuple[str, ...]
    to_do: Callable[[Any, str, int, np.random.Generator], tuple[str, list[str]]]
    start: Callable[[Any, np.random.Generator, str | None], np.ndarray]
    expert: Callable[[Any, str, float, bool], Policy]
    done: Callable[[Any, str, np.ndarray, np.ndarray], np.ndarray]
    success: Callable[[Any, np.ndarray, np.ndarray], np.ndarray]
    clean: Callable[[Any, list[str], np.ndarray, np.ndarray], bool]
