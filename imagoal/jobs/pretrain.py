"""`imagoal pretrain`: goal-reaching from the collected trajectories alone."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from envs.columns import Columns
from goals.relabel import HindsightSampler
from goals.rewards import make_reward
from imagoal.compose import name_of
from imagoal.config import PretrainConfig
from imagoal.errors import explained
from imagoal.evaluation import seeded
from imagoal.figures import metric_chart
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
    run = RunFolder("pretrain", config)
    if run.done:
        print(f"pretrain: already done, see {run.path}")
        return
    began = time.monotonic()
    device = pick_device(config.device)
    columns = open_trajectories(config.data, run.path / "columns")
    eyes = load_eyes(config.model, device, config.proprio)
    codes = encoded(eyes.model, config.model, columns)
    replay = trajectory_replay(columns, codes, eyes, device)
    reward = make_reward(config.goals.reward, eyes.model.grid_shape, replay, seeded(config.seed, 1, device=device))
    pool = imagined_pool(config, eyes, columns, codes, device) if config.goals.mixture.imagined > 0 else None
    with explained("goals"):
        sampler = HindsightSampler(replay, config.goals.mixture, reward, pool, config.goals.done_on_reach)
        torch.manual_seed(config.seed)
        agent = make_agent(name_of("agent", config.agent), config.agent, eyes, columns.action.shape[1], device)
    if config.standardise:
        sample = sampler.sample(4096, seeded(config.seed, 2, device=device))
        agent.fit_scaling(sample.obs, sample.goal)
    done = update_loop(config, run, agent, sampler, device)
    threshold = float(getattr(reward, "epsilon", getattr(reward, "tolerance", 0.0)))
    run.checkpoint("policy", agent.checkpoint(), {"threshold": threshold, "updates": done})
    result = {"updates": done, "threshold": threshold, "seconds": round(time.monotonic() - began, 1), **last_metrics(run)}
    report(config, run, result).save(run.path / "report.html")
    run.finish(result)


def update_loop(config: PretrainConfig, run: RunFolder, agent: Agent, sampler: HindsightSampler, device: torch.device) -> int:
    """The gradient updates from the last checkpoint on. Batches come from one generator, saved with the agent."""
    generator = seeded(config.seed, 3, device=device)
    saved = run.load_checkpoint("pretrain", rng={"batches": generator})
    begin = 0
    if saved:
        agent.restore(saved.tensors)
        begin = int(saved.state["step"])
    agent.train()
    update: Any = agent.update
    with progress("pretrain", config.updates, begin) as bar:
        for step in range(begin + 1, config.updates + 1):
            metrics = update(sampler.draw(config.batch_size, agent.length, generator))
            bar.advance(1)
            if step % LOG_EVERY == 0:
                run.log(step, **metrics)
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
        ("Reached below", f"{result['threshold']:.2f}", "latent distance, calibrated from the data"),
        ("Time", f"{result['seconds']:.0f} s", "this session"),
    ])  # fmt: skip
    metrics = read_metrics(run.path)
    page.section("Learning curves")
    for name in [n for n in metrics if n != "step"]:
        if figure := metric_chart(metrics, {name: ""}, name.replace("_", " "), "update"):
            page.figure(figure)
    return page


