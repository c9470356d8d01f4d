"""Where practice's goals come from: the affordance prior (VAL), and what it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.families import SceneBatch
from goals.rewards import SuccessReward
from goals.samplers import pick_novel
from imagoal.config import PracticeConfig
from imagoal.errors import UserError
from imagoal.loading import Policy, load_model, load_prior
from imagoal.repeats import History
from vision.images import to_uint8


@dataclass
class Beginning:
    """Of a round's attempts: seeds and states of their starts (n, S), which only the oracle reads; what they look like (n, H, W, 3) uint8 once the robot is out of
    the picture, and their latents (n, z) then; and what they look like as they begin, the context of their trajectories, for models that need one."""

    seeds: np.ndarray
    states: np.ndarray
    pictures: np.ndarray
    latents: Tensor
    first: np.ndarray | None


GoalSource = Callable[[Beginning, torch.Generator], Tensor]  # -> codes (n, cells) of a goal for each attempt


class Outcomes:
    """How the attempts in a scene ended, as stored (n, cells): of all, whether they are learned from or not. It grows while practising."""

    def __init__(self, cells: int, dtype: torch.dtype, device: torch.device) -> None:
        self.codes = torch.empty(0, cells, dtype=dtype, device=device)

    def add(self, codes: Tensor) -> None:
        """More of them."""
        self.codes = torch.cat([self.codes, codes.to(self.codes)])


def goal_source(config: PracticeConfig, policy: Policy, world: SceneBatch, prior_codes: Tensor, seen: Outcomes, history: History | None, reward: SuccessReward) -> GoalSource:
    """The source that the config names. `prior_codes` (N, cells) are of the prior data, `seen` fills while practising.

    Raises UserError for a prior or model that is missing or does not fit.
    """
    kind, eyes = config.goal_source, policy.eyes
    if (kind == "model") != bool(config.goal_model):
        raise UserError("goal_source=model needs goal_model=..., the run folder of a train whose model imagines the goals; other sources need none.")

    if kind in ("other_scenes", "replay", "none"):

        def known(begin: Beginning, generator: torch.Generator) -> Tensor:
            some = seen.codes if kind == "replay" and len(seen.codes) else prior_codes  # before the first round ended nothing was seen here
            rows = torch.randint(len(some), (len(begin.latents),), generator=generator, device=generator.device)
            goal = some[rows.to(some.device)].to(generator.device)
            if eyes.context_dim:  # in this attempt's own
                goal[:, -eyes.context_dim :] = begin.latents[:, -eyes.context_dim :]
            return goal

        return known
    if kind == "oracle":
        return lambda begin, generator: eyes.codes(world.picture(world.sample(begin.seeds, config.changes, config.task)[1]), begin.first)
    imagine = by_model(config.goal_model, policy) if kind == "model" else by_prior(policy)
    k, least = config.candidates, config.novelty * policy.threshold

    def novel(begin: Beginning, generator: torch.Generator) -> Tensor:
        candidates = imagine(begin, k, generator)  # (n * k, cells)
        latents, begun = eyes.latents(candidates).clone(), begin.latents.repeat_interleave(k, 0)
        distance = reward.distance(latents, begun).view(-1, k)
        wanted = None if history is None else history.wanted(latents - begun).view(-1, k)
        chosen = pick_novel(distance, least, generator, wanted)
        return candidates.view(-1, k, candidates.shape[1])[torch.arange(len(chosen), device=chosen.device), chosen]

    return novel


def by_prior(policy: Policy) -> Callable[[Beginning, int, torch.Generator], Tensor]:
    """k goals (n * k, cells) that the affordance prior imagines for each start."""
    prior = load_prior(policy.pretrain["model"], policy.eyes)

    def imagine(begin: Beginning, k: int, generator: torch.Generator) -> Tensor:
        return prior.sample_codes(k * len(begin.latents), begin.latents, generator=generator).flatten(1)

    return imagine


def by_model(run: str, policy: Policy) -> Callable[[Beginning, int, torch.Generator], Tensor]:
    """k goals (n * k, cells) that another latent model imagines for each start: decoded, then seen by the policy's own eyes. Models without contexts
    imagine the same for every scene."""
    eyes = policy.eyes
    model = load_model(run, eyes.device)
    size = model.config.image_size
    if size != policy.scenes.image_size:
        raise UserError(f"goal_model: {run} draws pictures of {size} pixels, and the policy sees {policy.scenes.image_size}. Train it at that size.")

    @torch.no_grad()
    def imagine(begin: Beginning, k: int, generator: torch.Generator) -> Tensor:
        context = torch.from_numpy(begin.pictures).to(eyes.device).repeat_interleave(k, 0)
        try:
            z = model.sample(len(context), context, generator=generator)
        except ValueError as error:  # a model of codes without its prior
            raise UserError(f"goal_model: {run}: {error}.") from error
        return eyes.codes(to_uint8(model.decode(z, context)).cpu().numpy(), None if begin.first is None else begin.first.repeat(k, 0))

    return imagine
