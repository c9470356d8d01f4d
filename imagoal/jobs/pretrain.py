"""`imagoal pretrain`: what trajectories teach without acting: reaching goals, from pictures seen through a latent model, or any task from numbers."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from envs.columns import Columns
from goals.relabel import HindsightSampler
from goals.rewards import Reward, make_reward
from imagoal import offline
from imagoal.compose import command, name_of
from imagoal.config import PretrainConfig
from imagoal.errors import UserError, explained
from imagoal.evaluation import seeded
from imagoal.figures import metric_chart
from imagoal.learning import learn
from imagoal.loading import (
    encoded,
    load_eyes,
    load_prior,
    make_agent,
    open_trajectories,
    pick_device,
    trajectory_replay,
)
from imagoal.progress import progress
from imagoal.report import Report
from imagoal.run import RunFolder, read_metrics
from imagoal.sight import Eyes

LOG_EVERY = 100  # updates


def main(config: PretrainConfig) -> None:
    """Pretrain, or continue; leaves the checkpoint `policy`, report.html and result.json."""
    check(config)
    began = time.monotonic()
    device = pick_device(config.device)
    (from_pictures if config.model else from_numbers)(config, device, began)


def check(config: PretrainConfig) -> None:
    """Refuse what cannot be learned from, before there is a run folder."""
    if config.model and not config.data:
        raise UserError("pretrain needs data=...: the run folder of an imagoal collect. See: imagoal pretrain --help")
    if config.model and (config.env or config.rewards):
        raise UserError("env= and rewards= are for data of numbers: leave them out, or leave out model=.")
    if not config.model and not config.data:
        if not config.env:
            raise UserError("pretrain needs data=...: the run folder of an imagoal collect with model=..., or a Minari dataset of numbers. See: imagoal pretrain --help")
        if config.updates:
            raise UserError(f"updates={config.updates}, but there is no data to learn from: give data=..., or updates=0 for an agent that learns only by practice online=true.")
    if config.data and not config.model and (Path(config.data).expanduser() / "config.yaml").is_file():
        raise UserError(f"data: {config.data} is a run folder; of a collect run it holds pictures, which need model=..., the run folder of an imagoal train.")


def from_numbers(config: PretrainConfig, device: torch.device, began: float) -> None:
    """From a Minari dataset of states; or, without one, an agent that has learned nothing."""
    data, env = offline.open_data(config)
    copies = offline.open_copies(env, min(offline.SIDE_BY_SIDE, config.evaluation_episodes)) if env else None
    widths = offline.Widths.of(data or copies)  # type: ignore[arg-type]  # check: there is one of them
    if data is not None and copies is not None:
        offline.fitting(widths, offline.Widths.of(copies), f"data={config.data}", f"env={config.env or 'of the dataset'}")
    agent, sampler, reward = offline.fresh_agent(config, widths, device), None, None
    if data is not None:
        replay = offline.numbers_replay(data, widths, device)
        offline.enough(len(replay), config.batch_size, f"data={config.data}")
        reward = offline.reward_of(config.goals, replay, copies, config.seed)
        sampler = offline.sampler_of(config.goals, replay, reward)
        offline.within_clip(config, sampler)
    run = RunFolder("pretrain", config)
    if run.done:
        print(f"pretrain: already done, see {run.path}")
        return
    state: dict[str, Any] = {"updates": config.updates, "widths": asdict(widths)}
    result: dict[str, Any] = {"updates": config.updates}
    if data is not None and sampler is not None:
        scale(config, agent, sampler, device)
        result |= {"transitions": data.transitions, "episodes": len(data.start), "data_return": float(data.returns.mean())}
        state["threshold"] = threshold_of(reward)
        evaluate = partial(offline.evaluation, agent, copies, config.evaluation_episodes, config.horizon, config.seed) if copies else None
        update_loop(config, run, agent, sampler, device, evaluate)
    run.checkpoint("policy", agent.checkpoint(), state)
    if copies is not None:
        judged = offline.evaluation(agent, copies, config.evaluation_episodes, config.horizon, config.seed)
        run.log(config.updates, **judged)
        result |= judged
    else:
        print("pretrain: the dataset names no environment, so that nothing can be evaluated; give env=ID to do it")
    result |= {"seconds": round(time.monotonic() - began, 1), **last_metrics(run)}
    report(config, run, result).save(run.path / "report.html")
    run.finish(result)


def from_pictures(config: PretrainConfig, device: torch.device, began: float) -> None:
    """From the trajectories of a collect run, seen through the latent model of a train run."""
    run = RunFolder("pretrain", config)
    if run.done:
        print(f"pretrain: already done, see {run.path}")
        return
    columns = open_trajectories(config.data, run.path / "columns")
    eyes = load_eyes(config.model, device, config.proprio)
    offline.enough(len(columns) - columns.episodes, config.batch_size, f"data={config.data}")
    codes = encoded(eyes.model, config.model, columns)
    replay = trajectory_replay(columns, codes, eyes, device)
    with explained("goals.reward"):
        reward = make_reward(config.goals.reward, getattr(eyes.model, "grid_shape", None), replay, seeded(config.seed, 1, device=device))
    pool = imagined_pool(config, eyes, columns, codes, device) if config.goals.mixture.imagined > 0 else None
    with explained("goals"):
        sampler = HindsightSampler(replay, config.goals.mixture, reward, pool, config.goals.done_on_reach)
        torch.manual_seed(config.seed)
        agent = make_agent(name_of("agent", config.agent), config.agent, eyes, columns.action.shape[1], device, proprio_dim=columns.proprio.shape[1])
    scale(config, agent, sampler, device)
    done = update_loop(config, run, agent, sampler, device)
    threshold = threshold_of(reward)
    run.checkpoint("policy", agent.checkpoint(), {"threshold": threshold, "updates": done})
    result = {"updates": done, "threshold": threshold, "seconds": round(time.monotonic() - began, 1), **last_metrics(run)}
    report(config, run, result).save(run.path / "report.html")
    run.finish(result)


def scale(config: PretrainConfig, agent: Agent, sampler: HindsightSampler, device: torch.device) -> None:
    """Standardise the agent's inputs, where that was asked for."""
    if config.standardise:
        sample = sampler.sample(4096, seeded(config.seed, 2, device=device))
        agent.fit_scaling(sample.obs, sample.goal)


def threshold_of(reward: Reward | None) -> float:
    """What counts as reached."""
    return float(getattr(reward, "epsilon", getattr(reward, "tolerance", 0.0)))


def update_loop(
    config: PretrainConfig, run: RunFolder, agent: Agent, sampler: HindsightSampler, device: torch.device, evaluate: Callable[[], dict[str, float]] | None = None
) -> int:
    """The gradient updates from the last checkpoint on, with an evaluation before them and now and then, if there is one. Batches come from one
    generator, saved with the agent."""
    generator = seeded(config.seed, 3, device=device)
    saved = run.load_checkpoint("pretrain", rng={"batches": generator})
    begin = 0
    if saved:
        agent.restore(saved.tensors)
        begin = int(saved.state["step"])
    elif evaluate is not None:
        run.log(0, **evaluate())
    agent.train()
    with progress("pretrain", config.updates, begin) as bar:
        for step in range(begin + 1, config.updates + 1):
            metrics = learn(agent, sampler, 1, config.batch_size, generator, config.precision)
            due = evaluate is not None and config.evaluate_every and step % config.evaluate_every == 0 and step < config.updates
            found = evaluate() if due and evaluate is not None else {}
            bar.advance(1, **{k: v for k, v in found.items() if k in ("return", "success")})
            if step % LOG_EVERY == 0 or found:
                run.log(step, **metrics, **found)
            if step % config.checkpoint_every == 0 and step < config.updates:
                run.checkpoint("pretrain", agent.checkpoint(), {"step": step}, rng={"batches": generator})
    return config.updates


def imagined_pool(config: PretrainConfig, eyes: Eyes, columns: Columns, codes: Tensor, device: torch.device) -> Tensor:
    """Goals the prior imagines for every scene of the data, (scenes, K, cells), from the scene's first picture."""
    prior = load_prior(config.model, eyes)
    rows = []
    for scene in range(int(columns.scene.max()) + 1):
        mine = np.flatnonzero(columns.scene == scene)
        first = int(columns.start[mine[0]]) if len(mine) else 0
        context = eyes.latents(codes[first : first + 1].to(device)).clone()
        rows.append(prior.sample_codes(config.imagined, context, generator=seeded(config.seed, 4, scene, device=device)).flatten(1))
    return torch.stack(rows)


def last_metrics(run: RunFolder) -> dict[str, Any]:
    """The last logged value of every column."""
    columns = read_metrics(run.path)
    values = {name: [v for v in column if v is not None] for name, column in columns.items() if name != "step"}
    return {f"last.{name}": column[-1] for name, column in values.items() if column}


def report(config: PretrainConfig, run: RunFolder, result: dict[str, Any]) -> Report:
    """The page: what was learned from, and the curves."""
    page = Report("A policy from prior data", f"imagoal pretrain, agent `{name_of('agent', config.agent)}`, seed {config.seed}")
    page.numbers([
        ("Updates", result["updates"], f"batches of {config.batch_size}"),
        *told(result),
        ("Time", f"{result['seconds']:.0f} s", "this session"),
    ])  # fmt: skip
    metrics = read_metrics(run.path)
    page.section("Learning curves")
    for name in [n for n in metrics if n != "step"]:
        if figure := metric_chart(metrics, {name: ""}, name.replace("_", " "), "update"):
            page.figure(figure)
    page.section("The command").command(command("pretrain", config))
    return page


def told(result: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """What the page says of what was learned from and how well."""
    if "threshold" in result:
        return [("Reached below", f"{result['threshold']:.2f}", "latent distance, calibrated from the data")]
    said: list[tuple[str, Any, str]] = []
    if "transitions" in result:
        said.append(("Data", result["transitions"], f"transitions of {result['episodes']} episodes, mean return {result['data_return']:.1f}"))
    if "return" in result:
        said.append(("Return", f"{result['return']:.1f}", f"{result['return_stochastic']:.1f} where actions are drawn"))
    if "success" in result:
        said.append(("Success", f"{100 * result['success']:.0f}%", "at the last step, as the environment says"))
    return said

