"""Opening what earlier jobs left: pictures, latent models with their priors, policies. Refusals name what to do."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from agents.registry import AGENTS
from envs.columns import Columns, open_columns
from envs.families import FAMILIES, SceneSettings
from envs.trajectories import columns_from_minari, is_minari
from goals.replay import Replay
from imagoal.compose import own
from imagoal.config import PicturesConfig, TrainConfig
from imagoal.errors import UserError, explained
from imagoal.progress import progress
from imagoal.run import latest_checkpoint, read_config
from imagoal.sight import Eyes, Sight
from vision import load
from vision.data import first_rows
from vision.encoding import encode_dataset, fingerprint, open_encoded, write_encoded
from vision.pictures import Pictures, split_rows
from vision.pictures import open_pictures as convert_pictures
from vision.pixelcnn import PixelCNN
from vision.prior import AffordancePrior
from vision.protocols import LatentModel
from vision.sources.convert import WorkerDied
from vision.store import describe

SAID = 10  # skipped files or episodes that are named on the terminal


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU where there is one. Raises UserError for cuda without a GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU here. Use device=auto or device=cpu; see: imagoal doctor")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def open_trajectories(data: str, keep: Path | None = None) -> Columns:
    """The columns of a collect run or of a Minari dataset (converted once, into `keep`)."""
    path = Path(data).expanduser()
    if (path / "config.yaml").is_file():
        read_config(path, "collect")
        path = path / "columns"
    with explained("data"):
        if (path / "columns.json").is_file():
            return open_columns(path)
        if is_minari(path) and keep is not None:
            return columns_from_minari(path, keep)
    raise UserError(f"data: {data} holds no trajectories. Name the run folder of an imagoal collect that finished.")


def open_pictures(config: PicturesConfig, image_size: int) -> Pictures:
    """The pictures a job was given, converted once into the cache, with a progress bar. Says what was skipped."""
    path = Path(config.data).expanduser()
    if (path / "config.yaml").is_file():
        read_config(path, "collect")
        path = path / "columns"
    what = f"{path.resolve()} {image_size} {config.fps} {config.image_key}"
    keep = cache_folder(config.cache) / f"{path.stem}-{hashlib.sha256(what.encode()).hexdigest()[:10]}"
    with explained("data"), progress("convert pictures", 0) as bar, worker_deaths():

        def tick(done: int, total: int) -> None:
            bar.reach(done, total)

        pictures = convert_pictures(
            path, image_size, keep, fps=config.fps, image_key=config.image_key, max_bad_share=config.unreadable_share,
            workers=config.workers, progress=tick,
        )  # fmt: skip
    for what, why in pictures.skipped[:SAID]:
        print(f"data: skipped {what}: {why}")
    if len(pictures.skipped) > SAID:
        print(f"data: skipped {len(pictures.skipped) - SAID} more; the report lists them")
    return cut(pictures, config.clip) if config.clip and pictures.trajectories else pictures


@contextmanager
def worker_deaths() -> Iterator[None]:
    """Says what to do when a process that converts pictures died."""
    try:
        yield
    except WorkerDied as error:
        raise UserError(f"data: {error}") from error


def cut(pictures: Pictures, clip: int) -> Pictures:
    """Every trajectory in pieces of `clip` frames; a rest of at most half of that belongs to the piece before. Raises UserError below 2."""
    if clip < 2:
        raise UserError(f"clip={clip}: a piece needs at least 2 frames, of which the first is the context.")
    starts = [np.arange(a, max(b - clip // 2, a + 1), clip) for a, b in zip(pictures.start, pictures.end, strict=True)]
    start = np.concatenate(starts).astype(np.int64)
    scene = pictures.scene if len(np.unique(pictures.scene)) > 1 else np.arange(len(starts))  # else the trajectory a piece is of
    pieces = np.repeat(scene, [len(s) for s in starts])
    return replace(pictures, start=start, end=np.append(start[1:], pictures.end[-1]), scene=pieces, source={**pictures.source, "clip": clip})


def split(pictures: Pictures, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows kept for validation, sorted. Of trajectories that were cut into pieces the last pieces of each are kept,
    since a piece drawn from the middle has neighbours that look the same; else see `split_rows`. With validation=0 both are all rows."""
    if config.validation == 0:
        return (np.arange(len(pictures.image)),) * 2
    with explained("validation"):
        if not config.clip or not pictures.trajectories:
            return split_rows(pictures, config.validation, config.seed)
        last = np.zeros(len(pictures.start), bool)
        for scene in np.unique(pictures.scene):
            pieces = np.flatnonzero(pictures.scene == scene)
            some = max(1, round(config.validation * len(pieces))) if len(pieces) > 1 else 0
            last[pieces[len(pieces) - some :]] = True
        if last.all() or not last.any():
            raise ValueError(f"a share of {config.validation:g} of {len(last)} pieces leaves nothing to learn from or to validate with; use a smaller clip")
        rows = np.repeat(last, pictures.end - pictures.start)
        return np.flatnonzero(~rows), np.flatnonzero(rows)


def cache_folder(given: str) -> Path:
    """Where converted pictures are kept."""
    return Path(given or os.environ.get("IMAGOAL_CACHE") or "~/.cache/imagoal").expanduser()


def model_folder(run: str | Path) -> Path:
    """Where a train run keeps its latent model."""
    read_config(run, "train")
    return Path(run).expanduser() / "model"


def load_model(run: str, device: torch.device) -> LatentModel:
    """The latent model of a train run, with its prior attached where it has one."""
    with explained("model"):
        read_config(run, "train")
        return load(Path(run).expanduser(), device=device)  # type: ignore[no-any-return]


def load_eyes(run: str, device: torch.device, proprio: bool = True) -> Eyes:
    """The latent model of a train run, as the loops use it."""
    with explained("model"):
        return Eyes(load(model_folder(run)), proprio, device)


def require_codes(eyes: Eyes, run: str, what: str) -> None:
    """Raises UserError where a train run's latents are no codes."""
    if eyes.lookup is None:
        raise UserError(f"model: {run} holds a {type(eyes.model).__name__}, whose latents are no codes, and {what}. Train one of codes: imagoal train vision=vqvae ...")


def load_prior(run: str, eyes: Eyes) -> AffordancePrior:
    """The prior of a train run. Refuses one trained on the codes of another model."""
    require_codes(eyes, run, "the affordance prior is of codes")
    folder = Path(run).expanduser() / "prior"
    if not folder.is_dir():
        raise UserError(f"model: {run} has no prior, so nothing can be imagined. Train one: imagoal train ... prior_steps=1000")
    with explained("model"):
        notes, model = describe(folder).get("notes") or {}, describe(model_folder(run))
        if notes.get("model") != model["sha256"]:
            raise UserError(f"model: the prior of {run} was trained on another latent model. Train again in another run=FOLDER.")
        return AffordancePrior(load(folder, PixelCNN), eyes.model).to(eyes.device)


def encoded(model: LatentModel, run: str | Path, pictures: Pictures | Columns) -> Tensor:
    """All pictures as the model of a train run sees them, codes (N, cells) int16 or latents (N, z): encoded once, kept beside the model under a stamp."""
    source = pictures.meta.get("source") or getattr(pictures, "source", None) or str(getattr(pictures.image, "filename", ""))
    sha = describe(model_folder(run))["sha256"]
    folder = Path(run).expanduser() / "encoded" / fingerprint(sha, source)
    first = first_rows(pictures.start, pictures.end) if getattr(pictures, "trajectories", True) else None
    if (folder / "stamp.json").is_file():
        with explained("model"):
            return torch.from_numpy(np.array(open_encoded(folder, model_folder(run))))
    try:
        with progress("encode", len(pictures.image)) as bar:
            return torch.from_numpy(np.array(write_encoded(folder, model, sha, pictures.image, first, source, bar.reach)))
    except PermissionError:  # somebody else's model
        return torch.from_numpy(encode_dataset(model, pictures.image, first))


def scene_settings(data: str) -> SceneSettings:
    """What the scenes of a collect run were made with."""
    env = read_config(data)["env"]
    return SceneSettings(env["family"], int(env["image_size"]), tuple(env["kinds"]), env.get("yaw", False))


def trajectory_replay(columns: Columns, codes: Tensor, eyes: Eyes, device: torch.device, earlier: Sequence[Replay] = ()) -> Replay:
    """All trajectories as one replay, and behind them the episodes of earlier replays, each replay a scene of its own. Where latents have a context every trajectory is
    a scene of its own, so that its goals are seen in its context."""
    replay = Replay(len(columns) + 1 + sum(old.used_rows for old in earlier), eyes.cells, columns.proprio.shape[1] if eyes.proprio else 0,
                    columns.action.shape[1], lookup=eyes.lookup, device=device)  # fmt: skip
    tensors = [torch.from_numpy(np.array(c)) for c in (columns.start, columns.end, columns.scene)]
    proprio = torch.from_numpy(np.array(columns.proprio if eyes.proprio else columns.proprio[:, :0]))
    alone = eyes.context_dim > 0
    replay.add_episodes(codes, proprio, torch.from_numpy(np.array(columns.action)), tensors[0], tensors[1], scene=torch.arange(len(tensors[0])) if alone else tensors[2])
    scene = int(tensors[2].max()) + 1
    for i, old in enumerate(earlier):
        for episode in range(old.oldest, old.next_episode):
            rows = old.episode_rows(episode)
            goal = old.episode_goal[episode % len(old.episode_start)]
            replay.add_episode(old.codes[rows], old.proprio[rows], old.action[rows], goal=goal, scene=replay.next_episode if alone else scene + i)
    return replay


@dataclass
class Policy:
    """A trained agent and everything it came from."""

    agent: Agent
    eyes: Eyes
    settings: dict[str, Any]  # config.yaml of the run
    pretrain: dict[str, Any]  # config.yaml of the pretrain run at its root
    scenes: SceneSettings  # of its data
    threshold: float  # of the sparse reward
    run: Path


def pretrain_run(run: str) -> str:
    """The pretrain run that a policy began as (practice runs are followed back). Raises UserError where there is none."""
    settings, root = read_config(run), run
    while settings["job"] == "practice":
        root = settings["policy"]
        settings = read_config(root)
    if settings["job"] != "pretrain":
        raise UserError(f"policy: {run} is the run of a {settings['job']}; name the run of an imagoal pretrain or practice.")
    return root


def pretrain_config(run: str) -> dict[str, Any]:
    """The configuration of the pretrain run that a policy of pictures began as."""
    settings = read_config(pretrain_run(run))
    if not settings["model"]:
        raise UserError(f"policy: {run} is of numbers, not of pictures; go on with it by: imagoal practice policy={run} online=true")
    return settings


def make_agent(name: str, config: Any, eyes: Sight, action_dim: int, device: torch.device, read_context: bool = True, proprio_dim: int = 0) -> Agent:
    """A fresh agent that sees so, the scene's numbers of a latent too or not, and where its eyes say it `proprio_dim` numbers of proprioception. Raises
    ValueError where its encoder needs a grid and the latent is flat."""
    return build_agent(name, config, eyes.latent_dim + (proprio_dim if eyes.proprio else 0), eyes.latent_dim, action_dim, getattr(getattr(eyes, "model", None), "grid_shape", None),
                       device, 0 if read_context else eyes.latent_dim - eyes.context_dim)  # fmt: skip


def build_agent(
    name: str, config: Any, obs_dim: int, goal_dim: int, action_dim: int, grid_shape: tuple[int, int, int] | None, device: torch.device, reads: int = 0
) -> Agent:
    """A fresh agent by the name of its group's file. Raises ValueError where its config does not fit."""
    build: Any = AGENTS[name][0]
    return build(config, obs_dim, goal_dim, action_dim, grid_shape, device, reads=reads)  # type: ignore[no-any-return]


def load_policy(run: str, device: torch.device) -> Policy:
    """The agent of a pretrain or practice run, with the latent model it sees through."""
    settings, pretrain = read_config(run), pretrain_config(run)
    path = Path(run).expanduser()
    eyes = load_eyes(pretrain["model"], device, pretrain["proprio"])
    found = latest_checkpoint(run, "policy")
    scenes = scene_settings(pretrain["data"])
    action_dim, proprio_dim = FAMILIES[scenes.family].widths(scenes)
    agent = make_agent(pretrain["agent"]["name"], own("agent", None, dict(pretrain["agent"]), "agent", ""), eyes, action_dim, device, proprio_dim=proprio_dim)
    with explained(f"policy {run}"):
        agent.restore(found.tensors)
    return Policy(agent, eyes, settings, pretrain, scenes, found.state["threshold"], path)


def practised_before(policy: Policy, device: torch.device) -> list[Replay]:
    """What the policy practised in earlier scenes, oldest first: practice again goes on learning from it, so that their skills stay."""
    found: list[Replay] = []
    settings, run = policy.settings, str(policy.run)
    while settings["job"] == "practice":
        if settings["goal_source"] != "none":
            with explained(f"policy {run}"):
                found.insert(0, Replay.restored(latest_checkpoint(run, "practice").part("replay"), policy.eyes.lookup, device))
        run = settings["policy"]
        settings = read_config(run)
    return found
