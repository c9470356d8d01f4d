"""A stochastic maze of few states, whose best values are known exactly: what dynamic programming adds to one step of improvement (thesis section 8.4.1, fig. 39).

A corridor in the shape of a U; entering the goal is worth 10 and ends the episode, all else 0. With probability 1/4 a step leads to a random state, otherwise where the
action says. The data are one optimal trajectory and 99 of random actions. Values are compared in every state with those of value iteration; policies by what they
earn in the maze itself, computed exactly.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from agents.agent import Agent
from agents.registry import AGENTS
from goals.relabel import HindsightSampler, Mixture
from goals.replay import Replay
from imagoal.config import ExperimentConfig
from imagoal.disk import write_atomic
from imagoal.figures import STYLE, figure_png
from imagoal.learning import learn

GAMMA, RANDOM, PRIZE = 0.9, 0.25, 10.0
PLAN = (  # S the start, G the goal
    "S.......",
    "#######.",
    "G.......",
)
MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])  # rows, columns
LENGTH = 50  # steps of a random trajectory
UPDATES = 2000
AGENTS_COMPARED: dict[str, tuple[str, dict[str, Any]]] = {"iql": ("iql", {"expectile": 0.95}), "one_step": ("one_step", {})}
COMMON = {"gamma": GAMMA, "hidden": 64, "learning_rate": 1e-3, "target_rate": 0.05, "target_clip": False, "temperature": 3.0}


class Umaze:
    """The maze as a table. `cells` (S, 2) are its states, `next` (S, 4) where the four moves lead, `start` and `goal` states."""

    def __init__(self) -> None:
        places = [(i, j) for i, row in enumerate(PLAN) for j, cell in enumerate(row) if cell != "#"]
        index = {place: s for s, place in enumerate(places)}
        self.cells = np.array(places)
        self.next = np.array([[index.get((i + di, j + dj), s) for di, dj in MOVES] for s, (i, j) in enumerate(places)])
        self.start, self.goal = (next(s for s, (i, j) in enumerate(places) if PLAN[i][j] == mark) for mark in "SG")

    def q(self, value: np.ndarray) -> np.ndarray:
        """Q (S, 4) of a value (S,): what a step earns, and the discounted value where it leads; 0 in the goal, where nothing follows."""
        worth = np.where(np.arange(len(value)) == self.goal, PRIZE, GAMMA * value)
        q = (1 - RANDOM) * worth[self.next] + RANDOM * worth.mean()
        q[self.goal] = 0.0
        return q

    def fixed_point(self, policy: np.ndarray | None = None) -> np.ndarray:
        """Values (S,) of the best policy, or of one given as probabilities (S, 4)."""
        value = np.zeros(len(self.cells))
        for _ in range(500):
            q = self.q(value)
            value = q.max(1) if policy is None else (policy * q).sum(1)
        return value

    def trajectory(self, policy: np.ndarray, rng: np.random.Generator, start: int) -> tuple[list[int], list[int]]:
        """States and moves of an episode."""
        states: list[int] = [start]
        moves: list[int] = []
        while states[-1] != self.goal and len(moves) < LENGTH:
            moves.append(int(rng.choice(4, p=policy[states[-1]])))
            lost = rng.random() < RANDOM
            states.append(int(rng.integers(len(self.cells))) if lost else int(self.next[states[-1], moves[-1]]))
        return states, moves

    def data(self, seed: int) -> Replay:
        """One trajectory of the best policy that was never led astray, and 99 of random actions, all from the start."""
        rng = np.random.default_rng([seed, 41])
        best = np.eye(4)[self.q(self.fixed_point()).argmax(1)]
        chosen, path = [], [self.start]
        while path[-1] != self.goal:
            chosen.append(int(best[path[-1]].argmax()))
            path.append(int(self.next[path[-1], chosen[-1]]))
        replay = Replay(100 * (LENGTH + 1), 0, len(self.cells), 2)
        for states, moves in [(path, chosen), *(self.trajectory(np.full((len(self.cells), 4), 0.25), rng, self.start) for _ in range(99))]:
            reward = torch.tensor([PRIZE * (s == self.goal) for s in states[1:]])
            replay.add_episode(torch.zeros(len(states), 0), torch.eye(len(self.cells))[states], torch.from_numpy(MOVES[moves]).float(), reward=reward,
                               terminal=states[-1] == self.goal)  # fmt: skip
        return replay


def train(name: str, settings: dict[str, Any], replay: Replay, seed: int, updates: int = UPDATES) -> Agent:
    """An agent taught by the data, its learning rates falling to 0."""
    torch.manual_seed(seed)
    build, config = AGENTS[name]
    agent: Agent = build(config(**COMMON, **settings), replay.obs_dim, 0, 2)
    sampler, generator = HindsightSampler(replay, Mixture(original=1.0, future=0.0), None), torch.Generator().manual_seed(seed)
    for step in range(updates):
        for optimizer in agent.optimizers.values():
            optimizer.param_groups[0]["lr"] = COMMON["learning_rate"] * (1 - step / updates)
        learn(agent, sampler, 1, 256, generator)
    return agent


@torch.no_grad()
def judged(agent: Agent, maze: Umaze) -> tuple[np.ndarray, np.ndarray]:
    """Its values (S,), and its policy (S, 4): always the move nearest to its best guess."""
    states, goals = torch.eye(len(maze.cells)), torch.zeros(len(maze.cells), 0)
    values = agent.value(states, goals).double().numpy()  # type: ignore[operator]
    moves = (agent.act(states, goals).numpy() @ MOVES.T).argmax(1)
    return values, np.eye(4)[moves]


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """The optimum and both agents: value of the start, mean error of all values, and what the policy earns from the start."""
    maze = Umaze()
    best = maze.fixed_point()
    rest = np.arange(len(best)) != maze.goal
    out = {"optimal": {"value_at_start": float(best[maze.start]), "value_error": 0.0, "earned": float(best[maze.start])}}
    shown = {"optimal": best}
    replay = maze.data(seed)
    for variant, (name, settings) in AGENTS_COMPARED.items():
        values, policy = judged(train(name, settings, replay, seed), maze)
        out[variant] = {
            "value_at_start": float(values[maze.start]), "value_error": float(np.abs(values - best)[rest].mean()),
            "earned": float(maze.fixed_point(policy)[maze.start]),
        }  # fmt: skip
        shown[variant] = values
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "values.csv", "\n".join([",".join(shown), *(",".join(f"{v:.4f}" for v in row) for row in zip(*shown.values(), strict=True))]).encode())
    return out


def extra(config: ExperimentConfig, folder: Path, seeds: Sequence[int], earlier: dict[str, Any]) -> dict[str, Any]:
    """Seed 0's values of every state."""
    if 0 not in seeds:
        return {"values": earlier["values"]}
    lines = (folder / "seed-0" / "values.csv").read_text().splitlines()
    columns = np.array([list(map(float, line.split(","))) for line in lines[1:]]).T
    return {"values": {name: column.tolist() for name, column in zip(lines[0].split(","), columns, strict=True)}}


def figure(result: dict[str, Any]) -> bytes:
    """Fig. 39 from these runs: values of every state, seed 0."""
    maze = Umaze()
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(10, 2.2), layout="constrained")
        panels = drawing.subplots(1, len(result["values"]))
    top = max(result["values"]["optimal"])
    for axes, (name, values) in zip(panels, result["values"].items(), strict=True):
        grid = np.full((len(PLAN), len(PLAN[0])), np.nan)
        grid[maze.cells[:, 0], maze.cells[:, 1]] = values
        grid[tuple(maze.cells[maze.goal])] = np.nan
        axes.imshow(grid, vmin=0, vmax=top, cmap="viridis")
        for (i, j), value in np.ndenumerate(grid):
            if not np.isnan(value):
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7, color="white" if value < 0.7 * top else "black")
        axes.text(*maze.cells[maze.goal][::-1], "goal", ha="center", va="center", fontsize=7)
        axes.set(title=name.replace("_", " "), xticks=[], yticks=[])
        axes.grid(visible=False)
    return figure_png(drawing)
