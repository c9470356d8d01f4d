"""Copies of any Gymnasium environment of numbers, whose episodes are run side by side so that a policy acts for all of them at once."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.offline import Episode, checked_spaces, unscale_actions

Act = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
SUCCESS = ("is_success", "success")  # where an environment's info says it, if it does


class Copies:
    """`n` copies of an environment. Observations are vectors or the goal API's dictionary; actions are bounded vectors.

    Args:
        env: a Gymnasium id, `MODULE:ID` where a module registers it, or a spec.
        n: how many.

    Attributes:
        name: its id. first: one of them. observation_dim, goal_dim (0 without goals), action_dim: widths. horizon: steps of an episode at most.

    Raises:
        ValueError: for an id that is not known, spaces of another kind, an environment without a time limit, or n < 1.
    """

    def __init__(self, env: Any, n: int, **options: Any) -> None:
        if n < 1:
            raise ValueError(f"at least 1 copy is needed, not {n}")
        try:
            self.envs = [gymnasium.make(env, **options) for _ in range(n)]
        except (gymnasium.error.Error, ModuleNotFoundError) as error:
            raise ValueError(f"{env} cannot be made: {error}") from error
        self.first = self.envs[0]
        self.observation_dim, self.goal_dim, self.space = checked_spaces(self.first.observation_space, self.first.action_space)
        self.action_dim = self.space.shape[0]
        limit = self.first.spec.max_episode_steps if self.first.spec else None
        if not limit:
            raise ValueError(f"{env} has no time limit (max_episode_steps), so that its episodes might never end")
        self.horizon = limit
        self.name = self.first.spec.id if self.first.spec else str(env)

    def parts(self, seen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observation, achieved and desired goal, float32."""
        if not self.goal_dim:
            observation = np.asarray(seen, np.float32)
            return observation, observation[:0], observation[:0]
        return tuple(np.asarray(seen[key], np.float32) for key in ("observation", "achieved_goal", "desired_goal"))  # type: ignore[return-value]

    def run(self, act: Act, seeds: Sequence[int], horizon: int = 0, options: Sequence[dict[str, Any]] | None = None) -> tuple[list[Episode], np.ndarray]:
        """One episode for each seed, `n` at a time, and what its info said of success, (episodes, 2): at its last step, and at any (NaN where it says nothing).

        Args: act: (observations (m, o), achieved (m, k), goals (m, k)) -> actions (m, a) in [-1, 1] of the m episodes that still run;
        horizon: steps, at most the environment's own (0: those); options: what each `reset` is told.
        """
        episodes, successes = [], []
        for begin in range(0, len(seeds), len(self.envs)):
            some = slice(begin, begin + len(self.envs))
            found, success = self._together(act, seeds[some], horizon or self.horizon, options[some] if options else [None] * len(seeds[some]))
            episodes += found
            successes.append(success)
        return episodes, np.concatenate(successes)

    def _together(self, act: Act, seeds: Sequence[int], horizon: int, options: Sequence[dict[str, Any] | None]) -> tuple[list[Episode], np.ndarray]:
        now = [self.parts(env.reset(seed=int(seed), options=told)[0]) for env, seed, told in zip(self.envs, seeds, options, strict=False)]
        rows: list[list[tuple[np.ndarray, ...]]] = [[one] for one in now]
        actions: list[list[np.ndarray]] = [[] for _ in now]
        rewards: list[list[float]] = [[] for _ in now]
        terminal = np.zeros(len(now), bool)
        success = np.full((len(now), 2), np.nan)
        running = list(range(len(now)))
        for _ in range(horizon):
            action = np.clip(act(*(np.stack([rows[i][-1][part] for i in running]) for part in range(3))), -1, 1).astype(np.float32)
            still = []
            for i, one in zip(running, action, strict=True):
                seen, reward, ended, cut, info = self.envs[i].step(unscale_actions(one, self.space))
                rows[i].append(self.parts(seen))
                actions[i].append(one)
                rewards[i].append(float(reward))
                said = next((bool(info[key]) for key in SUCCESS if key in info), None)
                if said is not None:
                    success[i] = float(said), max(float(said), np.nan_to_num(success[i, 1]))
                terminal[i] = ended
                if not (ended or cut):
                    still.append(i)
            running = still
            if not running:
                break
        episodes = []
        for i in range(len(now)):
            observation, achieved = (np.stack([row[part] for row in rows[i]]) for part in range(2))
            episodes.append(Episode(observation, achieved, rows[i][0][2], np.stack(actions[i]), np.array(rewards[i], np.float32), bool(terminal[i])))
        return episodes, success

    def rewards(self, achieved: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The goal API's own reward (m,) of achieved goals and goals (m, k). Raises ValueError where the environment has none."""
        compute = getattr(self.first.unwrapped, "compute_reward", None)
        if compute is None:
            raise ValueError(f"{self.first.spec.id if self.first.spec else 'the environment'} has no compute_reward: it has no goals")
        return np.asarray(compute(achieved, goal, {}), np.float32)

    def close(self) -> None:
        """The end of them."""
        for env in self.envs:
            env.close()
