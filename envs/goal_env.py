"""The goal-env API over one copy of a world: what `Tabletop` and `VisualGoalEnv` share."""

from typing import Any, Generic, Protocol, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces

IMAGE_SIZES = (48, 64, 84)


class OneWorld(Protocol):
    """A batch engine, here of one copy."""

    def reset(self, states: np.ndarray) -> None: ...
    def step(self, actions: np.ndarray) -> None: ...
    def states(self) -> np.ndarray: ...
    def images(self) -> np.ndarray: ...
    def picture(self, states: np.ndarray) -> np.ndarray: ...


W = TypeVar("W", bound=OneWorld)


def checked(name: str, values: Any, width: int) -> np.ndarray:
    """`values` as a float32 vector (width,). Raises ValueError if they are not, or not finite."""
    vector = np.asarray(values, np.float32)
    if vector.shape != (width,) or not np.isfinite(vector).all():
        raise ValueError(f"{name} must be {width} finite numbers, not {values!r}")
    return vector


class GoalEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray], Generic[W]):
    """A goal environment on a batch engine of one copy. A subclass says where episodes begin and what success is.

    Observation (`observe="image"`): `observation` and `achieved_goal` the picture (H, W, 3) uint8, `desired_goal` the
    goal's picture. With `observe="state"`, pictures are replaced by the state vector. Action (action_dim,) in [-1, 1]. Reward:
    success - 1, from ground truth: learning never reads it. Never terminates: reaching a goal is no end; time limits
    truncate.

    Args:
        image_size: 48, 64 or 84 pixels. observe: "image" or "state". render_mode: None or "rgb_array".
        states: the space of state vectors.
        further: spaces of what else is observed; the subclass extends `_further`. action_dim: numbers of an action.

    Raises:
        ValueError: for an argument out of range.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self, image_size: int, observe: str, render_mode: str | None, states: spaces.Box,
        further: dict[str, spaces.Box] | None = None, action_dim: int = 2,
    ) -> None:  # fmt: skip
        if image_size not in IMAGE_SIZES:
            raise ValueError(f"image_size must be one of {IMAGE_SIZES}, not {image_size}")
        if observe not in ("image", "state"):
            raise ValueError(f"observe must be 'image' or 'state', not {observe!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.image_size, self.observe, self.render_mode = image_size, observe, render_mode
        self.state_dim = states.shape[0]
        self.goal_state = np.zeros(0, np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
        look = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8) if observe == "image" else states
        self.observation_space = spaces.Dict(  # type: ignore[assignment]
            {"observation": look, "achieved_goal": look, "desired_goal": look, **(further or {})}
        )

    _world: W | None = None

    def _choose_world(self) -> W:
        """The world of the next episode."""
        raise NotImplementedError

    def _sample_start(self) -> np.ndarray:
        raise NotImplementedError

    def _sample_goal(self, start: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Ground-truth success of state vectors (..., S), a mask (...), for evaluation only."""
        raise NotImplementedError

    def _further(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """What is observed besides picture and goal."""
        return {}

    def _about(self) -> dict[str, Any]:
        """What `info` says of the episode besides state, goal and success."""
        return {}

    @property
    def world(self) -> W:
        """The current scene; raises RuntimeError before the first reset."""
        if self._world is None:
            raise RuntimeError("call reset() before anything else")
        return self._world

    @property
    def state(self) -> np.ndarray:
        """The state vector, for evaluation only."""
        return self.world.states()[0]

    def _seen(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The observation and the info of the present state, which is read once; every array is the caller's own."""
        state = self.state
        look = self.world.images()[0] if self.observe == "image" else state
        observation = {"observation": look, "achieved_goal": look.copy(), "desired_goal": self.goal.copy()}
        info = {"state": state.copy(), "goal_state": self.goal_state.copy(), **self._about()}
        info["is_success"] = bool(self.success(state, self.goal_state))
        return observation | self._further(state), info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode; `options` may hold `start` and `goal` state vectors. Raises ValueError where they are not."""
        super().reset(seed=seed)
        world, options = self._choose_world(), options or {}
        self._world = world
        given = {name: checked(name, options[name], self.state_dim) for name in ("start", "goal") if name in options}
        start = given["start"] if "start" in given else self._sample_start()
        self.goal_state = given["goal"] if "goal" in given else self._sample_goal(start)
        world.reset(start[None])
        self.goal = world.picture(self.goal_state[None])[0] if self.observe == "image" else self.goal_state
        return self._seen()

    def sample_goal_image(self) -> np.ndarray:
        """A picture (H, W, 3) uint8 of a fresh goal of this scene, reachable from the present state."""
        return self.world.picture(self._sample_goal(self.state)[None])[0]

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step. Raises ValueError unless the action is `action_dim` finite numbers."""
        self.world.step(checked("action", action, self.action_space.shape[0])[None])  # type: ignore[index]
        observation, info = self._seen()
        return observation, float(info["is_success"]) - 1.0, False, False, info  # = compute_reward, which a test checks

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        """success - 1, by ground truth: from the states themselves, or for pictures from `info` (one or a list)."""
        if self.observe == "image":
            infos = [info] if isinstance(info, dict) else list(info)
            achieved_goal = np.stack([i["state"] for i in infos])
            desired_goal = np.stack([i["goal_state"] for i in infos])
            if isinstance(info, dict):
                achieved_goal, desired_goal = achieved_goal[0], desired_goal[0]
        return self.success(achieved_goal, desired_goal).astype(np.float32) - 1.0

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The current picture, (H, W, 3) uint8."""
        return self.world.images()[0]
