"""Scripted experts that work in stages, as at any desk: raise, align, lower, then pull, push, grasp and put down. They read the ground truth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.desk_scenes import TRAVEL, Element
from envs.desk_simulation import BAR, DRAWER, FRONT, GAP, HELD, HIGH, LOW, OBJECT, STEP, TABLE, TIP, TURN, YAW, to_world

UP = -0.19  # metres, height of the tip on its way
CLEAR = 0.026  # metres of the tip above the table where it passes low
START = np.array([0.54, 0.0, -0.165])  # metres, where the tip begins, and where experts leave it: above the table's far edge, before nothing
SPREAD = np.array([0.03, 0.10, 0.02])  # metres around it
HOME_STEPS = 18  # in which the tip is there from anywhere


def handle(e: Element, q: float) -> np.ndarray:
    """The middle of the gap behind a drawer's bar, (3,) in the world."""
    return to_world(e, np.array([FRONT + GAP / 2 + q * TRAVEL, 0.0, CLEAR]))


@dataclass(frozen=True)
class Aim:
    """Where the tip goes next, with the gripper closed or open, how fast at most (shares of an action), and the gripper's yaw in radians (None: as it is)."""

    tip: np.ndarray
    closed: bool = False
    speed: float = 1.0
    yaw: float | None = None


Aims = Iterator[Callable[[np.ndarray], Aim | None]]  # stages: state -> aim, None when it is over


def above(point: np.ndarray, height: float = UP) -> np.ndarray:
    """The point's place at another height."""
    return np.array([point[0], point[1], height])


def start_tip(rng: np.random.Generator) -> np.ndarray:
    """A place (3,) where the tip begins."""
    return START + rng.uniform(-1, 1, 3) * SPREAD


def homing(tip: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Actions (n, 4) in [-1, 1] that lead the tip (n, 3) back above the table's far edge, up first, with the gripper open; or, where it is said (n,) to hold
    something, stay, as experts do."""
    low = (tip[:, 2] < UP - 0.015) & (np.linalg.norm((tip - START)[:, :2], axis=1) > 0.03)
    move = (np.where(low[:, None], np.column_stack([tip[:, :2], np.full(len(tip), UP)]), START) - tip) / STEP
    move /= np.maximum(np.abs(move).max(1, keepdims=True), 1.0)
    return np.where(held[:, None], [0.0, 0.0, 0.0, 0.8], np.column_stack([move, np.full(len(tip), -0.8)])).astype(np.float32)


class StagedExpert:
    """Does something in stages, which a subclass lists. A stage says where to go from the present state; it is over when its place is reached, or what it is for
    is done.

    Args: noise: standard deviation of Gaussian noise on every action; yaw: whether actions have one.
    """

    def __init__(self, noise: float, yaw: bool) -> None:
        self.noise, self.yaw = noise, yaw

    def _stages(self) -> Aims:
        raise NotImplementedError

    def reset(self, state: np.ndarray, rng: np.random.Generator) -> None:
        """Begins."""
        self._rng, self._start = rng, np.array(state, np.float64)
        self._turned: float | None = None  # the gripper's yaw in the stages that follow
        self._aims = self._stages()
        self._now: Callable[[np.ndarray], Aim | None] | None = next(self._aims)
        self._last = Aim(np.array(state[TIP], np.float64))

    @property
    def finished(self) -> bool:
        """Whether all stages were over when it last acted."""
        return self._now is None

    def act(self, state: np.ndarray) -> np.ndarray:
        """The next action, (4,) or (5,) in [-1, 1]."""
        state = np.asarray(state, np.float64)
        while self._now is not None:
            aim = self._now(state)
            if aim is None:
                self._now = next(self._aims, None)
                continue
            self._last = aim
            break
        aim = self._last
        move = (aim.tip - state[TIP]) / STEP
        move *= min(1.0, aim.speed / max(float(np.abs(move).max()), 1e-9))
        parts = [move, [0.0 if aim.yaw is None else (aim.yaw - state[YAW]) / TURN]] if self.yaw else [move]
        action = np.concatenate([*parts, [0.8 if aim.closed else -0.8]])
        return np.clip(action + self.noise * self._rng.standard_normal(len(action)), -1, 1)

    def _go(self, point: np.ndarray, closed: bool = False, speed: float = 1.0, near: float = 0.012) -> Callable[[np.ndarray], Aim | None]:
        point = np.clip(point, LOW, HIGH)
        return lambda state: None if np.linalg.norm(point - state[TIP]) < near else Aim(point, closed, speed, self._turned)

    def _rise(self, closed: bool = False, short: float = 0.015) -> Callable[[np.ndarray], Aim | None]:
        """Straight up, until so short of the height of travel."""
        return lambda state: None if state[TIP][2] > UP - short else Aim(above(state[TIP]), closed)

    def _home(self) -> Callable[[np.ndarray], Aim | None]:
        """Back to where it began, out of the way of what a goal's picture shows."""
        return self._go(START, near=0.03)

    def _until(
        self, done: Callable[[np.ndarray], Any], aim: Callable[[np.ndarray], np.ndarray], closed: bool = False, speed: float = 1.0, most: int = 30
    ) -> Callable[[np.ndarray], Aim | None]:
        count = 0

        def stage(state: np.ndarray) -> Aim | None:
            nonlocal count
            count += 1
            return None if done(state) or count > most else Aim(np.clip(aim(state), LOW, HIGH), closed, speed, self._turned)

        return stage

    def _pull(self, e: Element, furthest: float = np.inf) -> Aims:
        """Opens a drawer by its handle; the gripper aims no further than where it would have the drawer `furthest`, in shares of its way."""
        yield self._until(lambda state: np.linalg.norm((handle(e, state[DRAWER]) - state[TIP])[:2]) < 0.006, lambda state: above(handle(e, state[DRAWER])))
        yield self._until(lambda state: state[TIP][2] < TABLE + CLEAR + 0.01, lambda state: handle(e, state[DRAWER]), speed=0.7)
        ahead = handle(e, 1.15) - handle(e, 0.0)
        ahead /= np.linalg.norm(ahead)

        def beyond(state: np.ndarray) -> np.ndarray:
            """A place ahead of the handle."""
            return np.asarray(handle(e, state[DRAWER]) + min(0.03, (furthest - state[DRAWER]) * TRAVEL) * ahead)

        yield self._until(lambda state: state[DRAWER] > 0.97, lambda state: np.append(beyond(state)[:2], TABLE + CLEAR), speed=0.8)

    def _push(self, e: Element, deepest: float = -1.0) -> Aims:
        """Closes it; the gripper aims no further than where it would have the drawer `deepest`, and so does not squeeze through its bar."""

        def before(q: float) -> np.ndarray:
            """A place before the bar."""
            return to_world(e, np.array([FRONT + GAP + 2 * BAR[0] + 0.008 + q * TRAVEL, 0.0, CLEAR]))

        at = before(self._start[DRAWER]) + 0.022 * (before(1.0) - before(0.0)) / TRAVEL
        yield self._go(above(at))
        yield self._go(at, near=0.010, speed=0.7)
        yield self._until(lambda state: state[DRAWER] < 0.04, lambda state: before(max(state[DRAWER] - 0.25, deepest)), speed=0.8)
        yield self._go(at, near=0.05)

    def _pick(self, near: float = 0.010, sink: float = np.inf) -> Aims:
        """Grasps the object and lifts it. It is lowered upon once the tip is as near above it, and aims no further down at a time than `sink`, which leaves more of
        an action to stay above it; metres."""
        yield self._until(lambda state: np.linalg.norm((state[OBJECT] - state[TIP])[:2]) < near, lambda state: above(state[OBJECT]))
        yield self._until(
            lambda state: abs(state[OBJECT][2] - state[TIP][2]) < 0.010, lambda state: above(state[OBJECT], max(state[OBJECT][2], state[TIP][2] - sink)), speed=0.6
        )
        yield self._until(lambda state: state[HELD] > 0.5, lambda state: state[OBJECT], closed=True, most=12)
        yield self._rise(closed=True, short=0.02)

    def _put(self, inside: np.ndarray, low: float) -> Aims:
        """Lets the object go over a place (3,), with the tip at a height (metres)."""

        def over(state: np.ndarray, height: float) -> np.ndarray:
            """Where the tip is when the object, which it may hold off its middle, is over the place."""
            return above(inside + state[TIP] - state[OBJECT], height)

        yield self._until(lambda state: np.linalg.norm((state[OBJECT] - inside)[:2]) < 0.012, lambda state: over(state, UP), closed=True)
        yield self._until(lambda state: state[TIP][2] < low + 0.012, lambda state: over(state, low), closed=True)
        yield self._until(lambda state: state[HELD] < 0.5, lambda state: np.append(state[TIP][:2], low), most=3)
