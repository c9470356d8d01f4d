"""Episodes in lockstep: every copy of the scene steps at once, and each picture is encoded exactly once."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from envs.tabletop import TabletopBatch
from goals.lookup import CodebookLookup
from planning import SubgoalFollower
from vision.images import to_uint8
from vision.vqvae import VQVAE


class Eyes:
    """The frozen latent model as the loops use it: pictures -> codes -> latents, codes by table lookup.

    Args:
        model: the trained model, put into evaluation mode.
        proprio: whether the policy reads the hand's position beside the latent.
    """

    def __init__(self, model: VQVAE, proprio: bool = True, device: str | torch.device = "cpu") -> None:
        self.model, self.proprio, self.device = model.eval().to(device), proprio, torch.device(device)
        self.lookup = CodebookLookup(model.codebook.detach())
        self.cells = model.grid_shape[1] * model.grid_shape[2]
        self.latent_dim = model.latent_dim

    @torch.no_grad()
    def codes(self, images: np.ndarray) -> Tensor:
        """Codes (n, cells) int64 of pictures (n, H, W, 3) uint8."""
        return self.model.codes(torch.from_numpy(np.ascontiguousarray(images)).to(self.device)).flatten(1)

    def latents(self, codes: Tensor) -> Tensor:
        """Latents (n, z) of codes (n, cells)."""
        return self.lookup(codes.long())

    @torch.no_grad()
    def pictures(self, codes: Tensor) -> np.ndarray:
        """Decoded pictures (n, H, W, 3) uint8 of codes (n, cells)."""
        return to_uint8(self.model.decode(self.latents(codes))).cpu().numpy()

    def observation(self, latents: Tensor, proprio: np.ndarray) -> Tensor:
        """What the policy sees, (n, z [+ 2])."""
        if not self.proprio:
            return latents
        return torch.cat([latents, torch.from_numpy(proprio).to(self.device)], -1)


class Rollout(NamedTuple):
    """n episodes of T steps. `states` are ground truth, for judging only."""

    codes: Tensor  # (n, T + 1, cells) int64
    proprio: Tensor  # (n, T + 1, p)
    action: Tensor  # (n, T, a)
    states: np.ndarray  # (n, T + 1, s)
    images: np.ndarray | None  # (n, T + 1, H, W, 3) uint8, where kept


@torch.no_grad()
def roll_out(
    world: TabletopBatch,
    agent: Agent,
    eyes: Eyes,
    starts: np.ndarray,
    goal: Tensor | SubgoalFollower,
    horizon: int,
    explore: bool = False,
    generator: torch.Generator | None = None,
    keep_images: bool = False,
) -> Rollout:
    """Runs one episode in every copy of the world.

    Args:
        starts: states (n, s) the copies are put in.
        goal: latents (n, z); or a follower of subgoals, one plan per copy.
        horizon: T, steps.
        explore: whether the agent adds its noise, drawn from `generator`.
    """
    world.reset(starts)
    images, proprio = world.images(), world.proprio()
    codes = eyes.codes(images)
    latents = eyes.latents(codes).clone()
    kept, seen, felt, done, states = [images], [codes], [proprio], [], [world.states()]
    for _ in range(horizon):
        aim = goal.goal() if isinstance(goal, SubgoalFollower) else goal
        action = agent.act(eyes.observation(latents, proprio), aim, explore, generator)
        world.step(action.cpu().numpy())
        images, proprio = world.images(), world.proprio()
        codes = eyes.codes(images)
        latents = eyes.latents(codes).clone()
        if isinstance(goal, SubgoalFollower):
            goal.observe(latents)
        if keep_images:
            kept.append(images)
        seen.append(codes)
        felt.append(proprio)
        done.append(action)
        states.append(world.states())
    return Rollout(
        torch.stack(seen, 1),
        torch.from_numpy(np.stack(felt, 1)),
        torch.stack(done, 1),
        np.stack(states, 1),
        np.stack(kept, 1) if keep_images else None,
    )
