"""Agents of `imagoal rig` at work: what they are made of, attempts at true goals, and whether a goal picture is like anything they have seen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from envs.worlds import World, make_world
from imagoal.compose import load as load_config
from imagoal.compose import name_of
from imagoal.config import RigConfig
from imagoal.errors import explained
from imagoal.evaluation import FIRST_SEED
from imagoal.exploration import folder_of, open_exploration
from imagoal.judging import contexts_at, pictures_at
from imagoal.loading import make_agent
from imagoal.rollout import Rollout, roll_out
from imagoal.run import latest_checkpoint
from imagoal.sight import Eyes, PixelSight, Sight, StateSight
from imagoal.strange import COMPARED, Found, drawing_strangeness, latent_strangeness
from vision import load
from vision.judge import thin
from vision.pictures import Pictures


@dataclass
class Acting:
    """An agent in its world."""

    config: RigConfig
    world: World
    sight: Sight
    agent: Agent
    horizon: int


def open_acting(config: RigConfig, world: World, model: Any, device: torch.device) -> Acting:
    """A fresh agent that sees the world as the config says. Raises UserError for an encoder that does not fit what it sees."""
    sight: Sight
    if model is not None:
        sight = Eyes(model, proprio=False, device=device)
    else:
        sight = PixelSight(world.image_size, device) if config.sight == "pixels" else StateSight(world, device)
    torch.manual_seed(config.seed + 1)
    with explained("agent"):
        agent = make_agent(name_of("agent", config.agent), config.agent, sight, world.action_dim, device, config.read_context)
    return Acting(config, world, sight, agent, config.horizon or world.horizon)


def load_acting(run: str, device: torch.device) -> tuple[Acting, Pictures]:
    """The agent of a finished rig run, and what it explored. Raises UserError where there is none."""
    config: RigConfig = load_config("rig", [f"run={run}", "resume=true"])
    path = Path(run).expanduser()
    world, model = make_world(config.world, 1, image_size(config)), None
    if config.sight == "latent":
        practised = path / "model_practised"
        with explained("policy"):
            model = load(practised if practised.is_dir() else (Path(config.model).expanduser() if config.model else path) / "model")
    acting = open_acting(config, world, model, device)
    saved = latest_checkpoint(run, "rig")
    with explained(f"policy {run}"):
        acting.agent.restore(saved.part("agent"))
    return acting, open_exploration(folder_of(config))


def image_size(config: RigConfig) -> int:
    """Pixels of a side."""
    return int(config.vision.image_size) if config.sight == "latent" else 48


@dataclass
class Trial:
    """An evaluation: numbers by ground truth, and what was seen."""

    numbers: dict[str, float]
    goals: np.ndarray  # (n, H, W, 3)
    success: np.ndarray  # (n,)
    rollout: Rollout


def evaluate(acting: Acting, episodes: int, keep_images: bool = False, **options: Any) -> Trial:
    """Attempts without exploration at pictures of true goals, the same for every method: distances at the last step, in metres."""
    world = make_world(acting.config.world, episodes, acting.world.image_size, **options)
    starts, goals = world.sample(range(FIRST_SEED, FIRST_SEED + episodes))
    shown = world.picture(goals)
    rollout, _ = towards(acting, world, starts, shown, goals, keep_images)
    final = rollout.states[:, -1]
    success = world.success(final, goals)
    numbers = {"final_distance": float(world.distance(final, goals).mean()), "success": float(success.mean())}
    numbers |= {f"distance.{k}": float(v.mean()) for k, v in world.distances(final, goals).items()}
    numbers["start_distance"] = float(world.distance(starts, goals).mean())
    return Trial(numbers, shown, success, rollout)


def towards(
    acting: Acting, world: World, starts: np.ndarray, shown: np.ndarray, goals: np.ndarray, keep_images: bool
) -> tuple[Rollout, Tensor]:
    """One attempt from each start at a goal picture (n, H, W, 3), or for the oracle at a goal state, without exploration; and the goals' latents (n, z)."""
    sight = acting.sight
    first = world.picture(starts) if sight.draws else None
    aim = sight.latents(sight.look(shown, goals, first)).clone()
    acting.agent.eval()
    rollout = roll_out(world, acting.agent, sight, starts, aim, acting.horizon, keep_images=keep_images)
    acting.agent.train()
    return rollout, aim


def reach(acting: Acting, goal: np.ndarray, episodes: int) -> tuple[Rollout, np.ndarray]:
    """Attempts at one goal picture (H, W, 3), from the starts of `evaluate`, with pictures; and the latent distances (episodes,) left at the end."""
    world = make_world(acting.config.world, episodes, acting.world.image_size)
    starts, _ = world.sample(range(FIRST_SEED, FIRST_SEED + episodes))
    rollout, aim = towards(acting, world, starts, np.repeat(goal[None], episodes, 0), starts, keep_images=True)
    return rollout, (acting.sight.latents(rollout.codes[:, -1]) - aim).norm(dim=1).cpu().numpy()


@torch.no_grad()
def strangeness(acting: Acting, seen: Pictures, goal: np.ndarray) -> Found:
    """What tells a goal picture (H, W, 3) from everything explored; see `imagoal.strange`. `rebuilt` is there where the sight is a latent model."""
    sight = acting.sight
    rows = thin(np.arange(len(seen)), COMPARED)
    pictures, first = pictures_at(seen, rows), contexts_at(seen, rows)
    assert first is not None
    data = seen_as(sight, pictures, np.array(seen.state[rows]), first)
    free = sight.latent_dim - sight.context_dim
    own = seen_as(sight, goal[None], np.array(seen.state[rows[:1]]), first[:1])[:, :free]
    episode = torch.from_numpy(np.searchsorted(seen.start, rows, side="right"))
    out = {"latent": latent_strangeness(own, data[:, :free], episode)}
    if isinstance(sight, Eyes):
        rebuilt = np.concatenate([sight.pictures(data[i : i + 512].to(sight.device), first[i : i + 512]) for i in range(0, len(data), 512)])
        of_goal = seen_as(sight, goal[None], np.array(seen.state[rows[:1]]), goal[None])  # its own context: the kindest reading
        out["rebuilt"] = drawing_strangeness(sight.pictures(of_goal, goal[None])[0], goal, rebuilt, pictures)
    return out


def seen_as(sight: Sight, pictures: np.ndarray, states: np.ndarray, first: np.ndarray) -> Tensor:
    """Latents (n, z), on the CPU."""
    some = [slice(i, i + 512) for i in range(0, len(pictures), 512)]
    return torch.cat([sight.latents(sight.look(pictures[s], states[s], first[s])).clone().cpu() for s in some])
