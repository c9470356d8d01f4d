"""Opening what earlier jobs left: pictures, latent models with their priors, policies. Refusals name what to do."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent
from agents.registry import AGENTS
from envs.columns import Columns, open_columns
from envs.trajectories import columns_from_minari, is_minari
from goals.replay import Replay
from imagoal.compose import own
from imagoal.errors import UserError, explained
from imagoal.rollout import Eyes
from imagoal.run import latest_checkpoint, read_config
from vision import load
from vision.images import FolderReport, read_folder
from vision.pixelcnn import PixelCNN
from vision.prior import AffordancePrior
from vision.store import describe
from vision.train import encode_dataset
from vision.vqvae import VQVAE


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU where there is one. Raises UserError for cuda without a GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU here. Use device=auto or device=cpu; see: imagoal doctor")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


@dataclass
class Pictures:
    """Pictures to learn from: (N, H, W, 3) uint8, and trajectories where they have any."""

    image: Any
    columns: Columns | None
    folder: FolderReport | None


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


def open_pictures(data: str, image_size: int, bad_share: float, keep: Path) -> Pictures:
    """A folder of pictures, a collect run or a Minari dataset, whichever `data` is."""
    path = Path(data).expanduser()
    if not path.exists():
        raise UserError(f"data: there is no {data}. Name a folder of pictures or the run folder of an imagoal collect.")
    if (path / "config.yaml").is_file() or (path / "columns.json").is_file() or is_minari(path):
        columns = open_trajectories(data, keep)
        if columns.image.shape[1] != image_size:
            raise UserError(f"data: the pictures of {data} have {columns.image.shape[1]} pixels a side, not image_size={image_size}.")
        return Pictures(columns.image, columns, None)
    with explained("data"):
        images, report = read_folder(path, image_size, max_bad_share=bad_share)
    for bad, why in report.bad:
        print(f"train: skipped {bad}: {why}")
    return Pictures(images, None, report)


def model_folder(run: str) -> Path:
    """Where a train run keeps its latent model."""
    read_config(run, "train")
    return Path(run).expanduser() / "model"


def load_eyes(run: str, device: torch.device, proprio: bool = True) -> Eyes:
    """The latent model of a train run."""
    with explained("model"):
        return Eyes(load(model_folder(run), VQVAE), proprio, device)


def load_prior(run: str, eyes: Eyes) -> AffordancePrior:
    """The prior of a train run. Refuses one trained on the codes of another model."""
    folder = Path(run).expanduser() / "prior"
    if not folder.is_dir():
        raise UserError(f"model: {run} has no prior, so nothing can be imagined. Train one: imagoal train ... prior_steps=1000")
    with explained("model"):
        notes, model = describe(folder).get("notes") or {}, describe(model_folder(run))
        if notes.get("model") != model["sha256"]:
            raise UserError(f"model: the prior of {run} was trained on another latent model. Train again in another run=FOLDER.")
        return AffordancePrior(load(folder, PixelCNN), eyes.model).to(eyes.device)


def stamped_codes(run: str, eyes: Eyes, columns: Columns, data: str, keep: Path) -> Tensor:
    """Codes (N, cells) int16 of all pictures, encoded once and kept in `keep`; the stamp names model and data."""
    columns_stamp = json.dumps(columns.meta.get("source") or f"{data}:{len(columns)}", sort_keys=True, default=str)
    stamp = hashlib.sha256(f"{describe(model_folder(run))['sha256']} {columns_stamp}".encode()).hexdigest()[:16]
    path = keep / f"codes-{stamp}.npy"
    if path.is_file():
        return torch.from_numpy(np.load(path))
    codes = encode_dataset(eyes.model, columns.image)
    keep.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(f".{path.stem}.tmp.npy")
    np.save(begun, codes.numpy())
    begun.replace(path)
    return codes


def trajectory_replay(columns: Columns, codes: Tensor, eyes: Eyes, device: torch.device) -> Replay:
    """All trajectories as one replay."""
    replay = Replay(len(columns) + 1, eyes.cells, columns.proprio.shape[1] if eyes.proprio else 0,
                    columns.action.shape[1], lookup=eyes.lookup, device=device)  # fmt: skip
    tensors = [torch.from_numpy(np.array(c)) for c in (columns.start, columns.end, columns.scene)]
    proprio = torch.from_numpy(np.array(columns.proprio if eyes.proprio else columns.proprio[:, :0]))
    replay.add_episodes(codes, proprio, torch.from_numpy(np.array(columns.action)), tensors[0], tensors[1], scene=tensors[2])
    return replay


@dataclass
class Policy:
    """A trained agent and everything it came from."""

    agent: Agent
    eyes: Eyes
    settings: dict[str, Any]  # config.yaml of the run
    pretrain: dict[str, Any]  # config.yaml of the pretrain run at its root
    threshold: float  # of the sparse reward
    run: Path


def pretrain_config(run: str) -> dict[str, Any]:
    """The configuration of the pretrain run that a policy began as (practice runs are followed back)."""
    settings = read_config(run)
    while settings["job"] == "practice":
        settings = read_config(settings["policy"])
    if settings["job"] != "pretrain":
        raise UserError(f"policy: {run} is the run of a {settings['job']}; name the run of an imagoal pretrain or practice.")
    return settings


def make_agent(name: str, config: Any, eyes: Eyes, action_dim: int, device: torch.device) -> Agent:
    """A fresh agent for these eyes."""
    obs_dim = eyes.latent_dim + (2 if eyes.proprio else 0)
    build: Any = AGENTS[name][0]
    agent: Agent = build(config, obs_dim, eyes.latent_dim, action_dim, eyes.model.grid_shape, device)
    return agent


def load_policy(run: str, device: torch.device) -> Policy:
    """The agent of a pretrain or practice run, with the latent model it sees through."""
    settings, pretrain = read_config(run), pretrain_config(run)
    path = Path(run).expanduser()
    eyes = load_eyes(pretrain["model"], device, pretrain["proprio"])
    found = latest_checkpoint(run, "policy")
    agent = make_agent(pretrain["agent"]["name"], own("agent", None, dict(pretrain["agent"]), "agent", ""), eyes, 2, device)
    with explained(f"policy {run}"):
        agent.restore(found.tensors)
    return Policy(agent, eyes, settings, pretrain, found.state["threshold"], path)
