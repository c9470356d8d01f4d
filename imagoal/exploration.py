"""What `imagoal rig` begins with: random actions in a world, kept as pictures on disk, and the latent model fitted to them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.exploration import Noise, make_noise
from envs.worlds import World
from imagoal.config import RigConfig
from imagoal.disk import write_atomic
from imagoal.errors import UserError, explained
from imagoal.evaluation import seeded
from imagoal.fitting import fit_stage
from imagoal.progress import progress
from imagoal.rollout import roll_out
from imagoal.run import RunFolder
from imagoal.sight import StateSight
from vision import load, save
from vision.data import ImageData
from vision.pictures import Pictures, split_rows
from vision.store import build


def noise_of(config: RigConfig, n: int, device: torch.device | str) -> Noise:
    """A fresh exploration process of n copies."""
    return make_noise(config.noise, n, World.action_dim, config.noise_std, device=device)


def folder_of(config: RigConfig) -> Path:
    """Where the exploration of a run is, its own or that of the run whose model it uses."""
    return Path(config.model or config.run).expanduser() / "exploration"


def explore(config: RigConfig, run: RunFolder, world: World) -> Pictures:
    """Random episodes, as pictures with their actions in RUN/exploration; read back where they are there already."""
    folder = folder_of(config)
    if not (folder / "exploration.json").is_file():
        if config.model:
            raise UserError(f"model: {config.model} has no exploration; was it cut off? Finish it with: imagoal rig run={config.model} resume=true")
        folder.mkdir(exist_ok=True)
        n, length = config.explore_episodes, config.explore_horizon + 1
        image = np.lib.format.open_memmap(folder / "image.npy", "w+", np.uint8, (n * length, *(world.image_size,) * 2, 3))  # type: ignore[no-untyped-call]
        state = np.zeros((n * length, world.state_dim), np.float32)
        action = np.zeros((n * length, world.action_dim), np.float32)
        eyes, idle = StateSight(world, torch.device("cpu")), torch.zeros(0)
        with progress("explore", n) as bar:
            for begin in range(0, n, world.n):
                count = min(world.n, n - begin)
                noise = noise_of(config, world.n, "cpu")
                rollout = roll_out(world, None, eyes, starts_of(config, world, begin // world.n), idle, length - 1, generator=seeded(config.seed, 21, begin),
                                   keep_images=True, noise=noise)  # fmt: skip
                assert rollout.images is not None
                rows = slice(begin * length, (begin + count) * length)
                image[rows] = rollout.images[:count].reshape(-1, *image.shape[1:])
                state[rows] = rollout.states[:count].reshape(-1, world.state_dim)
                acted = np.pad(rollout.action[:count].numpy(), ((0, 0), (0, 1), (0, 0)))
                action[rows] = acted.reshape(-1, world.action_dim)
                bar.advance(count)
        image.flush()
        np.save(folder / "state.npy", state)
        np.save(folder / "action.npy", action)
        write_atomic(folder / "exploration.json", json.dumps({"length": length, "visits": config.explore_visits, "copies": world.n}).encode())  # last: it says that all is there
    return open_exploration(folder)


def starts_of(config: RigConfig, world: World, turn: int) -> np.ndarray:
    """Starts (n, S) of one round of random episodes: of new scenes or, until each was visited `explore_visits` times, of the last ones with everything
    put elsewhere."""
    first = turn - turn % config.explore_visits
    seeds = np.random.SeedSequence([config.seed, 20, first * world.n]).generate_state(world.n) % 1_000_000
    starts, _ = world.sample(seeds)
    if turn == first:
        return starts
    rng = np.random.default_rng([config.seed, 29, turn])
    return np.stack([world.family.sample_goal(start, rng) for start in starts])


def open_exploration(folder: Path) -> Pictures:
    """What `explore` left in a run."""
    image, state = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("image", "state"))
    found = json.loads((folder / "exploration.json").read_text())
    length, visits, copies = found["length"], found.get("visits", 1), found.get("copies", 1)
    start = np.arange(0, len(image), length, dtype=np.int64)
    episode = np.arange(len(start))
    scene = episode // (copies * visits) * (copies * visits) + episode % copies  # the episode of its first visit
    return Pictures(image, start, start + length, state, True, scene, context=start[scene], meta={"action": str(folder / "action.npy")})


def fit_model(config: RigConfig, run: RunFolder, seen: Pictures, device: torch.device) -> Any:
    """The latent model, fitted to the exploration; read back where that was done."""
    folder = run.path / "model"
    if config.model:
        folder = Path(config.model).expanduser() / "model"
        with explained("model"):
            return load(folder).to(device)
    if (folder / "config.json").is_file():
        return load(folder).to(device)
    torch.manual_seed(config.seed)
    with explained("vision"):
        model = build(config.vision)
    train, kept = split_rows(seen, 0.1, config.seed)
    first = seen.first if model.needs_context else None
    with explained("vision"):
        fit_stage(run, "model", model, ImageData(seen.image, first, train), config.vision_steps, config.vision_batch_size, config.seed, device,
                  validation=ImageData(seen.image, first, kept))  # fmt: skip
    save(model, folder, {"world": config.world})
    return model.eval()
