"""The scenes of RIG and CC-RIG on the goal-env API, one environment for all of them."""

from typing import Any

import numpy as np
from gymnasium import spaces

from envs.goal_env import GoalEnv, checked
from envs.worlds import World, make_family


class VisualGoalEnv(GoalEnv[World]):
    """One of the families of `envs.worlds` as a goal environment, another episode at every reset.

    Observation (`observe="image"`): `observation` and `achieved_goal` the picture (H, W, 3) uint8, `desired_goal` the
    goal's picture; with `observe="state"` state vectors in their place. Action (2,) in [-1, 1]: 1 moves the hand 2 cm,
    the point 5 cm. Reward: success - 1, from ground truth: learning never reads it. Never terminates: reaching a goal is
    no end; time limits truncate.

    Args:
        world: reacher, pusher, multi_pusher, multicolor_pusher or navigation.
        image_size: 48, 64 or 84 pixels. observe: "image" or "state". render_mode: None or "rgb_array".
        options: of the family, see `envs.worlds.make_world`.

    Raises:
        ValueError: for an argument out of range, an unknown world or option.
    """

    def __init__(
        self, world: str = "pusher", image_size: int = 48, observe: str = "image", render_mode: str | None = None, **options: Any
    ) -> None:
        self.family = make_family(world, **options)
        super().__init__(image_size, observe, render_mode, spaces.Box(self.family.low, self.family.high, dtype=np.float32))

    def _choose_world(self) -> World:
        return self._world or World(self.family, 1, self.image_size)

    def _sample_start(self) -> np.ndarray:
        return self.family.sample_start(self.np_random)

    def _sample_goal(self, start: np.ndarray) -> np.ndarray:
        return self.family.sample_goal(start, self.np_random)

    def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Ground-truth success of state vectors (..., S), a mask (...), for evaluation only."""
        return np.asarray(self.family.success(np.asarray(state), np.asarray(goal)))

    def _about(self) -> dict[str, Any]:
        return {"scene": self.family.name}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode; `options` may hold `start` and `goal` state vectors.

        Raises:
            ValueError: where they are not states of the family, a goal comes without a start where scenes differ, or it
                is of another scene than the start.
        """
        width, moving = self.family.state_dim, self.family.moving
        given: dict[str, Any] = {
            name: checked(name, options[name], width) for name in ("start", "goal") if options and name in options
        }
        for state in given.values():
            self.family.check(state[None])
        if "goal" in given and width > moving:
            if "start" not in given:
                raise ValueError(f"{self.family.name}: a goal needs a start beside it, since every episode has its own scene")
            if not np.array_equal(given["goal"][moving:], given["start"][moving:]):
                raise ValueError(f"{self.family.name}: the last {width - moving} numbers of start and goal, the scene, must be equal")
        return super().reset(seed=seed, options=given)
