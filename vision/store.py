"""Models on disk: a folder with `config.json` (readable) and the weights as safetensors.

The weights' file is named by its hash and `config.json`, which names it, is replaced last and atomically: a reader finds
either the old model or the new one, whole. Loading executes nothing: classes come from the table below.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import nn

from vision.autoencoder import Autoencoder, AutoencoderConfig
from vision.bigan import BiGAN, BiGANConfig
from vision.cbigan import CBiGAN, CBiGANConfig
from vision.ccvae import CCVAE, CCVAEConfig
from vision.cvae import CVAE, CVAEConfig
from vision.dsae import DSAE, DSAEConfig
from vision.fsq import FSQ, FSQConfig
from vision.pixelcnn import PixelCNN, PixelCNNConfig
from vision.pretrained import Pretrained, PretrainedConfig
from vision.prior import AffordancePrior
from vision.protocols import CodeModel
from vision.vae import VAE, VAEConfig
from vision.vqvae import VQVAE, VQVAEConfig

CLASSES: dict[str, tuple[type[Any], type[Any]]] = {
    model.__name__: (model, config)
    for model, config in (
        (Autoencoder, AutoencoderConfig),
        (VAE, VAEConfig),
        (CVAE, CVAEConfig),
        (CCVAE, CCVAEConfig),
        (DSAE, DSAEConfig),
        (BiGAN, BiGANConfig),
        (CBiGAN, CBiGANConfig),
        (Pretrained, PretrainedConfig),
        (VQVAE, VQVAEConfig),
        (FSQ, FSQConfig),
        (PixelCNN, PixelCNNConfig),
    )
}


def build(config: Any) -> Any:
    """A model with fresh weights, from the config of its class. Raises ValueError for another object."""
    for model, kind in CLASSES.values():
        if type(config) is kind:
            return model(config)
    raise ValueError(f"vision.build: {type(config).__name__} is the config of no model; there are {', '.join(k.__name__ for _, k in CLASSES.values())}")


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save(model: nn.Module, path: str | Path, notes: dict[str, Any] | None = None) -> Path:
    """Write a model into the folder `path` (made if missing); `notes` are plain values kept in `config.json`.

    Raises ValueError for a class that `load` does not know.
    """
    name = type(model).__name__
    if name not in CLASSES or type(model) is not CLASSES[name][0]:
        raise ValueError(f"vision.save: cannot store a {name}; known models are {', '.join(CLASSES)}")
    config: Any = model.config
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    data = save_bytes({key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()})
    digest = hashlib.sha256(data).hexdigest()
    weights = f"weights-{digest[:12]}.safetensors"
    _replace(folder / weights, data)
    description = {
        "class": name,
        "config": asdict(config),
        "weights": weights,
        "sha256": digest,
        "notes": notes or {},
    }
    _replace(folder / "config.json", (json.dumps(description, indent=2) + "\n").encode())
    for old in folder.glob("weights-*.safetensors"):
        if old.name != weights:
            old.unlink(missing_ok=True)
    return folder


def describe(path: str | Path) -> dict[str, Any]:
    """What `config.json` says: class, config, weights, sha256, notes. Raises ValueError when it is missing or broken."""
    file = Path(path) / "config.json"
    if not file.is_file():
        raise ValueError(f"no stored model at {path}: {file} is missing; give the folder that vision.save wrote")
    try:
        description = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); the model must be saved again") from error
    if not isinstance(description, dict) or not {"class", "config", "weights", "sha256"} <= set(description):
        raise ValueError(f"{file} does not describe a stored model (class, config, weights, sha256); save it again")
    return description


def load(path: str | Path, kind: str | type[nn.Module] | None = None, device: str | torch.device = "cpu") -> Any:
    """Read a model that `save` wrote, in evaluation mode on `device`: from its own folder, or from the folder of a train run, whose
    `model` is then returned with the `prior` beside it, if there is one, attached (`model.sample` draws from it).

    `kind` (a class or its name) is what the caller expects. Raises ValueError, saying what is wrong and where, for a
    missing or damaged file, another class, an unknown or invalid setting, weights of other shapes, or a prior of another model.
    """
    run = Path(path)
    if (run / "config.json").is_file() or not (run / "model").is_dir():
        return load_model(run, kind, device)
    model = load_model(run / "model", kind, device)
    if (run / "prior" / "config.json").is_file():
        stamp = (describe(run / "prior").get("notes") or {}).get("model")
        if stamp != describe(run / "model")["sha256"]:
            raise ValueError(f"the prior of {run} was trained on another latent model than {run / 'model'}; train it again on this one")
        if not isinstance(model, CodeModel):
            raise ValueError(f"{run} holds a {type(model).__name__} and a prior, but only models of codes have one; remove {run / 'prior'}")
        AffordancePrior(load_model(run / "prior", PixelCNN, device), model).eval().attach()
    return model


def load_model(path: Path, kind: str | type[nn.Module] | None, device: str | torch.device) -> Any:
    """Read the model of one folder; see `load`."""
    description = describe(path)
    name = description["class"]
    expected = kind if isinstance(kind, str) or kind is None else kind.__name__
    if name not in CLASSES:
        raise ValueError(f"{path} holds a {name!r}, which vision does not know; known models are {', '.join(CLASSES)}")
    if expected is not None and name != expected:
        raise ValueError(f"{path} holds a {name}, not a {expected}; give the folder of a {expected}")
    if not re.fullmatch(r"weights-[0-9a-f]{12}\.safetensors", str(description["weights"])):
        raise ValueError(
            f"{path}/config.json names an unexpected weights file {description['weights']!r}; save it again"
        )
    file = Path(path) / description["weights"]
    if not file.is_file():
        raise ValueError(f"the weights of {path} are missing: no file {file}; save or copy the model again")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != description["sha256"]:
        raise ValueError(f"{file} is damaged: its sha256 is not the one in config.json; copy or save the model again")
    model_class, config_class = CLASSES[name]
    try:
        config = config_class(**description["config"])
        with torch.device("meta"):
            model = model_class(config)
        tensors = load_bytes(data)
    except TypeError as error:
        raise ValueError(f"{path}/config.json: the config does not fit {config_class.__name__} ({error})") from error
    except SafetensorError as error:
        raise ValueError(f"{file} is not a safetensors file ({error}); save the model again") from error
    wanted = {key: (tuple(value.shape), value.dtype) for key, value in model.state_dict().items()}
    found = {key: (tuple(value.shape), value.dtype) for key, value in tensors.items()}
    if wanted != found:
        different = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise ValueError(
            f"{file} does not fit its config: {len(different)} tensors differ, first {different[0]} "
            f"(expected {wanted.get(different[0])}, found {found.get(different[0])}); save the model again"
        )
    model.to_empty(device=device)  # keeps each weight's memory layout, which `assign` would not
    model.load_state_dict(tensors)
    return model.eval()
