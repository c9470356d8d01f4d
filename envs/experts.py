"""Behaviour for collecting data: a scripted expert that moves one thing to its other end, and an OU random policy."""

import heapq
from typing import Protocol

import numpy as np

from envs.arm_models import HAND_RADIUS as ARM_HAND_RADIUS
from envs.arm_models import Layout
from envs.arm_scenes import STEP as ARM_STEP
from envs.scenes import Thing
from envs.simulation import GAP, HAND_LIMIT, HAND_RADIUS, STEP_SIZE, Simulation, to_world

_CELL = 0.0235  # metres: 21 x 21 cells of the path planner
_N = 21


class Policy(Protocol):
    """Acts from ground truth, one episode at a time."""

    def reset(self, state: np.ndarray, rng: np.random.Generator) -> None: ...

    def act(self, state: np.ndarray) -> np.ndarray: ...

    @property
    def finished(self) -> bool:
        """Whether it has done what it is for."""
        ...


class OUPolicy:
    """Ornstein-Uhlenbeck random walk over actions (size,), clipped to [-1, 1].

    Args:
        theta: pull to zero per step.
        sigma: noise per step.
        size: numbers of an action.
    """

    def __init__(self, theta: float = 0.1, sigma: float = 0.35, size: int = 2) -> None:
        self.theta, self.sigma = theta, sigma
        self._rng, self._action = np.random.default_rng(0), np.zeros(size)

    def reset(self, state: np.ndarray, rng: np.random.Generator) -> None:
        """Starts an episode with a random direction."""
        self._rng, self._action = rng, rng.uniform(-1, 1, len(self._action))

    def act(self, state: np.ndarray) -> np.ndarray:
        """The next action (size,)."""
        self._action = (1 - self.theta) * self._action + self.sigma * self._rng.standard_normal(len(self._action))
        return np.clip(self._action, -1, 1)

    @property
    def finished(self) -> bool:
        """Never."""
        return False


def push_waypoints(thing: Thing, q: float, target: float) -> np.ndarray:
    """Where the hand goes to move a thing from outcome q to target: (k, 2) on the table, k >= 2.

    The first point is reached through free space; the rest are straight moves in contact.
    """
    side = 1.0 if target > q else -1.0  # the direction of motion along the thing's x axis
    now, then = (q - 0.5) * thing.travel, (target - 0.5) * thing.travel
    touch = HAND_RADIUS + 0.001
    if thing.kind in ("block", "puck", "disc"):
        away = thing.size + touch
        points = [(now - side * (away + 0.022), 0.0), (then - side * away, 0.0)]
    elif thing.kind == "lever":
        root, reach, away = -thing.size / 2, thing.size * 0.8, 0.011 + touch
        points = []
        for angle, gap in ((now, away + 0.022), *((a, away) for a in np.linspace(now, then, 5)[1:])):
            # a point beside the bar: along it by `reach`, off it by `gap`
            points.append(
                (np.sin(angle) * reach - side * np.cos(angle) * gap, root + np.cos(angle) * reach + side * np.sin(angle) * gap)
            )
    else:
        front_now, front_then = -0.075 + q * thing.travel, -0.075 + target * thing.travel
        if side > 0:  # hook: into the gap from the side, then pull
            inside = GAP / 2
            y = 0.026
            points = [(front_now + inside, 0.075), (front_now + inside, y), (front_then + GAP - touch, y)]
            points += [(front_then + inside, y), (front_then + inside, 0.085)]  # and out again
        else:  # push the handle's bar
            bar = GAP + 0.012
            points = [(front_now + bar + touch + 0.022, 0.0), (front_then + bar + touch, 0.0)]
    return to_world(thing, np.array(points))


def find_path(simulation: Simulation, state: np.ndarray, goal: np.ndarray) -> list[np.ndarray]:
    """A path for the hand through free space to `goal` (2,): points, the last one the goal itself (A* on a grid).

    Falls back to the straight line where the grid has no free way.
    """
    axis = np.linspace(-HAND_LIMIT, HAND_LIMIT, _N)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    free = simulation.free(state, grid, margin=0.006)

    def nearest(point: np.ndarray) -> tuple[int, int]:
        distance = np.where(free, np.hypot(*(grid - point).transpose(2, 0, 1)), np.inf)
        i, j = np.unravel_index(int(np.argmin(distance)), distance.shape)
        return int(i), int(j)

    begin, end = nearest(state[:2]), nearest(goal)
    cost, came = {begin: 0.0}, {}
    queue = [(0.0, begin)]
    while queue:
        _, cell = heapq.heappop(queue)
        if cell == end:
            break
        for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            near = (cell[0] + di, cell[1] + dj)
            if not (0 <= near[0] < _N and 0 <= near[1] < _N and free[near]):
                continue
            total = cost[cell] + (di * di + dj * dj) ** 0.5
            if total < cost.get(near, np.inf):
                cost[near], came[near] = total, cell
                left = max(abs(near[0] - end[0]), abs(near[1] - end[1]))
                heapq.heappush(queue, (total + left, near))
    if end not in cost:
        return [goal]
    cells = [end]
    while cells[-1] != begin:
        cells.append(came[cells[-1]])
    return [grid[c] for c in cells[-2::-1]] + [goal]


class ScriptedExpert:
    """Moves one thing to its other end: around obstacles to the contact, then the contact moves, then drifts away.

    Args:
        simulation: the scene it acts in (it reads the ground truth).
        noise: standard deviation of Gaussian noise on every action.
        thing: which thing to move; None draws one per episode.
    """

    def __init__(self, simulation: Simulation, noise: float = 0.15, thing: int | None = None) -> None:
        self.simulation, self.noise, self.thing = simulation, noise, thing
        self._rng = np.random.default_rng(0)
        self._points: list[np.ndarray] = []
        self._free_points = 0
        self._drift = OUPolicy(sigma=0.25)

    @property
    def finished(self) -> bool:
        """Whether the thing has been moved, as it last saw: it drifts away."""
        return not self._points

    def reset(self, state: np.ndarray, rng: np.random.Generator) -> None:
        """Plans the episode from its first state."""
        self._rng = rng
        things = self.simulation.scene.things
        index = int(rng.integers(len(things))) if self.thing is None else self.thing
        q = float(state[2 + index])
        target = 0.0 if q > 0.5 else 1.0
        contact = push_waypoints(things[index], q, target)
        path = find_path(self.simulation, state, contact[0])
        self._points = path + list(contact[1:])
        self._free_points = len(path)
        self._drift.reset(state, rng)

    def act(self, state: np.ndarray) -> np.ndarray:
        """The next action (2,) in [-1, 1]."""
        hand = state[:2].astype(np.float64)
        while self._points:
            close = 0.016 if self._free_points > 1 else 0.008
            if np.hypot(*(self._points[0] - hand)) > close:
                break
            self._points.pop(0)
            self._free_points -= 1
        if not self._points:
            return self._drift.act(state)
        step = (self._points[0] - hand) / STEP_SIZE * 1.3
        step /= max(1.0, float(np.abs(step).max()))
        return np.clip(step + self.noise * self._rng.standard_normal(2), -1, 1)


class PuckPusher:
    """Pushes the puck of `envs.arm_scenes` to its goal, then the hand to its own: around the puck to the side away from the goal, through it, and away.

    Args: layout: of the scene; noise: standard deviation of Gaussian noise on every action.
    """

    def __init__(self, layout: Layout, noise: float = 0.0, seed: int = 0) -> None:
        self.touch, self.step, self.noise = layout.radius + ARM_HAND_RADIUS, ARM_STEP, noise
        self._rng = np.random.default_rng(seed)

    def __call__(self, observation: np.ndarray, achieved: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Actions (n, 2) in [-1, 1] for states (hand, puck, ...) and goals (n, S)."""
        out = np.zeros((len(goal), 2))
        for i, (state, aim) in enumerate(zip(observation, goal, strict=True)):
            out[i] = (self._target(state[:2], state[2:4], aim[:2], aim[2:4]) - state[:2]) / self.step
        largest = np.maximum(np.abs(out).max(1, keepdims=True), 1.0)  # the direction is kept
        return np.clip(out / largest + self.noise * self._rng.standard_normal(out.shape), -1, 1)

    def _target(self, hand: np.ndarray, puck: np.ndarray, hand_goal: np.ndarray, puck_goal: np.ndarray) -> np.ndarray:
        """Where the hand goes next."""
        push = puck_goal - puck
        left = float(np.linalg.norm(push))
        if left < 0.012:
            return self._around(hand, puck, hand_goal)
        push = push / left
        from_puck = hand - puck
        behind = float(-from_puck @ push)
        aside = from_puck + behind * push
        if behind > 0.7 * self.touch and np.linalg.norm(aside) < 0.25 * self.touch:
            return puck + push * (min(left, self.step) - self.touch) - 0.3 * aside
        return self._around(hand, puck, puck - push * (self.touch + 0.012))

    def _around(self, hand: np.ndarray, puck: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The way to a target past the puck: straight where it is free, else along a circle about the puck."""
        room = self.touch + 0.008
        way = target - hand
        length = float(np.linalg.norm(way))
        if length < 1e-6:
            return target
        t = float(np.clip((puck - hand) @ way / length**2, 0, 1))
        if np.linalg.norm(hand + t * way - puck) >= self.touch + 0.004 or t in (0.0, 1.0):
            return target
        radial = (hand - puck) / max(float(np.linalg.norm(hand - puck)), 1e-6)
        tangent = np.array([-radial[1], radial[0]])
        tangent = tangent if tangent @ way > 0 else -tangent
        return puck + room * radial + self.step * tangent
