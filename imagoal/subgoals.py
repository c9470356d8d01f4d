"""Subgoals for a policy: generators trained on its prior data, planners over them, and plans as the loops follow them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.columns import Columns
from envs.families import FAMILIES
from imagoal.compose import own
from imagoal.errors import UserError, explained
from imagoal.evaluation import seeded
from imagoal.fitting import fit_stage
from imagoal.loading import AGENTS, Policy, model_folder, practised_before, pretrain_config
from imagoal.run import RunFolder, latest_checkpoint, read_config
from planning import (
    FollowerConfig,
    MemoryConfig,
    MidpointCVAE,
    Plan,
    PlanMemory,
    PlannerConfig,
    StateVAE,
    SubgoalCVAE,
    SubgoalCVAEConfig,
    SubgoalFollower,
    SubgoalPairs,
    SubgoalPlanner,
    plan_levels,
    subgoal_pairs,
)
from vision.store import describe

METHODS: dict[str, Any] = {"ptp": SubgoalCVAE, "leap": StateVAE, "gcp": MidpointCVAE}
BATCH = 256  # pairs in a batch of a generator
CALIBRATED = 512  # true pairs of frames that links of a plan are compared with
PLANNED = "subgoals are searched among codes"  # why a policy's latents must be such
FEASIBLE = 0.95  # share of them that a feasible link's value is not below


@dataclass
class Material:
    """What generators learn from: codes (N, cells), and the rows where trajectories start and end."""

    codes: Tensor
    start: Tensor
    end: Tensor


@dataclass
class Imagination:
    """Plans for a policy.

    Attributes: generators: the networks, coarsest level first. config: of the search. planners: a level each; none for gcp.
        feasible: the value that 95% of true pairs of frames have that are as far apart as the finest level's farthest subgoals; a link below it is not feasible.
        policy: whose value says what is feasible, and when a subgoal is reached.
    """

    generators: list[nn.Module]
    config: PlannerConfig
    planners: list[SubgoalPlanner]
    feasible: float
    policy: Policy

    @torch.no_grad()
    def plan(self, z: Tensor, goal: Tensor, generator: torch.Generator, remember: bool = True) -> Plan:
        """Plans from latents z (P, z) to goals; `remember`: the next plans start from what was found."""
        if self.planners:
            return plan_levels(self.planners, z, goal, generator, remember)
        predictor = self.generators[0]
        assert isinstance(predictor, MidpointCVAE)
        links = self.config.subgoals * 2 ** (len(self.config.levels) - 1)
        subgoals = predictor.plan(z, goal, max(0, (links - 1).bit_length()), generator)
        subgoals = torch.cat([snap(self.policy, subgoals[:, :-1].flatten(0, 1)).view(len(z), -1, z.shape[1]), goal[:, None]], 1)
        starts = torch.cat([z[:, None], subgoals[:, :-1]], 1)
        values = worth(self.policy, starts.flatten(0, 1), subgoals.flatten(0, 1)).view(len(z), -1)
        return Plan(subgoals, -values.sum(1), values, subgoals.new_zeros(*subgoals.shape[:2], 0))

    def follow(self, plan: Plan, steps: int) -> SubgoalFollower:
        """Who aims at a plan's subgoals one after the other, each for so many steps at most."""
        return SubgoalFollower(plan.subgoals, FollowerConfig(self.policy.threshold, steps))

    def remembered(self) -> dict[str, Tensor]:
        """The plan buffers, for a checkpoint."""
        return {f"{i}.{k}": v for i, p in enumerate(self.planners) if p.memory for k, v in p.memory.state_dict().items()}

    def remember(self, saved: dict[str, Tensor]) -> None:
        """Back to a checkpoint's."""
        for i, planner in enumerate(self.planners):
            if planner.memory:
                planner.memory.load_state_dict({k.split(".", 1)[1]: v for k, v in saved.items() if k.startswith(f"{i}.")})


def prior_material(columns: Columns, codes: Tensor) -> Material:
    """The prior data."""
    return Material(codes, *(torch.from_numpy(np.array(c)) for c in (columns.start, columns.end)))


def material(policy: Policy, columns: Columns, codes: Tensor) -> Material:
    """The prior data, and of a practised policy what it practised, as often: the scene at hand is where the plan must hold."""
    prior, practised = prior_material(columns, codes), practised_material(policy)
    if practised is None:
        return prior
    first, repeats = len(codes), max(1, len(prior.start) // len(practised.start))
    start, end = torch.cat([prior.start, *[first + practised.start] * repeats]), torch.cat([prior.end, *[first + practised.end] * repeats])
    return Material(torch.cat([codes, practised.codes.to(codes.dtype)]), start, end)


def practised_material(policy: Policy) -> Material | None:
    """What a practice run kept, episode after episode, of any lengths; None for a pretrain run, and where nothing was kept."""
    if policy.settings["job"] != "practice" or policy.settings["goal_source"] == "none":
        return None
    replay = practised_before(policy, torch.device("cpu"))[-1]  # of the scene at hand
    episodes = [replay.codes[replay.episode_rows(e)] for e in range(replay.oldest, replay.next_episode)]
    if not episodes:
        return None
    end = torch.tensor([len(episode) for episode in episodes]).cumsum(0)
    return Material(torch.cat(episodes), torch.cat([end.new_zeros(1), end[:-1]]), end)


def fit_generators(run: RunFolder, config: PlannerConfig, network: SubgoalCVAEConfig, policy: Policy, seen: Material, steps: int, seed: int, device: torch.device) -> list[nn.Module]:
    """The generators of all levels, trained or, where the run has them, as they are; `steps` gradient steps each. Of the finest of three levels chains of three links
    are learned, of the one before of two (PTP). leap and gcp have one network."""
    eyes = policy.eyes
    scale = float(eyes.latents(seen.codes[:512].to(device)).std())
    out: list[nn.Module] = []
    for i, farthest in enumerate(config.levels if config.method == "ptp" else config.levels[:1]):
        torch.manual_seed(int(np.random.SeedSequence([seed, i]).generate_state(1)[0]))
        generator: Any = METHODS[config.method](settings_of(network, policy, scale), codebook(policy)).to(device)
        delta = (2, 2 * farthest) if config.method == "gcp" else (-(-2 * farthest // 3), farthest)
        pairs = SubgoalPairs(seen.codes.to(device), seen.start, seen.end, delta, lambda c: eyes.latents(c).clone(), config.method == "gcp", i + 1 if config.method == "ptp" else 1)
        if config.method == "ptp" and network.likelihood != "codes":
            generator.quantize = lambda z: snap(policy, z)
        fit_stage(run, name_of(i), generator, pairs, steps, BATCH, seed, device)
        out.append(generator.eval())
    return out


def settings_of(network: SubgoalCVAEConfig, policy: Policy, scale: float) -> SubgoalCVAEConfig:
    """The network's settings for the latents of a policy."""
    return SubgoalCVAEConfig(**{**vars(network), "latent_shape": policy.eyes.model.grid_shape, "latent_scale": scale})


def codebook(policy: Policy) -> Tensor:
    """The latent (K, c) of every code of one cell."""
    eyes = policy.eyes
    grids = torch.arange(int(eyes.model.config.codes), device=eyes.device)[:, None].expand(-1, eyes.cells)
    return eyes.latents(grids).clone().unflatten(1, (-1, eyes.cells))[..., 0]


def name_of(level: int) -> str:
    """A generator's checkpoints."""
    return f"generator-{level}"


def load_generators(folder: str, policy: Policy, device: torch.device) -> tuple[PlannerConfig, list[nn.Module]]:
    """The generators of a subgoals run, and the planner's settings they were made for. Refuses those that were trained on another latent model."""
    settings = read_config(folder, "subgoals")
    notes = latest_checkpoint(folder, "stamp").state
    if notes["model"] != stamp(policy):
        raise UserError(f"subgoals: {folder} was trained on another latent model than policy {policy.run} sees through. Train: imagoal subgoals policy={policy.run}")
    config = own("planner", None, {k: v for k, v in settings["planner"].items() if k != "generator"}, "planner", "")
    network: SubgoalCVAEConfig = own(None, "planning.generator:SubgoalCVAEConfig", dict(settings["generator"]), "generator", "")
    out = []
    for i in range(int(notes["levels"])):
        generator = METHODS[config.method](settings_of(network, policy, float(notes["scale"])), codebook(policy)).to(device)
        with explained(f"subgoals {folder}"):
            generator.load_state_dict(latest_checkpoint(folder, name_of(i)).part("model"))
        out.append(generator.eval())
    return config, out


def stamp(policy: Policy) -> str:
    """Which latent model a policy sees through."""
    return str(describe(model_folder(policy.pretrain["model"]))["sha256"])


def imagination(policy: Policy, config: PlannerConfig, generators: list[nn.Module], seen: Material, seed: int, device: torch.device) -> Imagination:
    """Planners over generators, with the policy's value."""
    planners = []
    for i, generator in enumerate(generators if config.method != "gcp" else []):
        level = PlannerConfig(**{**vars(config), "latent_dim": generator.latent_dim, "subgoals": config.subgoals if i == 0 else 2})
        memory = PlanMemory(MemoryConfig(), level.subgoals, level.latent_dim, device) if config.memory else None
        quantize = None if generator.config.likelihood == "codes" else lambda z: snap(policy, z)  # type: ignore[union-attr]  # which are on the codebook already
        planners.append(SubgoalPlanner(generator.generate, lambda a, b: worth(policy, a, b), level, quantize=quantize, memory=memory, begin=getattr(generator, "begin", None)))  # type: ignore[arg-type]
    farthest = config.levels[-1]
    first, later = subgoal_pairs(seen.start, seen.end, (farthest, farthest), CALIBRATED, seeded(seed, 29))
    with torch.no_grad():
        a, b = (policy.eyes.latents(seen.codes[rows].to(device)).clone() for rows in (first, later))
        feasible = float(worth(policy, a, b).quantile(1 - FEASIBLE))
    return Imagination(generators, config, planners, feasible, policy)


def open_imagination(folder: str, policy: Policy, config: PlannerConfig, prior: Material, seed: int, device: torch.device) -> Imagination:
    """Plans by the generators of a subgoals run; `config` says how to search, and `prior`, the policy's prior data, what is feasible."""
    made, generators = load_generators(folder, policy, device)
    return imagination(policy, PlannerConfig(**{**vars(config), "method": made.method, "levels": made.levels}), generators, prior, seed, device)


def check_horizon(horizon: int, subgoal_steps: int) -> None:
    """Raises UserError where no second subgoal would be reached for."""
    if horizon < subgoal_steps:
        raise UserError(f"horizon={horizon} is shorter than one subgoal, subgoal_steps={subgoal_steps}: the plan would never go on to the next. Change one of them.")


def check_value(run: str) -> None:
    """Raises UserError where a policy has no value, which says what is feasible."""
    name = pretrain_config(run)["agent"]["name"]
    if not hasattr(AGENTS[name][0], "value"):
        raise UserError(
            f"policy: planning asks a policy's value what is feasible, and {run} has none (agent={name}). Pretrain one with a critic; agent=iql agent.temperature=0 clones and learns a value beside."
        )


def worth(policy: Policy, a: Tensor, b: Tensor) -> Tensor:
    """V(a, b) of latents (n, z), with the hand in the middle of its space, since a subgoal does not say where the hand is: (n,)."""
    eyes = policy.eyes
    width = FAMILIES[policy.scenes.family].widths(policy.scenes)[1]
    obs = torch.cat([a, a.new_zeros(len(a), width)], -1) if eyes.proprio else a
    return policy.agent.value(obs, b)  # type: ignore[operator, no-any-return]


def snap(policy: Policy, latents: Tensor) -> Tensor:
    """Latents (n, z) on the codebook."""
    return policy.eyes.latents(codes_of(policy, latents)).clone()


def codes_of(policy: Policy, latents: Tensor) -> Tensor:
    """Codes (n, cells) of latents (n, z)."""
    return policy.eyes.model.quantize(latents).flatten(1)
