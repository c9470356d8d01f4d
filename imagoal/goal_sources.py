"""Where practice's goals come from: the affordance prior (VAL), and what it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.families import SceneBatch
from goals.replay import Replay
from goals.rewards import SuccessReward
from goals.samplers import pick_novel
from imagoal.config import PracticeConfig
from imagoal.errors import UserError
from imagoal.loading import Policy, load_model, load_prior
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


def goal_source(config: PracticeConfig, policy: Policy, world: SceneBatch, prior_codes: Tensor, practised: Replay, reward: SuccessReward) -> GoalSource:
    """The source that the config names. `prior_codes` (N, cells) are of the prior data, `practised` fills while practising.

    Raises UserError for a prior or model that is missing or does not fit.
    """
    kind, eyes = config.goal_source, policy.eyes
    if (kind == "model") != bool(config.goal_model):
        raise UserError("goal_source=model needs goal_model=..., the run folder of a train whose model imagines the goals; other sources need none.")

    def of_prior_data(n: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(prior_codes), (n,), generator=generator, device=generator.device)
        return prior_codes[rows.to(prior_codes.device)].to(generator.device)

    if kind in ("other_scenes", "none"):
        return lambda begin, generator: of_prior_data(len(begin.latents), generator)
    if kind == "replay":

        def seen_here(begin: Beginning, generator: torch.Generator) -> Tensor:
            n = len(begin.latents)
            return practised.codes[practised.rows_of_scene(None, n, generator)] if len(practised) else of_prior_data(n, generator)

        return seen_here
    if kind == "oracle":
        return lambda begin, generator: eyes.codes(world.picture(world.sample(begin.seeds, config.changes, config.task)[1]), begin.first)
    imagine = by_model(config.goal_model, policy) if kind == "model" else by_prior(policy)
    k, least = config.candidates, config.novelty * policy.threshold

    def novel(begin: Beginning, generator: torch.Generator) -> Tensor:
        candidates = imagine(begin, k, generator)  # (n * k, cells)
        distance = reward.distance(eyes.latents(candidates).clone(), begin.latents.repeat_interleave(k, 0)).view(-1, k)
        chosen = pick_novel(distance, least, generator)
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
