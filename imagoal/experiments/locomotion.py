"""Offline learning of locomotion (thesis table 1), from data of our own: one SAC run in HalfCheetah, whose policy halfway is `medium`, at the end `expert`.

- `medium`: what the policy halfway does, its actions drawn; `replay`: everything practised until then; `medium_expert`: half from each policy.

A score is 0 for random actions and 100 for the expert's mean return. All seeds learn from the same data, as in D4RL.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.copies import Copies
from envs.offline import Episode, append_numbers, open_minari, read_numbers, stack
from imagoal import offline
from imagoal.config import ExperimentConfig
from imagoal.disk import write_atomic
from imagoal.evaluation import seeded
from imagoal.stages import stage, stages
from imagoal.stats import iqm, iqm_interval

ENV = "HalfCheetah-v5"
LEARNED = {"medium": 60, "expert": 200}  # episodes of 1,000 steps after which SAC's policy is taken
COLLECTED = 100  # episodes of a dataset
RANDOM = 20  # episodes of random actions, which a score of 0 is the mean return of
SCALE = 0.2  # of the rewards, so that a step of the medium policy is worth about 1
DATASETS = ("medium", "replay", "medium_expert")
CRITIC = ("agent.target_clip=false", "agent.target_rate=0.02")  # rewards are not between -1 and 0; at a rate of .005 Q is a quarter of what it should be after 10,000 updates
AGENTS: dict[str, tuple[str, ...]] = {
    "bc": ("agent=bc",),
    "one_step": ("agent=one_step", *CRITIC),
    "awac": ("agent=awac", *CRITIC, "agent.q_clamp=false", "agent.temperature=1"),
    "td3_bc": ("agent=td3_bc", *CRITIC),
    # the weight is in units of reward: the paper's 5 at rewards of a fifth. LayerNorm as the others have; 13 actions to a state are what it costs
    "cql": ("agent=cql", *CRITIC, "agent.conservative_weight=1", "agent.layer_norm=true", "agent.samples=4", "precision=bf16"),
    "iql": ("agent=iql", *CRITIC),
}
LABEL = "score (0 random, 100 expert)"
BARS = [(name, f"{data}.score", f"{data.replace('_', '-')}: {name.replace('_', ' ')}") for data in DATASETS for name in ("data", *AGENTS)]


# ---------------------------------------------------------------- data
def collected(run: Path, episodes: int, seed: int) -> list[Episode]:
    """What the policy of a practice run does, its actions drawn."""
    device = torch.device("cpu")
    policy = offline.load_policy(str(run), 10, device)
    policy.agent.eval()
    return policy.copies.run(offline.actor(policy.agent, device, True, seeded(seed, 30, device=device)), range(seed, seed + episodes))[0]


def source(config: ExperimentConfig, folder: Path) -> dict[str, float]:
    """The training run and the datasets made of it, once; mean returns that scores are made of."""
    said = folder / "returns.json"
    if said.is_file():
        return json.loads(said.read_text())  # type: ignore[no-any-return]
    common = [f"experiment={config.name}", f"device={config.device}", "seed=0", f"evaluation_episodes={config.episodes}"]
    stage("pretrain", folder / "fresh", f"env={ENV}", "agent=sac", "agent.layer_norm=true", "updates=0", *common)
    previous, begun = folder / "fresh", 0
    for name, until in LEARNED.items():
        words = [f"policy={previous}", "online=true", f"episodes={until - begun}", "practised_share=1", f"keep={folder / f'{name}-learning'}", *common]
        stage("practice", folder / f"{name}-policy", *words)
        previous, begun = folder / f"{name}-policy", until
    copies = Copies(ENV, 10)
    rng = np.random.default_rng(0)
    wandering = copies.run(lambda o, a, g: rng.uniform(-1, 1, (len(o), copies.action_dim)), range(RANDOM))[0]
    done = {name: collected(folder / f"{name}-policy", COLLECTED, 1000 * (1 + i)) for i, name in enumerate(LEARNED)}
    half = COLLECTED // 2
    save(folder / "medium", done["medium"], copies)
    save(folder / "medium_expert", [*done["medium"][:half], *done["expert"][:half]], copies)
    save(folder / "replay", list(read_numbers(open_minari(folder / "medium-learning")).episodes()), copies)
    returns = {name: float(stack(episodes).returns.mean()) for name, episodes in {"random": wandering, **done}.items()}
    write_atomic(said, json.dumps(returns).encode())
    return returns


def save(path: Path, episodes: Sequence[Episode], copies: Copies) -> None:
    """A dataset, anew."""
    shutil.rmtree(path, ignore_errors=True)
    append_numbers(path, episodes, copies.first)


# ---------------------------------------------------------------- runs
def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Every agent from every dataset."""
    made = folder.parent / "source"
    returns = source(config, made)
    pairs = [(data, name) for data in DATASETS for name in AGENTS]
    common = [f"experiment={config.name}", f"seed={seed}", f"device={config.device}", f"evaluation_episodes={config.episodes}", f"reward_scale={SCALE}"]
    jobs = [("pretrain", folder / f"{data}-{name}", [f"data={made / data}", *AGENTS[name], *common]) for data, name in pairs]
    out: dict[str, dict[str, float]] = {"data": {f"{name}.return": value for name, value in returns.items()}}
    for data in DATASETS:
        out["data"] |= scores(data, float(read_numbers(open_minari(made / data)).returns.mean()), returns)
    for (data, name), result in zip(pairs, stages(jobs, config.workers), strict=True):
        out.setdefault(name, {}).update(scores(data, result["return"], returns) | {f"{data}.seconds": result["seconds"]})
    return out


def scores(data: str, value: float, returns: dict[str, float]) -> dict[str, float]:
    """A return, and its score."""
    return {f"{data}.return": value, f"{data}.score": 100 * (value - returns["random"]) / (returns["expert"] - returns["random"])}


def summary(seeds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """The interquartile mean of an agent's scores, over seeds and datasets, with its bootstrap interval."""
    found = {name: np.array([seeds[name][f"{data}.score"] for data in DATASETS]).T for name in AGENTS}
    return {"iqm": {name: [iqm(of_agent), *iqm_interval(of_agent)] for name, of_agent in found.items()}}
