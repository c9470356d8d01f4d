"""`imagoal practice online=true`: a policy of numbers goes on learning in its environment (offline to online; seed 004, section 5; thesis ch. 7 and 8).

A round: run an episode in every copy of the environment, store it, update on batches of prior and practised data. Step 0 is the pretrained policy.
"""

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from envs.offline import append_numbers, check_can_append
from goals.relabel import HindsightSampler, MixedSampler
from goals.replay import Replay
from goals.rewards import RewardConfig
from imagoal import offline
from imagoal.compose import command, name_of
from imagoal.config import PracticeConfig, PretrainConfig
from imagoal.errors import UserError, explained
from imagoal.evaluation import seeded
from imagoal.figures import metric_chart
from imagoal.learning import learn
from imagoal.loading import pick_device, pretrain_run
from imagoal.progress import progress
from imagoal.report import Report
from imagoal.run import RunFolder, read_config, read_metrics

MOST_EPISODES = 50  # checkpoints hold everything practised; so many are written at most, besides the last


class Online:
    """What an online run works with.

    Attributes: pretrain (its configuration), agent, copies (that practise), judges (copies that evaluations run in), replay (what was practised), reward, sampler,
    horizon.
    """

    def __init__(self, config: PracticeConfig, device: torch.device) -> None:
        policy = offline.load_policy(config.policy, config.parallel, device)
        self.pretrain, self.agent, self.copies = policy.pretrain, policy.agent, policy.copies
        pretrain, widths, data = policy.pretrain, policy.widths, policy.data
        if config.keep:
            with explained("keep"):
                check_can_append(config.keep, self.copies.first)
        self.judges = offline.open_copies(policy.env, min(offline.SIDE_BY_SIDE, config.evaluation_episodes))
        self.horizon = min(config.horizon or self.copies.horizon, self.copies.horizon)
        self.replay = Replay(config.episodes * (self.horizon + 1) + 1, widths.goal, widths.observation, widths.action, device=device)
        prior = offline.numbers_replay(data, widths, device) if data is not None else None
        self.reward = reward = offline.reward_of(pretrain.goals, prior if prior is not None else self.replay, self.copies, pretrain.seed)
        practised = offline.sampler_of(pretrain.goals, self.replay, reward)
        self.sampler: MixedSampler | HindsightSampler = practised
        if prior is None:
            if config.practised_share not in (1.0, -1.0):
                print("practice: the policy was pretrained on no data, so that every batch is practised: practised_share=1")
        else:
            self.sampler = MixedSampler(offline.sampler_of(pretrain.goals, prior, reward), practised, config.practised_share)
        if config.bc_weight >= 0 and hasattr(self.agent, "set_bc_weight"):
            cast(Any, self.agent).set_bc_weight(config.bc_weight)
        self.whole = config.practised_share < 0

    def mix(self) -> None:
        """Where the share follows what there is of each, set it."""
        if self.whole and isinstance(self.sampler, MixedSampler):
            self.sampler.share = len(self.replay) / (len(self.replay) + len(self.sampler.first.replay))


def main(config: PracticeConfig) -> None:
    """Practise, or continue; leaves the checkpoint `policy`, report.html and result.json, and the dataset `keep`."""
    began = time.monotonic()
    online = Online(config, pick_device(config.device))
    run = RunFolder("practice", config)
    if run.done:
        print(f"practice: already done, see {run.path}")
        return
    evaluate = partial(offline.evaluation, online.agent, online.judges, config.evaluation_episodes, online.pretrain.horizon, config.seed)  # as pretraining was judged
    steps = practise(config, run, online, evaluate)
    after = evaluate()
    run.log(steps, **after)
    run.checkpoint("policy", online.agent.checkpoint(), {"env": online.pretrain.env})
    if config.keep and not (run.path / "kept").is_file():
        with explained("keep"):
            kept = append_numbers(config.keep, offline.episodes_of(online.replay), online.copies.first)
        (run.path / "kept").write_text(f"{config.keep}\n")  # so that they are added once
        print(f"practice: {config.keep} holds {kept.total_episodes} episodes, {kept.total_steps} steps")
    metrics = read_metrics(run.path)
    before = {name: column[0] for name, column in metrics.items() if name in after}
    result: dict[str, Any] = {"steps": steps, "attempts": config.episodes, **{f"{k}_before": v for k, v in before.items()}, **after,
                              "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    report(config, run, online.pretrain, result).save(run.path / "report.html")
    run.finish(result)


def practise(config: PracticeConfig, run: RunFolder, online: Online, evaluate: Any) -> int:
    """All rounds from the last checkpoint on; returns the steps taken. Round r draws everything from generators seeded by (seed, r)."""
    agent, replay, device, begin = online.agent, online.replay, online.replay.device, 0
    rounds, saved = config.episodes // config.parallel, run.load_checkpoint("online")
    if saved:
        agent.restore(saved.part("agent"))
        replay.load_state_dict(saved.part("replay"))
        begin = int(saved.state["round"])
    else:
        run.log(0, **evaluate())
    with progress("practice", config.episodes, begin * config.parallel) as bar:
        for r in range(begin + 1, rounds + 1):
            seeds = np.random.SeedSequence([config.seed, 16, r]).generate_state(config.parallel) % 1_000_000
            agent.eval()
            episodes, _ = online.copies.run(offline.actor(agent, device, True, seeded(config.seed, 17, r, device=device)), seeds.tolist(), online.horizon)
            agent.train()
            offline.add_episodes(replay, episodes)
            if r == 1:
                offline.within_clip(online.pretrain, offline.sampler_of(online.pretrain.goals, replay, online.reward))
            taken = sum(len(e.action) for e in episodes)
            values: dict[str, Any] = {"practised_return": float(np.mean([e.reward.sum() for e in episodes]))}
            values |= updates(config, online, r, taken)
            if config.evaluate_every and r % config.evaluate_every == 0 and r < rounds:
                values |= evaluate()
            run.log(len(replay), **values)
            bar.advance(config.parallel, **{"return": values["practised_return"]})
            if r % max(1, rounds // MOST_EPISODES) == 0 or r == rounds:
                tensors = {f"agent.{k}": v for k, v in agent.checkpoint().items()} | {f"replay.{k}": v for k, v in replay.state_dict().items()}
                run.checkpoint("online", tensors, {"round": r})
    return len(replay)


def updates(config: PracticeConfig, online: Online, r: int, taken: int) -> dict[str, Tensor]:
    """The gradient updates of one round; the metrics of the last ones."""
    agent, generator = online.agent, seeded(config.seed, 18, r, device=online.replay.device)
    count = taken if config.updates_per_episode < 0 else config.updates_per_episode * config.parallel
    online.mix()
    return learn(agent, online.sampler, count, config.batch_size, generator, config.precision)


def report(config: PracticeConfig, run: RunFolder, pretrain: PretrainConfig, result: dict[str, Any]) -> Report:
    """The page: before, after, and the curves, with those of pretraining at negative steps."""
    page = Report("Practice online", f"agent `{name_of('agent', pretrain.agent)}` in {pretrain.env or 'the environment of its data'}, seed {config.seed}")
    page.numbers([
        ("Return", f"{result['return']:.1f}", f"{result['return_before']:.1f} before; {config.evaluation_episodes} episodes"),
        *([("Success", f"{100 * result['success']:.0f}%", f"{100 * result['success_before']:.0f}% before, as the environment says")] if "success" in result else []),
        ("Steps", result["steps"], f"of {config.episodes} episodes"),
        ("Time", f"{result['seconds']:.0f} s", "this session"),
    ])  # fmt: skip
    metrics = with_pretraining(run.path, config.policy)
    for name, title in (("return", "Return"), ("success", "Success")):
        lines = {name: "best guesses", f"{name}_stochastic": "actions drawn"}
        if curve := metric_chart(metrics, lines, title, "updates of pretraining (below 0), then steps of practice"):
            page.figure(curve)
    for name in [n for n in metrics if n != "step" and not n.startswith(("return", "success", "reached"))]:
        if figure := metric_chart(metrics, {name: ""}, name.replace("_", " "), "steps"):
            page.figure(figure)
    page.section("The command", "Every setting is in `config.yaml` in the run folder.").command(command("practice", config))
    return page


def with_pretraining(run: Path, policy: str) -> dict[str, list[float | None]]:
    """A run's metrics, with the evaluations of its policy's pretraining before them, at minus the updates that were still to come."""
    after, before = read_metrics(run), read_metrics(pretrain_run(policy))
    kept = [name for name in before if name.startswith(("return", "success"))]
    rows = [i for i, value in enumerate(before.get("return", [])) if value is not None]
    last = max((before["step"][i] or 0 for i in rows), default=0)
    out: dict[str, list[float | None]] = {"step": [*((before["step"][i] or 0) - last for i in rows), *after["step"]]}
    for name in {*kept, *after} - {"step"}:
        out[name] = [before[name][i] if name in before else None for i in rows] + list(after.get(name, [None] * len(after["step"])))
    return out


def checked(config: PracticeConfig) -> PracticeConfig:
    """The configuration with what 0 and -1 stand for in a scene. Raises UserError for keys that need online=true, and for a reward other than the policy's."""
    theirs, plain = read_config(pretrain_run(config.policy))["goals"]["reward"], asdict(RewardConfig())
    for name, value in asdict(config.goals.reward).items():
        if value not in (plain[name], theirs[name]):
            raise UserError(f"goals.reward.{name}={value}: practice goes on with the reward of pretraining, where it was {theirs[name]}. Pretrain with it, or leave it out.")
    if config.keep and not config.online:
        raise UserError("keep= adds practised episodes of numbers to a dataset: it needs online=true.")
    if -1 < config.practised_share < 0:
        raise UserError(f"practised_share={config.practised_share:g} must lie between 0 and 1, or be -1.")
    if config.online and (config.least_progress >= 0 or config.idle or config.explorers or not config.noise or config.displacement or config.least_change >= 0 or config.recall or config.average_rate >= 0 or config.repeats or config.even):
        raise UserError("least_progress=, idle=, explorers=, noise=, displacement=, least_change=, recall=, average_rate=, repeats= and even= are of attempts in a scene: leave them out with online=true.")
    if config.least_change >= 0 > config.least_progress:
        raise UserError("least_change= adds to the attempts that least_progress= leaves, and without that all are practised: give both, or neither.")
    if config.online and config.subgoals:
        raise UserError("subgoals= is for pictures: leave it out with online=true.")
    if config.subgoals and config.goal_source == "none":
        raise UserError("subgoals= is for attempts, of which goal_source=none makes none: leave one of them out.")
    if config.online:
        return config
    if config.practised_share < 0:
        raise UserError("practised_share=-1 needs online=true; in a scene give a share between 0 and 1.")
    return replace(config, updates_per_episode=config.updates_per_episode if config.updates_per_episode >= 0 else 10)
