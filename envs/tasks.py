"""One task without goals: a puck is to be pushed to a place and the hand to come back, and only that is rewarded."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.worlds import World, make_family

PLACE = np.array([0.0, 0.66], np.float32)  # metres from the arm's base: at the far side of the tray
HOME = np.array([0.0, 0.46], np.float32)  # where the hand is to end, on the other side
NEAR = 0.02  # metres


class PuckToPlace(gymnasium.Env[np.ndarray, np.ndarray]):
    """The table of the visual pusher, from states: hand and puck start anywhere; the puck is to come within 2 cm of `PLACE`, and then
    the hand of `HOME`.

    Observation (4,) float32: hand x, y and puck x, y in metres from the arm's base. Action (2,) in [-1, 1]: 1 moves the hand 2 cm.
    `render` gives the picture (48, 48, 3) uint8. Reward 0 where both are in their places, which ends the episode, else -1. `info["is_success"]` says the same.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.family, self.render_mode = make_family("pusher"), render_mode
        self._world: World | None = None
        self.observation_space = spaces.Box(self.family.low, self.family.high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._state = np.zeros(4, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """A start with something elsewhere."""
        super().reset(seed=seed)
        self._state = self.family.sample_start(self.np_random)
        while self.success:
            self._state = self.family.sample_start(self.np_random)
        return self._state.copy(), {"is_success": False}

    @property
    def success(self) -> bool:
        """Whether both are in their places."""
        return bool(np.linalg.norm(self._state[2:4] - PLACE) < NEAR and np.linalg.norm(self._state[:2] - HOME) < NEAR)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step."""
        self._state = self.family.advance(self._state, np.clip(np.asarray(action, np.float64), -1, 1))
        return self._state.copy(), float(self.success) - 1.0, self.success, False, {"is_success": self.success}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """What it looks like."""
        self._world = self._world or World(self.family, 1)
        return self._world.picture(self._state[None])[0]
