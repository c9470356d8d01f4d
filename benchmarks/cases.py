"""What `benchmarks.bench` measures: every case with the settings that configs/ ships, on random weights and data.

A case's `measure(seconds)` spends about that long and returns one number. Setting up and warming up are not timed.
"""

import importlib.util
import itertools
import shutil
import statistics
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import envs
from agents.registry import AGENTS
from benchmarks.gpu_plan import LATENT, PaperNetworks
from benchmarks.reference_vqvae import ReferenceTraining
from envs.desk import DeskBatch
from envs.desk_tasks import whole_scenes
from envs.tabletop import TabletopBatch
from envs.worlds import FAMILIES, World, make_world
from goals.lookup import CodebookLookup
from goals.relabel import HindsightSampler
from goals.replay import Replay
from goals.rewards import make_reward
from imagoal.compose import load, name_of
from planning.generator import SubgoalCVAE
from planning.levels import plan_levels
from planning.planner import SubgoalPlanner
from vision.augment import AugmentConfig, Augmented
from vision.data import ImageData
from vision.pixelcnn import PixelCNN
from vision.train import fit
from vision.vqvae import VQVAE, VQVAEConfig

SCENE = "held_out/0"
PLAIN = AugmentConfig()
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
    Ratio("prior_full.cached_over_passes.batch_1", "prior_full.samples_per_s.batch_1", "imagoal", "full_passes"),
    Ratio("prior_full.cached_over_passes.batch_64", "prior_full.samples_per_s.batch_64", "imagoal", "full_passes"),
    Ratio("vision_full.over_reference", "vision_full.trained_images_per_s.batch_128", "imagoal", "reference"),
    Ratio("vision_full.over_reference", "vision_full.trained_images_per_s.batch_128", "imagoal_bf16", "reference"),
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


def rate(amount: float, call: Callable[[], object], warm: bool = True) -> Callable[[float], float]:
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


def desk() -> Iterator[Case]:
    """Control steps per second at the desk, in a scene that has everything, and at PTP's, each with its 48 x 48 picture, and resets; where PyBullet is installed."""
    if importlib.util.find_spec("pybullet") is None:
        return
    for kind, scene in (("desk", whole_scenes("train", 1)[0]), ("ptp_desk", "train/0")):
        world = DeskBatch(scene, 4, kind=kind)
        actions, starts = np.random.default_rng(0).uniform(-1, 1, (75, 4, world.action_dim)), world.starts(range(4))

        def lockstep(world: DeskBatch = world, actions: np.ndarray = actions, starts: np.ndarray = starts) -> None:
            world.reset(starts)
            for action in actions:
                world.step(action)
                world.images()

        yield Case(f"env.{kind}.batch_4.pixel_steps_per_s", "steps/s", rate(actions.shape[0] * 4, lockstep))
        yield Case(f"env.{kind}.resets_per_s", "resets/s", rate(4, partial(world.reset, starts)))


def worlds() -> Iterator[Case]:
    """Control steps per second of the scenes of RIG and CC-RIG, each with its 48 x 48 picture, 16 copies in lockstep."""
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 16, 2))
    for name in FAMILIES:
        world = make_world(name, 16)
        starts, _ = world.sample(range(16))

        def lockstep(world: World = world, starts: np.ndarray = starts) -> None:
            world.reset(starts)
            for action in actions:
                world.step(action)
                world.images()

        yield Case(f"env.{name}.batch_16.pixel_steps_per_s", "steps/s", rate(actions.shape[0] * 16, lockstep))


def relabeled(model: VQVAE) -> HindsightSampler:
    """Hindsight over 400 random episodes of 31 rows, with the mixture and reward of configs/goals/mixture.yaml."""
    config = load("pretrain", ["data=-", "model=-", "goals=mixture"]).goals
    generator = torch.Generator().manual_seed(0)
    replay = Replay(400 * 31, model.config.grid**2, PROPRIO, ACTION, CodebookLookup(model.code_vectors))
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


def prior(name: str, vision: str, sizes: tuple[int, ...], compared: tuple[int, ...], extrapolated: bool = False) -> Iterator[Case]:
    """Goals imagined per second, with work cached; for batches in `compared` also by one full pass for every cell.

    A pass costs the same for every cell. With `extrapolated`, where all would take minutes, passes are timed one by one and
    a sample counted as one for each cell; what drawing from them costs is left out, in favour of the passes.
    """
    config = load("train", ["data=-", f"vision={vision}"])
    grid, z = config.vision.grid, config.vision.code_dim * config.vision.grid**2
    model = PixelCNN(replace(config.prior, codes=config.vision.codes, grid=grid, context_dim=z)).eval()
    model.set_codebook(torch.randn(config.vision.codes, config.vision.code_dim))
    for size in sizes:
        context, uniforms = torch.randn(size, z), torch.rand(size, grid**2)
        metric = f"{name}.samples_per_s.batch_{size}"
        yield Case(metric, "samples/s", rate(size, partial(model.sample_codes, context, uniforms)))
        if size not in compared:
            continue
        if extrapolated:
            codes = torch.randint(config.vision.codes, (size, grid, grid))
            slow = rate(size / grid**2, partial(torch.no_grad()(model.logits), codes, context))
        else:
            slow = rate(size, partial(model.sample_codes_slow, context, uniforms), warm=False)
        yield Case(metric, "samples/s", slow, "full_passes")


def trained(
    config: VQVAEConfig, images: Any, window: int, precision: str = "32-true", metric: str = "images_per_s", augment: AugmentConfig = PLAIN
) -> Callable[[float], float]:
    """Pictures per second trained on by Lightning (or another metric), as `imagoal train` does: the median of windows of so many steps,
    without the first, which warms up."""
    data = Augmented(ImageData(images, np.arange(len(images)) // 32 * 32), augment)

    def measure(seconds: float) -> float:
        rates: list[float] = []
        begun = time.perf_counter()
        fit(
            VQVAE(config), data, 10_000, batch_size=128, log_every=window, precision=precision,
            log=lambda step, metrics: rates.append(metrics[metric]),
            stop=lambda: len(rates) > 1 and time.perf_counter() - begun > seconds,
        )  # fmt: skip
        return statistics.median(rates[1:])

    return measure


def vision(model: VQVAE, name: str, window: int) -> Iterator[Case]:
    """Pictures per second of a VQ-VAE: trained on, and encoded."""
    side = model.config.image_size
    images = torch.randint(256, (1024, side, side, 3), dtype=torch.uint8)
    yield Case(f"{name}.trained_images_per_s.batch_128", "images/s", trained(model.config, images, window))
    yield Case(f"{name}.encoded_images_per_s.batch_512", "images/s", rate(512, partial(torch.no_grad()(model.codes), images[:512])))


def waiting(model: VQVAE) -> Iterator[Case]:
    """The share of training that is spent waiting for batches: of pictures in a memory map, as they are and augmented."""
    side = model.config.image_size
    path = Path(tempfile.mkdtemp()) / "image.npy"
    weakref.finalize(model, shutil.rmtree, path.parent)
    np.save(path, np.random.default_rng(0).integers(0, 256, (4096, side, side, 3), dtype=np.uint8))
    images = np.load(path, mmap_mode="r")
    for variant, augment in (("imagoal", PLAIN), ("imagoal_augmented", AugmentConfig(crop_pad=4, color_jitter=0.2, brightness=0.1))):
        yield Case("vision_small.waiting_share.batch_128", "share", trained(model.config, images, 4, metric="waiting", augment=augment), variant)


def rectangles(n: int, side: int, seed: int) -> torch.Tensor:
    """uint8 pictures (n, side, side, 3) of a bright rectangle somewhere before a dark ground."""
    rng = np.random.default_rng(seed)
    images = np.full((n, side, side, 3), 32, np.uint8)
    for image, (top, left) in zip(images, rng.integers(side // 2, size=(n, 2)), strict=True):
        height, width = rng.integers(4, side // 2, 2)
        image[top : top + height, left : left + width] = (250, 200, 60)
    return torch.from_numpy(images)


def learned(config: VQVAEConfig, variant: str, steps: int = 100, batch: int = 16) -> Callable[[float], float]:
    """Mean squared error of reconstructions over the last ten of so many steps, on pictures of 4 x 4 cells so that it is
    quick. Every measurement begins with other weights and pictures; the pictures are the same for all variants."""
    seeds, little = itertools.count(), replace(config, image_size=4 * config.image_size // config.grid, grid=4)

    def measure(seconds: float) -> float:
        seed, errors = next(seeds), []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            step = ReferenceTraining(little).step if variant == "reference" else partial(bare_step, *pupil(little), variant)
            for k in range(steps):
                errors.append(float(step(rectangles(batch, little.image_size, seed * steps + k))))
        return statistics.fmean(errors[-10:])

    return measure


def pupil(config: VQVAEConfig) -> tuple[VQVAE, torch.optim.Optimizer]:
    """A model to train and the optimiser that `vision.train` gives it."""
    model = VQVAE(config).train()
    return model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=config.learning_rate, fused=True)


def bare_step(model: VQVAE, adam: torch.optim.Optimizer, variant: str, images: torch.Tensor) -> torch.Tensor:
    """One training step without Lightning; returns its reconstruction error."""
    with torch.autocast("cpu", torch.bfloat16, enabled=variant == "imagoal_bf16"):
        loss, metrics = model.loss(images)
    adam.zero_grad()
    loss.backward()
    adam.step()
    model.after_step()
    return metrics["mse"]


def vision_full() -> Iterator[Case]:
    """The paper's VQ-VAE, also beside one written straight from the paper, and in bfloat16 where the CPU multiplies in it
    (elsewhere it is emulated, which takes ten times as long)."""
    config: VQVAEConfig = load("train", ["data=-", "vision=vqvae"]).vision
    images = torch.randint(256, (1024, config.image_size, config.image_size, 3), dtype=torch.uint8)
    trained_metric, learned_metric = "vision_full.trained_images_per_s.batch_128", "vision_full.reconstruction_error.after_100_steps"
    yield from vision(VQVAE(config).eval(), "vision_full", window=1)
    yield Case(trained_metric, "images/s", rate(128, partial(ReferenceTraining(config).step, images[:128])), "reference")
    yield Case(learned_metric, "mse", learned(config, "imagoal"))
    yield Case(learned_metric, "mse", learned(config, "reference"), "reference")
    if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
        yield Case(trained_metric, "images/s", trained(config, images, 1, "bf16-mixed"), "imagoal_bf16")
        yield Case(learned_metric, "mse", learned(config, "imagoal_bf16"), "imagoal_bf16")


def planning() -> Iterator[Case]:
    """Seconds of one plan to one goal, with the planner of configs/planner/small.yaml and a TD3+BC value."""
    config = load("plan", ["policy=-", "planner=small"])
    config.generator.latent_shape = (8, 6, 6)
    codebook = torch.randn(256, 8)
    generator = SubgoalCVAE(config.generator, codebook)
    agent: Any = AGENTS["td3_bc"][0](load("pretrain", ["data=-", "model=-", "agent=td3_bc"]).agent, OBS, GOAL, ACTION)
    hand = torch.zeros(1, PROPRIO)

    def value(z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        return agent.value(torch.cat([z, hand.expand(len(z), -1)], 1), goal)

    planner = SubgoalPlanner(generator.generate, value, config.planner, begin=generator.begin)
    z, goal = CodebookLookup(codebook)(torch.randint(256, (2, 36))).split(1)
    yield Case("planner_small.seconds_per_plan", "s", latency(lambda: planner.plan(z, goal)))


def planner_full() -> Iterator[Case]:
    """A plan at PTP's size: three levels of two subgoals each, 1,024 samples, a draw and five refinements, a U-Net over a 12 x 12 grid of 5; in float32 and in mixed
    precision, the share of the time that its arithmetic alone would take at this machine's rate of matrix products, and 1 problem beside 16 with a sixteenth of the samples."""
    networks = PaperNetworks()

    def plan(problems: int, samples: int, precision: str) -> Callable[[], object]:
        planners = networks.planners(samples, precision)
        z, goal = torch.randn(problems, LATENT), torch.randn(problems, LATENT)
        return lambda: plan_levels(planners, z, goal)

    def flops(call: Callable[[], object]) -> float:
        counter = FlopCounterMode(display=False)
        with counter:
            call()
        return float(counter.get_total_flops())

    def share(precision: str) -> Callable[[float], float]:
        few, more = flops(plan(1, 16, "32")), flops(plan(1, 32, "32"))
        needed = few + (more - few) / 16 * (1024 - 16)  # each sample is as much work, beside what they share
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = torch.randn(1024, 1024).to(kind), torch.randn(1024, 1024).to(kind)

        def measure(seconds: float) -> float:
            per_second = rate(2.0 * 1024**3, lambda: a @ b)(seconds)
            return needed / per_second / latency(plan(1, 1024, precision))(seconds)

        return measure

    for precision, variant in (("32", "imagoal"), ("bf16", "imagoal_bf16")):
        yield Case("planner_full.seconds_per_plan", "s", latency(plan(1, 1024, precision)), variant)
        yield Case("planner_full.arithmetic_share", "share", share(precision), variant)
    for problems in (1, 16):
        yield Case(f"planner_full.samples_64.plans_per_s.problems_{problems}", "plans/s", rate(problems, plan(problems, 64, "32")))


def cases(quick: bool = False) -> Iterator[Case]:
    """Everything, in the order of the table; `quick` leaves out the full-size models, which take seconds a call."""
    torch.manual_seed(0)
    small = VQVAE(load("train", ["data=-", "vision=vqvae_small"]).vision).eval()
    yield from environment()
    yield from desk()
    yield from worlds()
    yield from vision(small, "vision_small", window=4)
    yield from waiting(small)
    if not quick:
        yield from vision_full()
    yield from prior("prior_small", "vqvae_small", (32, 256), compared=(32,))
    if not quick:
        yield from prior("prior_full", "vqvae", (1, 64), compared=(1, 64), extrapolated=True)
    yield from learning(small)
    yield from planning()
    if not quick:
        yield from planner_full()
