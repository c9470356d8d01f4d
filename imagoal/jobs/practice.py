"""`imagoal practice`: self-supervised practice in a scene never seen (VAL, thesis ch. 9, Algorithm 7, online phase).

A round: look at the scene, imagine a goal per attempt, try, store what was seen as codes, relabel, update. Rewards are
latent distances; ground truth is read only by the evaluations, whose results never reach the agent.
"""

import time
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from agents.exploration import Actor, Team
from envs.families import FAMILIES, SceneBatch, open_scene
from goals.kinds import WeightedRows
from goals.relabel import HindsightSampler, MixedSampler
from goals.replay import Replay
from goals.rewards import ChangedCellsReward, SparseReward
from imagoal import online
from imagoal.compose import command, own
from imagoal.config import PracticeConfig
from imagoal.demonstrations import Demonstrations
from imagoal.errors import UserError, explained
from imagoal.evaluation import Evaluation, evaluate, seeded
from imagoal.goal_sources import Beginning, GoalSource, Outcomes, goal_source
from imagoal.learning import learn
from imagoal.loading import (
    Policy,
    encoded,
    load_policy,
    open_trajectories,
    pick_device,
    practised_before,
    pretrain_config,
    require_codes,
    scene_settings,
    trajectory_replay,
)
from imagoal.practice_page import Attempts, report
from imagoal.progress import progress
from imagoal.recall import Recall, clones_only
from imagoal.repeats import History, repeats
from imagoal.rollout import Rollout, roll_out
from imagoal.run import RunFolder, read_metrics
from imagoal.subgoals import Imagination, check_horizon, check_value, codes_of, open_imagination, prior_material, stamp
from planning import SubgoalFollower

RECALLED = 160  # starts whose goals are rehearsed
STILL = 0.06  # of what is read of the robot, about [-1, 1]: nearer than this it is where it was; at the desk about a centimetre


@dataclass
class Gym:
    """What a practice run works with."""

    policy: Policy
    world: SceneBatch
    prior_data: HindsightSampler
    replay: Replay
    actor: Actor  # who makes attempts: the policy, in turn with explorers where there are any
    practised: HindsightSampler
    sampler: MixedSampler | Recall
    reward: SparseReward | ChangedCellsReward
    goals: GoalSource
    outcomes: Outcomes
    imagination: Imagination | None  # where attempts go by way of planned subgoals
    history: History | None  # where attempts are repeated, or practised evenly
    demonstrations: Demonstrations | None  # where they are done again
    homing: int  # steps after an attempt's own, in which the robot leaves the picture


def main(config: PracticeConfig) -> None:
    """Practise, or continue; leaves the checkpoint `policy`, films, report.html and result.json."""
    if config.episodes % config.parallel:
        raise UserError(f"episodes={config.episodes} must be a multiple of parallel={config.parallel}.")
    settings = online.checked(config)
    if config.online:
        online.main(config)
        return
    scenes = scene_settings(pretrain_config(config.policy)["data"])  # refuses what is no policy of pictures before there is a run folder
    family = FAMILIES[scenes.family]
    settings = replace(settings, horizon=config.horizon or family.steps(config.task, config.changes))
    if config.subgoals:
        check_value(config.policy)
        check_horizon(settings.horizon, config.subgoal_steps)
    if config.task or config.changes > 1:
        with explained("scene"):
            world = open_scene(config.scene, 1, scenes)
        with explained("task"):
            world.sample([0], config.changes, config.task)
        world.close()
    device = pick_device(config.device)
    policy = load_policy(config.policy, device)
    check_policy(config, policy)
    run = RunFolder("practice", config)
    if run.done:
        print(f"practice: already done, see {run.path}")
        return
    typed, config = command("practice", config), settings
    began = time.monotonic()
    gym = open_gym(config, policy, run, device)
    before = judge(config, gym)
    attempts = practise(config, run, gym, before, typed)
    after = judge(config, gym, keep_images=True)
    run.log(config.episodes, success=after.rate)
    agent = gym.policy.agent
    run.checkpoint("policy", agent.checkpoint(), {"threshold": gym.policy.threshold, "scene": config.scene})
    result: dict[str, Any] = {
        **before.numbers("_before"), **after.numbers("_after"),
        "practice_gain": after.rate - before.rate, "evaluation_episodes": config.evaluation_episodes, "lost": lost_in(run),
        "attempts": config.episodes if config.goal_source != "none" else 0, "kept": kept_in(run, config), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    report(config, run, attempts, before, typed, after, result).save(run.path / "report.html")
    run.finish(result)


def check_policy(config: PracticeConfig, policy: Policy) -> None:
    """Raises UserError for what this policy cannot be told."""
    if config.recall and not clones_only(policy.agent):
        raise UserError(f"recall={config.recall:g} is for agents that only clone (agent=bc): rewards are not those of the goals rehearsed. {config.policy} is another: leave recall out.")
    if config.idle and not policy.eyes.proprio:
        raise UserError(f"idle={config.idle} is judged by where the robot is, which {config.policy} does not read: pretrain with proprio=true, or leave idle out.")
    if config.repeats and not policy.eyes.proprio:
        raise UserError(f"repeats={config.repeats:g} follow the robot's path, which {config.policy} does not read: pretrain with proprio=true, or leave repeats out.")
    if config.displacement and not policy.eyes.proprio:
        raise UserError(f"displacement={config.displacement:g} is of where the robot feels that it is, which {config.policy} does not read: pretrain with proprio=true, or leave displacement out.")
    if config.average_rate >= 0 and policy.agent.average is None:
        raise UserError(f"average_rate={config.average_rate:g}: the policy of {config.policy} is no average of weights. Pretrain it with agent.average_rate=0.005, or leave average_rate out.")
    if config.goal_source == "affordance":
        require_codes(policy.eyes, policy.pretrain["model"], "the affordance prior is of codes (goals that such a model imagines itself: goal_source=model goal_model=RUN)")


def open_gym(config: PracticeConfig, policy: Policy, run: RunFolder, device: torch.device) -> Gym:
    """The policy, its prior data and the scene."""
    pretrain = policy.pretrain
    with explained("scene"):
        world = open_scene(config.scene, config.parallel, policy.scenes)
    columns = open_trajectories(pretrain["data"])
    codes = encoded(policy.eyes.model, pretrain["model"], columns)
    old = trajectory_replay(columns, codes, policy.eyes, device, practised_before(policy, device))
    offline = own("goals", None, dict(pretrain["goals"]), "goals", "")
    kind = offline.reward.kind
    if kind == "dense":
        raise UserError("practice needs a reward that says when a goal is reached: pretrain with goals.reward.kind=sparse.")
    reward: SparseReward | ChangedCellsReward = SparseReward(policy.threshold)
    if kind == "changed_cells":
        reward = ChangedCellsReward(int(policy.threshold), policy.eyes.model.grid_shape, offline.reward.delta)
    offline.mixture.imagined = 0.0
    prior_data = HindsightSampler(old, offline.mixture, reward, None, offline.done_on_reach)
    eyes = policy.eyes
    seen = world.proprio_dim if eyes.proprio else 0
    planned = open_imagination(config.subgoals, policy, config.planner, prior_material(columns, codes), config.seed, device) if config.subgoals else None
    homing = homing_of(config, policy)
    replay = Replay(config.episodes * (config.horizon + homing + 1) + 1, eyes.cells, seen, world.action_dim, lookup=eyes.lookup, device=device, aims=planned is not None)
    practised = HindsightSampler(replay, config.goals.mixture, reward, None, config.goals.done_on_reach)
    sampler = MixedSampler(prior_data, practised, config.practised_share)
    if config.average_rate >= 0:
        policy.agent.average_rate = config.average_rate
    if config.bc_weight >= 0 and hasattr(policy.agent, "set_bc_weight"):
        cast(Any, policy.agent).set_bc_weight(config.bc_weight)
    outcomes = Outcomes(eyes.cells, replay.dtype, device)
    history = History(eyes.latent_dim, config.horizon, seen, world.action_dim, device) if config.repeats or config.even else None
    source = goal_source(config, policy, world, codes, outcomes, history if config.even else None, reward)
    demonstrations = Demonstrations(columns, device) if config.repeats else None
    recalled = Recall(sampler, policy.agent, goals_here(config, policy, world, source), config.recall) if config.recall else sampler
    team = [load_explorer(run, policy, device) for run in config.explorers]
    return Gym(policy, world, prior_data, replay, Team([policy.agent, *team]) if team else policy.agent, practised, recalled, reward, source, outcomes, planned, history, demonstrations, homing)


def load_explorer(run: str, policy: Policy, device: torch.device) -> Agent:
    """Another policy for attempts, which does not learn. Raises UserError for one that sees otherwise."""
    other = load_policy(run, device)
    if stamp(other) != stamp(policy) or other.eyes.proprio != policy.eyes.proprio or other.scenes != policy.scenes:
        raise UserError(f"explorers: {run} does not see as {policy.run} does. Pretrain it with model={policy.pretrain['model']} proprio={str(policy.eyes.proprio).lower()}, and on data of the same scenes' settings.")
    return other.agent.eval().requires_grad_(False)


def goals_here(config: PracticeConfig, policy: Policy, world: SceneBatch, source: GoalSource) -> Tensor:
    """Goals of the scene (2 RECALLED, z): of so many starts what is imagined for each, and what it looks like itself."""
    eyes, generator = policy.eyes, seeded(config.seed, 15, device=policy.agent.noise_seed.device)
    found = []
    for part in range(0, RECALLED, config.parallel):
        begin = beginning(policy, world, np.random.SeedSequence([config.seed, 16, part]).generate_state(config.parallel) % 1_000_000, None, homing_of(config, policy))
        found += [eyes.latents(source(begin, generator)).clone(), begin.latents]
    return torch.cat(found)


def homing_of(config: PracticeConfig, policy: Policy) -> int:
    """Steps that take the robot out of the picture; 0: it stays where it is."""
    return FAMILIES[policy.scenes.family].homing if config.home else 0


def beginning(policy: Policy, world: SceneBatch, seeds: np.ndarray, starts: np.ndarray | None, homing: int) -> Beginning:
    """What a round of attempts begins with: the given starts (n, S), or those of the seeds; and how they look once the robot has gone out of the picture, as it
    does after an attempt, so that an outcome in which nothing changed looks the same."""
    starts = world.starts(seeds) if starts is None else starts
    first = world.picture(starts) if policy.eyes.model.needs_context or not homing else None
    pictures = gone_home(world, starts, homing) if homing else first
    assert pictures is not None
    return Beginning(seeds, starts, pictures, policy.eyes.latents(policy.eyes.codes(pictures, first)).clone(), first)


def gone_home(world: SceneBatch, starts: np.ndarray, homing: int) -> np.ndarray:
    """Pictures (n, H, W, 3) uint8 of starts (n, S) after so many steps in which the robot leaves the picture."""
    world.reset(starts)
    ready = world.proprio()
    for _ in range(homing):
        world.step(world.homing(world.proprio(), ready))
    return world.images()


def judge(config: PracticeConfig, gym: Gym, keep_images: bool = False) -> Evaluation:
    """Success at true goals of the scene: seeds that practice never uses."""
    policy, planned = gym.policy, gym.imagination

    def guide(z: Tensor, goal: Tensor) -> SubgoalFollower:
        assert planned is not None
        return planned.follow(planned.plan(z, goal, seeded(config.seed, 14, device=z.device), remember=False), config.subgoal_steps)

    return evaluate(policy.agent, policy.eyes, policy.scenes, config.scene, config.evaluation_episodes, config.horizon, config.changes, config.task,
                    keep_images=keep_images, guide=guide if planned else None)  # fmt: skip


def practise(config: PracticeConfig, run: RunFolder, gym: Gym, before: Evaluation, typed: str) -> dict[str, Attempts]:
    """All rounds from the last checkpoint on; returns the attempts kept for the report. `typed` is the command.

    Round r draws its starts, goals, noise and batches from generators seeded by (seed, r), and checkpoints hold the agent and
    everything practised, so a run killed in round r repeats round r exactly.
    """
    agent, device = gym.policy.agent, gym.replay.device
    rounds, saved, begin = config.episodes // config.parallel, run.load_checkpoint("practice"), 0
    if saved:
        agent.restore(saved.part("agent"))
        gym.replay.load_state_dict(saved.part("replay"))
        gym.outcomes.add(saved.tensors.get("outcomes", gym.outcomes.codes))
        if gym.imagination:
            gym.imagination.remember(saved.part("plans"))
        if gym.history is not None:
            gym.history.load_state_dict(saved.part("history"))
        begin = int(saved.state["round"])
    else:
        run.log(0, success=before.rate)
    attempts: dict[str, Attempts] = {}
    every = config.evaluate_every or max(1, rounds // 10)
    with progress("practice", config.episodes, begin * config.parallel) as bar:
        for r in range(begin + 1, rounds + 1):
            values: dict[str, Any] = {}
            if config.goal_source != "none":
                shown = r in (1, rounds // 2, rounds) or r % every == 0
                start, rollout, goal, aims = attempt(config, gym, r, keep_images=shown)
                lost = gym.world.lost()
                values |= store(config, gym, start.latents, rollout, goal, lost, aims)
                gym.outcomes.add(rollout.codes[~torch.from_numpy(lost).to(rollout.codes.device), -1])
                if lost.any():
                    values["lost"] = int(lost.sum())
                if shown:
                    attempts = {name: a for name, a in attempts.items() if name in ("round 1", f"round {rounds // 2}")}  # and the latest
                    attempts[f"round {r}"] = Attempts(rollout, gym.policy.eyes.pictures(goal, start.first), distances(gym, rollout, goal))
            values |= updates(config, gym, r, device)
            if config.evaluate_every and r % config.evaluate_every == 0 and r < rounds:
                values["success"] = judge(config, gym).rate
            run.log(r * config.parallel, **values)
            if r % every == 0 and r < rounds:  # a page that grows
                report(config, run, attempts, before, typed).save(run.path / "report.html")
            bar.advance(config.parallel, **({"reached": values["reached"]} if "reached" in values else {}))
            tensors = {f"agent.{k}": v for k, v in agent.checkpoint().items()}
            tensors |= {f"replay.{k}": v for k, v in gym.replay.state_dict().items()} | {"outcomes": gym.outcomes.codes}
            if gym.imagination:
                tensors |= {f"plans.{k}": v for k, v in gym.imagination.remembered().items()}
            if gym.history is not None:
                tensors |= {f"history.{k}": v for k, v in gym.history.state_dict().items()}
            run.checkpoint("practice", tensors, {"round": r})
    return attempts


def attempt(config: PracticeConfig, gym: Gym, r: int, keep_images: bool) -> tuple[Beginning, Rollout, Tensor, Tensor | None]:
    """What it begins with, one round of attempts, the codes (n, cells) of the goals that were imagined for them, and of what was aimed at in every step (n, T, cells) where
    that was planned subgoals (Algorithm 8)."""
    n = config.parallel
    seeds = np.random.SeedSequence([config.seed, 11, r]).generate_state(n) % 1_000_000
    starts = gym.world.sample(seeds, config.changes, config.task)[0] if config.goal_source == "oracle" else gym.world.starts(seeds)  # its goals are of their own starts
    eyes, generator = gym.policy.eyes, seeded(config.seed, 12, r, device=gym.replay.device)
    begin = beginning(gym.policy, gym.world, seeds, starts, gym.homing)
    goal = gym.goals(begin, generator)
    way: Tensor | SubgoalFollower = eyes.latents(goal).clone()
    if gym.imagination:
        here = beginning(gym.policy, gym.world, seeds, starts, 0) if gym.homing else begin  # where the robot does begin
        way = gym.imagination.follow(gym.imagination.plan(here.latents, eyes.latents(goal).clone(), generator), config.subgoal_steps)
    gym.policy.agent.eval()
    actor = gym.actor
    if config.repeats:
        assert gym.history is not None and gym.demonstrations is not None
        likeness = gym.demonstrations.likeness(eyes.pictures(eyes.codes(begin.pictures, begin.first), begin.first), eyes.pictures(goal, begin.first))
        actor = repeats(actor, gym.world.follow, begin.latents, likeness, config.repeats, gym.history, gym.demonstrations.columns, generator)
    displaced = displacement(config, gym.world, generator) if config.displacement else None
    rollout = roll_out(gym.world, actor, eyes, starts, way, config.horizon, config.noise, generator, keep_images, home=gym.homing, displaced=displaced)
    gym.policy.agent.train()
    if isinstance(way, Tensor):
        return begin, rollout, goal, None
    chain = torch.cat([codes_of(gym.policy, way.subgoals[:, :-1].flatten(0, 1)).view(n, -1, eyes.cells), goal[:, None]], 1)
    return begin, rollout, goal, chain[torch.arange(n, device=chain.device)[:, None], torch.stack(way.followed, 1)]


def displacement(config: PracticeConfig, world: SceneBatch, generator: torch.Generator) -> Tensor:
    """By how much each attempt's policy takes the robot to be elsewhere (n, P): N(0, (k * displacement)^2) where the hand is, with k 0, 1 or 2, drawn for each
    attempt; 0 in what else is read of it. A policy that misses a thing always misses it in the same direction, and then sometimes does not."""
    n, device = config.parallel, generator.device
    spread = config.displacement * torch.randint(3, (n, 1), generator=generator, device=device)
    moved = spread * torch.randn(n, world.place_dim, generator=generator, device=device)
    return torch.nn.functional.pad(moved, (0, world.proprio_dim - world.place_dim))


def distances(gym: Gym, rollout: Rollout, goal: Tensor) -> np.ndarray:
    """How far each attempt is from its goal at every step, in thresholds of the reward: (n, T + 1)."""
    eyes, steps = gym.policy.eyes, rollout.codes.shape[1]
    aim = eyes.latents(goal).clone()
    found = [gym.reward.distance(eyes.latents(rollout.codes[:, t]).clone(), aim) for t in range(steps)]
    return torch.stack(found, 1).cpu().numpy() / max(gym.policy.threshold, 1e-9)


def store(config: PracticeConfig, gym: Gym, begun: Tensor, rollout: Rollout, goal: Tensor, lost: np.ndarray, aims: Tensor | None = None) -> dict[str, float]:
    """Adds the attempts to the replay, which began with the latents `begun` (n, z), with what they aimed at in every step (n, T, cells) where that changed, but for those in which a thing left the
    table, or too little came of them. Returns the shares of all that came within the reward's threshold of their goal, and, where they are chosen, that were kept."""
    eyes = gym.policy.eyes
    n, steps = rollout.action.shape[:2]
    proprio = rollout.proprio if eyes.proprio else rollout.proprio[..., :0]
    aim = eyes.latents(goal).clone()
    kept = ~torch.from_numpy(lost)
    ends = rollout.codes[:, -1]
    came = eyes.latents(ends).clone()
    if config.least_progress >= 0:
        far, left = (gym.reward.distance(z, aim) for z in (begun, came))
        kept &= (left <= (1 - config.least_progress) * far).cpu()
    if config.least_change >= 0:  # something was done, if not what was asked: in hindsight that was
        moved = gym.reward.distance(begun, came) > config.least_change * gym.policy.threshold
        besides = moved & ~(kept | torch.from_numpy(lost)).to(moved.device)
        goal = torch.where(besides[:, None], ends.to(goal), goal)
        if aims is not None:
            aims = torch.where(besides[:, None, None], ends[:, None].to(aims), aims)
        kept |= besides.cpu()
    reached = torch.zeros(n, dtype=torch.bool)
    for i in np.flatnonzero(~lost).tolist():
        latents = eyes.latents(rollout.codes[i, 1:]).clone()
        reached[i] = gym.reward.reached(latents, aim[i : i + 1].expand(steps, -1)).any()
        if kept[i]:
            rows = busy(proprio[i, : steps - gym.homing], config.idle)  # what the script does is no practice, but the outcome is seen after it
            if not len(rows):  # it never moved
                kept[i] = False
                continue
            rows = torch.cat([rows, torch.tensor([steps])])
            gym.replay.add_episode(rollout.codes[i][rows], proprio[i][rows], rollout.action[i][rows[:-1]], goal=goal[i] if aims is None else aims[i][rows[:-1]],
                                   scene=gym.replay.next_episode if eyes.context_dim else 0)  # fmt: skip
    if gym.history is not None:
        acted = steps - gym.homing
        gym.history.add(aim - begun, begun[kept], came[kept], rollout.proprio[kept, :acted], rollout.action[kept, :acted])
    shares = {"reached": float(reached.float().mean())}
    return shares | ({"kept": float(kept.float().mean())} if config.least_progress >= 0 else {})


def busy(proprio: Tensor, idle: int) -> Tensor:
    """Which steps of an attempt are practised, in order, by what was read of the robot before each (T, p): those of which `idle` later it is elsewhere, by more
    than `STILL`; with `idle` 0 all."""
    rows = torch.arange(len(proprio))
    later = proprio[(rows + idle).clamp_max(len(proprio) - 1)]
    return rows[(later - proprio).abs().amax(1) > STILL] if idle else rows


def updates(config: PracticeConfig, gym: Gym, r: int, device: torch.device) -> dict[str, Tensor]:
    """The gradient updates of one round; the metrics of the last ones."""
    sampler = gym.sampler if len(gym.replay) else gym.prior_data  # nothing is practised with goal_source=none, and as long as no attempt was kept
    if config.even and len(gym.replay):
        assert gym.history is not None
        gym.practised.drawn = WeightedRows(gym.replay, gym.history.weights())
    generator = seeded(config.seed, 13, r, device=device)
    return learn(gym.policy.agent, sampler, config.parallel * config.updates_per_episode, config.batch_size, generator, config.precision)


def lost_in(run: RunFolder) -> int:
    """Attempts that were discarded because a thing left the table."""
    return int(sum(v or 0 for v in read_metrics(run.path).get("lost", [])))


def kept_in(run: RunFolder, config: PracticeConfig) -> float:
    """Share of the attempts that was practised."""
    if config.goal_source == "none":
        return 0.0
    kept = [v for v in read_metrics(run.path).get("kept", []) if v is not None]
    return sum(kept) / len(kept) if kept else 1 - lost_in(run) / config.episodes
