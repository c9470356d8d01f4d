"""The scenes of RIG and CC-RIG as a batch engine: n copies of a family stepped in lockstep, each in its own scene.

A copy is its state vector: positions, and what its scene looks like. Nothing else is remembered between steps, so a
state rebuilds scene and picture, and any number of copies share one model.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Protocol

import mujoco
import numpy as np

from envs.arm_models import PUSH, PUSH_COLORS, PUSH_TWO, REACH
from envs.arm_scenes import ArmScenes
from envs.navigation import Navigation
from envs.render import Camera


class Family(Protocol):
    """What a family of scenes does with states (S,) or (..., S); see `ArmScenes` and `Navigation`."""

    name: str
    horizon: int
    varied: bool
    moving: int
    scene_dims: int
    state_dim: int
    low: np.ndarray
    high: np.ndarray

    def check(self, states: np.ndarray) -> None: ...
    def advance(self, state: np.ndarray, action: np.ndarray) -> np.ndarray: ...
    def pose(self, state: np.ndarray) -> tuple[mujoco.MjModel, mujoco.MjData]: ...
    def sample_start(self, rng: np.random.Generator) -> np.ndarray: ...
    def sample_goal(self, start: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...
    def distances(self, states: np.ndarray, goals: np.ndarray) -> dict[str, np.ndarray]: ...
    def success(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray: ...
    def oracle(self, states: np.ndarray) -> np.ndarray: ...


def _multi_pusher(objects: int | None = 2) -> Family:
    return ArmScenes("multi_pusher", PUSH_TWO, horizon=100, objects=objects)


FAMILIES: dict[str, Callable[..., Family]] = {
    "reacher": lambda: ArmScenes("reacher", REACH, horizon=50),
    "pusher": lambda: ArmScenes("pusher", PUSH, horizon=50),
    "multi_pusher": _multi_pusher,
    "multicolor_pusher": lambda: ArmScenes("multicolor_pusher", PUSH_COLORS, horizon=50, varied=True),
    "navigation": Navigation,
}
OPTIONS: dict[str, tuple[str, ...]] = {"multi_pusher": ("objects",), "navigation": ("layouts",)}


def _near(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def make_family(name: str, **options: Any) -> Family:
    """The family of this name; see `make_world`."""
    if name not in FAMILIES:
        raise ValueError(f"unknown world {name!r}: there are {', '.join(FAMILIES)}{_near(str(name), list(FAMILIES))}")
    known = OPTIONS.get(name, ())
    for option in options:
        if option not in known:
            there = f"its options are {', '.join(known)}" if known else "it has no options"
            raise ValueError(f"{name} knows no option {option!r}: {there}{_near(option, list(known))}")
    return FAMILIES[name](**options)


class World:
    """`n` copies of a family's scenes stepped in lockstep, each in its own scene.

    Args:
        family: what kind of scene, from `make_family`.
        n: how many copies.
        image_size: side of the pictures in pixels.

    Attributes:
        name, horizon: of the family, and the suggested steps of an episode.
        varied: whether every episode has another look.
        state_dim, scene_dims: numbers of a state, and how many of them, at its end, are the scene's and never change.

    Raises:
        ValueError: if `n` or `image_size` is out of range.
    """

    action_dim = 2

    def __init__(self, family: Family, n: int, image_size: int = 48) -> None:
        if n < 1:
            raise ValueError(f"a world needs at least 1 copy, not {n}")
        self.family, self.n, self.image_size = family, n, image_size
        self.name, self.horizon, self.varied = family.name, family.horizon, family.varied
        self.state_dim, self.scene_dims = family.state_dim, family.scene_dims
        self._cameras: dict[int, Camera] = {}
        # seen once, which also makes the first camera and so refuses a wrong size here
        self._states = np.repeat(family.sample_start(np.random.default_rng(0))[None], n, 0)
        self.picture(self._states[:1])

    def sample(self, seeds: list[int] | np.ndarray | range) -> tuple[np.ndarray, np.ndarray]:
        """Start and goal states (m, S) float32 for m seeds: the same seeds give the same episodes anywhere."""
        starts, goals = [], []
        for seed in seeds:
            rng = np.random.default_rng([int(seed), 13])
            starts.append(self.family.sample_start(rng))
            goals.append(self.family.sample_goal(starts[-1], rng))
        return np.stack(starts), np.stack(goals)

    def checked(self, states: np.ndarray) -> np.ndarray:
        """Own float32 states (m, S). Raises ValueError if they are not finite, or not of such scenes."""
        states = np.array(states, np.float32)
        if states.ndim != 2 or states.shape[1] != self.state_dim or not np.isfinite(states).all():
            raise ValueError(f"{self.name}: states must be finite numbers (m, {self.state_dim}), not {states.shape}")
        self.family.check(states)
        return states

    def reset(self, states: np.ndarray) -> None:
        """Puts copy i in states[i], at rest; states is (n, S). Raises ValueError if they are not states."""
        states = self.checked(states)
        if len(states) != self.n:
            raise ValueError(f"{self.name}: {self.n} copies need {self.n} states, not {len(states)}")
        self._states = states

    def step(self, actions: np.ndarray) -> None:
        """Moves every copy by its action (n, 2), clipped to [-1, 1]. Raises ValueError if they are not finite numbers."""
        actions = np.asarray(actions, np.float64)
        if actions.shape != (self.n, 2) or not np.isfinite(actions).all():
            raise ValueError(f"{self.name}: actions must be finite numbers ({self.n}, 2), not {actions.shape}")
        for i, action in enumerate(np.clip(actions, -1, 1)):
            self._states[i] = self.family.advance(self._states[i], action)

    def states(self) -> np.ndarray:
        """(n, S) float32, for evaluation, probes and the oracle only."""
        return self._states.copy()

    def images(self) -> np.ndarray:
        """(n, size, size, 3) uint8."""
        return self._drawn(self._states)

    def picture(self, states: np.ndarray) -> np.ndarray:
        """Pictures (m, size, size, 3) uint8 of given states (m, S), without touching the copies."""
        return self._drawn(self.checked(states))

    def _drawn(self, states: np.ndarray) -> np.ndarray:
        pictures = np.empty((len(states), self.image_size, self.image_size, 3), np.uint8)
        for picture, state in zip(pictures, states, strict=True):
            model, data = self.family.pose(state)
            if id(model) not in self._cameras:
                self._cameras[id(model)] = Camera(model, self.image_size)
            self._cameras[id(model)].render_into(data, picture)
        return pictures

    def distances(self, states: np.ndarray, goals: np.ndarray) -> dict[str, np.ndarray]:
        """Ground truth, for evaluation only: metres of each thing from its goal, (...) each, for states and goals (..., S)."""
        return self.family.distances(np.asarray(states), np.asarray(goals))

    def distance(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """The papers' final distance to goal, (...) metres: of the objects and the hand, summed (seed 003, section 2.5)."""
        return np.sum(list(self.distances(states, goals).values()), axis=0)

    def success(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Ground truth, for evaluation only, a mask (...): 3 cm for each of hand and pucks (their sum counts), 6 cm for the point."""
        return self.family.success(np.asarray(states), np.asarray(goals))

    def oracle(self, states: np.ndarray) -> np.ndarray:
        """The dynamic numbers of states (..., S) scaled to about [-1, 1], float32: what the oracle baseline sees."""
        return self.family.oracle(np.asarray(states))


def make_world(name: str, n: int, image_size: int = 48, **options: Any) -> World:
    """`n` copies of a family: reacher, pusher, multi_pusher, multicolor_pusher or navigation.

    Args:
        name: of the family.
        n: how many copies. image_size: pixels a side, at most 256.
        options: of multi_pusher `objects`, 0 to 2 pucks or None for another number in each episode; of navigation
            `layouts`, the numbers (0 to 14) of the layouts to draw from.

    Raises:
        ValueError: for an unknown name or option, or a value out of range.
    """
    return World(make_family(name, **options), n, image_size)
