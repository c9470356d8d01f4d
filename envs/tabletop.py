"""The tabletop on the goal-env API: one environment for Gymnasium, and a batch of one scene stepped in lockstep."""

from collections import OrderedDict
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from envs.render import Camera
from envs.scenes import HELD_OUT, KINDS, sample_scene
from envs.simulation import HAND_LIMIT, Simulation, outcome_success

IMAGE_SIZES = (48, 64, 84)
CACHED_WORLDS = 128  # scenes an environment keeps built: building one costs as much as ten steps


class TabletopBatch:
    """`n` copies of one scene stepped in lockstep: the rollout engine of practice and evaluation.

    Args:
        scene: its name, `train/N` or `held_out/N`.
        n: how many copies.
        image_size: side of the pictures in pixels.
        kinds: the kinds of things scenes are drawn from.
    """

    action_dim = 2
    proprio_dim = 2

    def __init__(self, scene: str, n: int, image_size: int = 48, kinds: tuple[str, ...] = KINDS) -> None:
        self.simulation = Simulation(sample_scene(scene, kinds))
        self.n, self.image_size, self.kinds = n, image_size, tuple(kinds)
        self._data = [mujoco.MjData(self.simulation.model) for _ in range(n)]
        self._camera = Camera(self.simulation.model, image_size)
        self._scratch: mujoco.MjData | None = None

    def reset(self, states: np.ndarray) -> None:
        """Puts copy i in states[i]; states is (n, 2 + things)."""
        for data, state in zip(self._data, states, strict=True):
            self.simulation.set_state(data, state)

    def sample(self, seeds: list[int] | np.ndarray, changes: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Start and goal states (n, 2 + things) for the seeds: the same seeds give the same episodes anywhere."""
        starts, goals = [], []
        for seed in seeds:
            rng = np.random.default_rng([int(seed), 7])
            start = self.simulation.sample_start(rng)
            starts.append(start)
            goals.append(self.simulation.sample_goal(start, changes, rng))
        return np.stack(starts), np.stack(goals)

    def step(self, actions: np.ndarray) -> None:
        """Moves every copy by its action (n, 2) in [-1, 1]."""
        for data, action in zip(self._data, actions, strict=True):
            self.simulation.step(data, action)

    def states(self) -> np.ndarray:
        """(n, 2 + things) float32, for evaluation and probes only."""
        return np.stack([self.simulation.state(data) for data in self._data])

    def proprio(self) -> np.ndarray:
        """The hand's own position, (n, 2) float32 in [-1, 1]."""
        return self.proprio_of(self.states())

    @staticmethod
    def proprio_of(states: np.ndarray) -> np.ndarray:
        """What the policy may read of state vectors (..., S): the hand's position (..., 2) float32 in [-1, 1]."""
        return states[..., :2] / np.float32(HAND_LIMIT)

    def images(self) -> np.ndarray:
        """(n, size, size, 3) uint8."""
        pictures = np.empty((self.n, self.image_size, self.image_size, 3), np.uint8)
        for picture, data in zip(pictures, self._data, strict=True):
            self._camera.render_into(data, picture)
        return pictures

    def picture(self, states: np.ndarray) -> np.ndarray:
        """Pictures (m, size, size, 3) uint8 of given states (m, 2 + things), without touching the copies."""
        if self._scratch is None:
            self._scratch = mujoco.MjData(self.simulation.model)
        out = []
        for state in states:
            self.simulation.set_state(self._scratch, state)
            out.append(self._camera.render(self._scratch))
        return np.stack(out)


def _checked(name: str, values: Any, width: int) -> np.ndarray:
    """`values` as a float32 vector (width,). Raises ValueError if they are not, or not finite."""
    vector = np.asarray(values, np.float32)
    if vector.shape != (width,) or not np.isfinite(vector).all():
        raise ValueError(f"{name} must be {width} finite numbers, not {values!r}")
    return vector


class Tabletop(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A hand in the plane and two things of few outcomes, as a goal environment.

    Observation (`observe="image"`): `observation` and `achieved_goal` the picture (H, W, 3) uint8, `desired_goal` the
    goal's picture, `proprio` the hand's position (2,) in [-1, 1]. With `observe="state"`, pictures are replaced by the
    state vector. Action (2,) in [-1, 1]: how far ahead of the hand its target is, 1 = 6 cm. Reward: success - 1 (errata), from
    ground truth: learning never reads it. Never terminates: reaching a goal is no end; time limits truncate.

    Args:
        scene: a scene's name, or "train" / "held_out" for another scene at every reset.
        image_size: 48, 64 or 84 pixels.
        observe: "image" or "state".
        changes: how many things differ between start and goal.
        kinds: the kinds of things scenes are drawn from.
        scenes: with scene="train", how many scenes are gone through.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: for an argument out of range or an unknown scene.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        scene: str = "train",
        image_size: int = 48,
        observe: str = "image",
        changes: int = 1,
        kinds: tuple[str, ...] = KINDS,
        scenes: int = 100,
        render_mode: str | None = None,
    ) -> None:
        if image_size not in IMAGE_SIZES:
            raise ValueError(f"image_size must be one of {IMAGE_SIZES}, not {image_size}")
        if observe not in ("image", "state"):
            raise ValueError(f"observe must be 'image' or 'state', not {observe!r}")
        if scenes < 1 or render_mode not in (None, "rgb_array"):
            raise ValueError(f"need scenes >= 1 and render_mode None or 'rgb_array', not {scenes} and {render_mode!r}")
        things = len(sample_scene(scene if "/" in scene else f"{scene}/0", kinds).things)  # raises for an unknown name
        if not 1 <= changes <= things:
            raise ValueError(f"changes must be between 1 and {things}, the number of things, not {changes}")
        self.scene_choice, self.image_size, self.observe = scene, image_size, observe
        self.changes, self.kinds, self.scenes, self.render_mode = changes, tuple(kinds), scenes, render_mode
        self._worlds: OrderedDict[str, TabletopBatch] = OrderedDict()
        self._world: TabletopBatch | None = None
        self.goal_state = np.zeros(0, np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        picture: spaces.Box
        if observe == "image":
            picture = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        else:
            picture = spaces.Box(-2.0, 2.0, (4,), np.float32)
        proprio = spaces.Box(-1.1, 1.1, (2,), np.float32)
        self.observation_space = spaces.Dict(  # type: ignore[assignment]
            {"observation": picture, "achieved_goal": picture, "desired_goal": picture, "proprio": proprio}
        )

    def _choose_world(self) -> TabletopBatch:
        name = self.scene_choice
        if name in ("train", "held_out"):
            count = len(HELD_OUT) if name == "held_out" else self.scenes
            name = f"{name}/{self.np_random.integers(count)}"
        if name not in self._worlds:
            self._worlds[name] = TabletopBatch(name, 1, self.image_size, self.kinds)
            while len(self._worlds) > CACHED_WORLDS:
                self._worlds.popitem(last=False)
        return self._worlds[name]

    @property
    def world(self) -> TabletopBatch:
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
        world, state = self.world, self.state
        look = world.images()[0] if self.observe == "image" else state
        observation = {
            "observation": look,
            "achieved_goal": look.copy(),
            "desired_goal": self.goal.copy(),
            "proprio": world.proprio_of(state),
        }
        info = {
            "state": state.copy(),
            "goal_state": self.goal_state.copy(),
            "scene": world.simulation.scene.name,
            "is_success": bool(outcome_success(state, self.goal_state)),
        }
        return observation, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode; `options` may hold `start` and `goal` state vectors. Raises ValueError where they are not."""
        super().reset(seed=seed)
        self._world = self._choose_world()
        simulation, options = self._world.simulation, options or {}
        given = {name: _checked(name, options[name], simulation.state_dim) for name in ("start", "goal") if name in options}
        start = given["start"] if "start" in given else simulation.sample_start(self.np_random)
        self.goal_state = (
            given["goal"] if "goal" in given else simulation.sample_goal(start, self.changes, self.np_random)
        )
        self._world.reset(start[None])
        self.goal = self._goal_look()
        return self._seen()

    def _goal_look(self) -> np.ndarray:
        return self.world.picture(self.goal_state[None])[0] if self.observe == "image" else self.goal_state

    def sample_goal_image(self) -> np.ndarray:
        """A picture (H, W, 3) uint8 of a fresh goal of this scene, reachable from the present state."""
        goal = self.world.simulation.sample_goal(self.state, self.changes, self.np_random)
        return self.world.picture(goal[None])[0]

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step of 50 ms. Raises ValueError unless the action is two finite numbers."""
        self.world.step(_checked("action", action, 2)[None])
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
        return outcome_success(achieved_goal, desired_goal).astype(np.float32) - 1.0

    @staticmethod
    def success(state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Ground-truth success of state vectors (..., 4), for evaluation only."""
        return outcome_success(state, goal)

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The current picture, (H, W, 3) uint8."""
        return self.world.images()[0]
