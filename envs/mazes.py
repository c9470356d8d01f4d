"""Data for the point mazes of gymnasium-robotics: a pilot that knows the walls, sent on short trips that never cross the maze."""

from collections import deque
from typing import Any

import numpy as np

from envs.copies import Copies
from envs.offline import Episode

Cell = tuple[int, int]


class Pilot:
    """Steers a point along the shortest way through the cells of a maze, by a proportional-derivative force to the middle of the next one.

    Args: maze: `env.unwrapped.maze`; noise: std of Gaussian noise on every action; stiffness, damping of the force.
    """

    def __init__(self, maze: Any, noise: float = 0.3, stiffness: float = 6.0, damping: float = 1.2, seed: int = 0) -> None:
        self.maze, self.noise, self.stiffness, self.damping = maze, noise, stiffness, damping
        self.free: set[Cell] = {(i, j) for i, row in enumerate(maze.maze_map) for j, cell in enumerate(row) if cell != 1}
        self.steps = {cell: self._steps_to(cell) for cell in self.free}
        self._rng = np.random.default_rng(seed)

    def _steps_to(self, goal: Cell) -> dict[Cell, int]:
        """Cells between every free cell and a goal, breadth first."""
        steps, queue = {goal: 0}, deque([goal])
        while queue:
            here = queue.popleft()
            for near in self._near(here):
                if near not in steps:
                    steps[near] = steps[here] + 1
                    queue.append(near)
        return steps

    def _near(self, cell: Cell) -> list[Cell]:
        i, j = cell
        return [c for c in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)) if c in self.free]

    def cell(self, place: np.ndarray) -> Cell:
        """The free cell nearest to a place (2,)."""
        i, j = (int(x) for x in self.maze.cell_xy_to_rowcol(place))
        return min(self.free, key=lambda c: (c[0] - i) ** 2 + (c[1] - j) ** 2)

    def __call__(self, observation: np.ndarray, achieved: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Actions (n, 2) in [-1, 1] for observations [place, velocity] (n, 4) and goals (n, 2)."""
        out = np.zeros((len(goal), 2))
        for n, (seen, aim) in enumerate(zip(observation, goal, strict=True)):
            here, there = self.cell(seen[:2]), self.cell(aim)
            if here != there:
                steps = self.steps[there]
                aim = self.maze.cell_rowcol_to_xy(np.array(min(self._near(here), key=lambda c: steps[c])))
            out[n] = self.stiffness * (aim - seen[:2]) - self.damping * seen[2:4]
        return np.clip(out + self.noise * self._rng.standard_normal(out.shape), -1, 1)


def short_trips(copies: Copies, trips: int, cells: int, horizon: int, noise: float, seed: int) -> list[Episode]:
    """Trips of a pilot between random cells at most `cells` apart, `horizon` steps each: longer ways can only be put together from several.

    Raises ValueError for an environment without a maze.
    """
    maze = getattr(copies.first.unwrapped, "maze", None)
    if maze is None:
        raise ValueError("this environment has no maze")
    pilot, rng = Pilot(maze, noise, seed=seed), np.random.default_rng([seed, 1])
    free = sorted(pilot.free)
    options = []
    for _ in range(trips):
        start = free[rng.integers(len(free))]
        near = [c for c in free if 1 <= pilot.steps[start][c] <= cells]
        options.append({"reset_cell": np.array(start), "goal_cell": np.array(near[rng.integers(len(near))])})
    return copies.run(pilot, rng.integers(2**31, size=trips).tolist(), horizon, options)[0]
