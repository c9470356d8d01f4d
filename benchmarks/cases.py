"""What `benchmarks.bench` measures: every case with the settings that configs/ ships, on random weights and data.

A case's `measure(seconds)` spends about that long and returns one number. Setting up and warming up are not timed.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

import envs
from agents.registry import AGENTS
from envs.tabletop import TabletopBatch
from goals.lookup import CodebookLookup
from goals.relabel import HindsightSampler
from goals.replay import Replay
from goals.rewards import make_reward
from imagoal.compose import load, name_of
from planning.generator import SubgoalCVAE
from planning.planner import SubgoalPlanner
from vision.data import ImageData
from vision.pixelcnn import PixelCNN
from vision.train import fit
from vision.vqvae import VQVAE

SCENE = "held_out/0"
OBS, GOAL, ACTION, PROPRIO = 290, 288, 2, 2  # widths with the small latent: 6 x 6 cells of 8 numbers, and the hand


class Case(NamedTuple):
    """One number to be measured, by one way (`variant`) of doing a thing."""

    metric: str
    unit: str
    measure: Callable[[float], float]
    variant: str = "imagoal"


class Ratio(NamedTuple):
    """`metric` = fast / slow of one metric that two variants share, taken within each round."""

    metric: str
    of: str
    fast: str
    slow: str


RATIOS = (
    Ratio("prior_small.cached_over_passes", "prior_small.samples_per_s.batch_32", "imagoal", "full_passes"),
    Ratio("prior_full.cached_over_passes", "prior_full.samples_per_s.batch_1", "imagoal", "full_passes"),
)


def durations(call: Callable[[], object], seconds: float, warm: bool) -> list[float]:
    """How long each of some calls took, in seconds: at least one, until `seconds` have passed."""
    if warm:
        call()
    taken: list[float] = []
    begun = time.perf_counter()
    while not taken or time.perf_counter() - begun < seconds:
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return taken


def rate(amount: int, call: Callable[[], object], warm: bool = True) -> Callable[[float], float]:
    """`amount` per second: the median over calls that each do `amount`."""
    return lambda seconds: amount / statistics.median(durations(call, seconds, warm))


def latency(call: Callable[[], object]) -> Callable[[float], float]:
    """Seconds of one call, the median."""
    return lambda seconds: statistics.median(durations(call, seconds, True))


def environment() -> Iterator[Case]:
    """Control steps per second, each with its 48 x 48 picture: through Gymnasium, and in lockstep as practice does."""
    assert envs.ENTRY
    env = gymnasium.make("imagoal/Tabletop-v0", scene=SCENE)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2)).astype(np.float32)

    def episode() -> None:
        env.reset(seed=0)
        for action in actions:
            env.step(action)

    yield Case("env.gymnasium.pixel_steps_per_s", "steps/s", rate(len(actions), episode))
    batch = TabletopBatch(SCENE, 16)
    starts, _ = batch.sample(np.arange(16))

    def lockstep() -> None:
        batch.reset(starts)
        for action in actions:
            batch.step(np.tile(action, (16, 1)))
            batch.images()
            batch.proprio()

    yield Case("env.batch_16.pixel_steps_per_s", "steps/s", rate(16 * len(actions), lockstep))


def relabeled(model: VQVAE) -> HindsightSampler:
    """Hindsight over 400 random episodes of 31 rows, with the mixture and reward of configs/goals/mixture.yaml."""
    config = load("pretrain", ["data=-", "model=-", "goals=mixture"]).goals
    generator = torch.Generator().manual_seed(0)
    replay = Replay(400 * 31, model.config.grid**2, PROPRIO, ACTION, CodebookLookup(model.codebook))
    for episode in range(400):
        codes = torch.randint(model.config.codes, (31, replay.cells), generator=generator)
        proprio, action = torch.randn(31, PROPRIO, generator=generator), torch.rand(31, ACTION, generator=generator)
        replay.add_episode(codes, proprio, action, scene=episode % 32)
    return HindsightSampler(replay, config.mixture, make_reward(config.reward, model.grid_shape, replay, generator))


def learning(model: VQVAE) -> Iterator[Case]:
    """Relabeled batches, and updates of the agents on them."""
    sampler, generator = relabeled(model), torch.Generator().manual_seed(0)
    yield Case("goals.relabeled_batches_per_s.batch_1024", "batches/s", rate(1, lambda: sampler.sample(1024, generator)))
    for name in ("td3_bc", "iql"):
        config = load("pretrain", ["data=-", "model=-", f"agent={name}"]).agent
        agent: Any = AGENTS[name_of("agent", config)][0](config, OBS, GOAL, ACTION)
        for size in (256, 1024):
            batch = sampler.sample(size, generator).clone()
            yield Case(f"agents.{name}.updates_per_s.batch_{size}", "updates/s", rate(1, partial(agent.update, batch)))


def prior(name: str, vision: str, sizes: tuple[int, ...], compared: int) -> Iterator[Case]:
    """Goals imagined per second, with work cached; for batches of `compared` also by one full pass for every cell."""
    config = load("train", ["data=-", f"vision={vision}"])
    grid, z = config.vision.grid, config.vision.code_dim * config.vision.grid**2
    model = PixelCNN(replace(config.prior, codes=config.vision.codes, grid=grid, context_dim=z)).eval()
    model.set_codebook(torch.randn(config.vision.codes, config.vision.code_dim))
    for size in sizes:
        context, uniforms = torch.randn(size, z), torch.rand(size, grid**2)
        metric = f"{name}.samples_per_s.batch_{size}"
        cached = rate(size, partial(model.sample_codes, context, uniforms))
        yield Case(metric, "samples/s", cached)
        if size == compared:
            slow = rate(size, partial(model.sample_codes_slow, context, uniforms), warm=False)
            yield Case(metric, "samples/s", slow, "full_passes")


def vision(model: VQVAE) -> Iterator[Case]:
    """Pictures per second of the small VQ-VAE: trained on by Lightning, as `imagoal train` does, and encoded."""
    side = model.config.image_size
    images = torch.randint(256, (1024, side, side, 3), dtype=torch.uint8)
    data = ImageData(images, np.arange(1024) // 32 * 32)

    def train(seconds: float) -> float:
        """The median of windows of four steps, without the first, which warms up."""
        rates: list[float] = []
        begun = time.perf_counter()
        pupil = VQVAE(model.config)
        fit(
            pupil, data, 10_000, batch_size=128, log_every=4,
            log=lambda step, metrics: rates.append(metrics["images_per_s"]),
            stop=lambda: len(rates) > 1 and time.perf_counter() - begun > seconds,
        )  # fmt: skip
        return statistics.median(rates[1:])

    yield Case("vision_small.trained_images_per_s.batch_128", "images/s", train)
    yield Case("vision_small.encoded_images_per_s.batch_512", "images/s", rate(512, partial(torch.no_grad()(model.codes), images[:512])))


def planning() -> Iterator[Case]:
    """Seconds of one plan to one goal, with the planner of configs/planner/small.yaml and a TD3+BC value."""
    config = load("plan", ["policy=-", "planner=small"])
    config.generator.latent_shape = (8, 6, 6)
    generator = SubgoalCVAE(config.generator)
    agent: Any = AGENTS["td3_bc"][0](load("pretrain", ["data=-", "model=-", "agent=td3_bc"]).agent, OBS, GOAL, ACTION)
    hand = torch.zeros(1, PROPRIO)

    def value(z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        return agent.value(torch.cat([z, hand.expand(len(z), -1)], 1), goal)

    planner = SubgoalPlanner(generator.generate, value, config.planner)
    z, goal = torch.randn(1, GOAL), torch.randn(1, GOAL)
    yield Case("planner_small.seconds_per_plan", "s", latency(lambda: planner.plan(z, goal)))


def cases(quick: bool = False) -> Iterator[Case]:
    """Everything, in the order of the table; `quick` leaves out the full-size prior, which takes seconds a sample."""
    torch.manual_seed(0)
    small = VQVAE(load("train", ["data=-", "vision=vqvae_small"]).vision).eval()
    yield from environment()
    yield from vision(small)
    yield from prior("prior_small", "vqvae_small", (32, 256), compared=32)
    if not quick:
        yield from prior("prior_full", "vqvae", (1, 64), compared=1)
    yield from learning(small)
    yield from planning()
