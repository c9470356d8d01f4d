"""Episodes in lockstep: every copy of the scene steps at once, and each picture is encoded exactly once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from agents.exploration import Actor, Noise, disturbed
from imagoal.sight import Sight
from planning import SubgoalFollower


class Rollout(NamedTuple):
    """n episodes of T steps. `states` are ground truth, for judging only."""

    codes: Tensor  # (n, T + 1, cells), as stored
    proprio: Tensor  # (n, T + 1, p)
    action: Tensor  # (n, T, a)
    states: np.ndarray  # (n, T + 1, s)
    images: np.ndarray | None  # (n, T + 1, H, W, 3) uint8, where kept


class World(Protocol):
    """Copies of scenes stepped in lockstep: `envs.tabletop.TabletopBatch`, `envs.worlds.World`."""

    n: int
    action_dim: int

    def reset(self, states: np.ndarray) -> None: ...
    def step(self, actions: np.ndarray) -> None: ...
    def states(self) -> np.ndarray: ...
    def images(self) -> np.ndarray: ...


class Clock:
    """Seconds spent in each part of a loop."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        began = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began


@torch.no_grad()
def roll_out(
    world: World,
    agent: Actor | None,
    eyes: Sight,
    starts: np.ndarray,
    goal: Tensor | SubgoalFollower,
    horizon: int,
    explore: bool = False,
    generator: torch.Generator | None = None,
    keep_images: bool = False,
    noise: Noise | None = None,
    clock: Clock | None = None,
    home: int = 0,
    displaced: Tensor | None = None,
) -> Rollout:
    """Runs one episode in every copy of the world: T = `horizon` + `home` steps.

    Args:
        agent: None: it does nothing but explore.
        starts: states (n, s) the copies are put in.
        goal: latents (n, z); or a follower of subgoals, one plan per copy.
        horizon: steps in which the agent acts.
        home: steps after those, in which the world takes the robot out of the picture, `SceneBatch.homing`.
        displaced: (n, p), by how much the agent takes the robot to be elsewhere; what is returned is where it was.
        explore: whether the agent adds its own noise, drawn from `generator`.
        noise: added to the actions (n, a), which are then clipped to [-1, 1].
        clock: gets the seconds of physics, rendering, encoding and acting.
    """
    part = clock or Clock()

    def see(first: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, Tensor, Tensor]:
        with part("rendering"):
            images = world.images() if eyes.draws or keep_images else None
        with part("encoding"):
            states = world.states()
            stored = eyes.look(images, states, images if first is None else first)
            proprio = cast(Any, world).proprio() if eyes.proprio else np.zeros((len(states), 0), np.float32)
            return images, states, proprio, stored, eyes.latents(stored).clone()

    world.reset(starts)
    images, states, proprio, stored, latents = see(None)
    first = images
    seen, drawn, done = [(states, proprio, stored)], [images], []
    ended = proprio
    for t in range(horizon + home):
        aim = goal.goal() if isinstance(goal, SubgoalFollower) else goal
        with part("acting"):
            if t >= horizon:
                now = cast(Any, world).proprio()
                ended = now if t == horizon else ended
                action = torch.from_numpy(cast(Any, world).homing(now, ended)).to(eyes.device)
            elif agent is None:
                action = torch.zeros(len(starts), world.action_dim, device=eyes.device)
            else:
                obs = latents
                if eyes.proprio:
                    felt = torch.from_numpy(proprio).to(eyes.device)
                    obs = torch.cat([latents, felt if displaced is None else felt + displaced], -1)
                action = agent.act(obs, aim, explore, generator)
            if noise is not None and t < horizon:
                action = disturbed(action, noise.step(generator))
        with part("physics"):
            world.step(action.cpu().numpy())
        images, states, proprio, stored, latents = see(first)
        if isinstance(goal, SubgoalFollower):
            goal.observe(latents)
        seen.append((states, proprio, stored))
        if keep_images:
            drawn.append(images)
        done.append(action)
    return Rollout(
        torch.stack([s[2] for s in seen], 1),
        torch.from_numpy(np.stack([s[1] for s in seen], 1)),
        torch.stack(done, 1),
        np.stack([s[0] for s in seen], 1),
        np.stack(cast(list[np.ndarray], drawn), 1) if keep_images else None,
    )
