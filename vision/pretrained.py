"""Frozen encoders that others have trained, through timm (the extra `timm`), and a decoder to look at what they keep.

The latent is the network's pooled features of the picture, resized and normalised as in its own training; nothing of it learns here.
The decoder learns from those features, for the eye alone: its error sends nothing back. Loss = squared error summed over pixels and
channels, averaged over the batch. The frozen weights are stored with the model, so a stored model needs neither their file nor the net.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from vision.deterministic import Deterministic
from vision.images import to_float
from vision.networks import Up, check_pictures, check_size
from vision.torchvision_import import import_torchvision

RANDOM = "random"


@dataclass(frozen=True)
class PretrainedConfig:
    """Settings of a `Pretrained`."""

    model: str = "resnet18"
    """A name that timm knows."""
    weights: str = ""
    """Path of its weights, a .safetensors file with timm's names; or `random`, for tests and as a baseline."""
    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 12."""
    input_size: int = 96
    """Side to which they are resized for the network; transformers need the one they were trained with."""
    channels: int = 16
    """Of the decoder's last maps; the ones before have two and four times as many."""
    hidden: int = 256
    """Units between the features and the decoder's first map."""
    learning_rate: float = 1e-3
    """Of the decoder."""

    def __post_init__(self) -> None:
        check_size("PretrainedConfig", self.image_size)
        if min(self.input_size, self.channels, self.hidden) < 1:
            raise ValueError("PretrainedConfig: input_size, channels and hidden must be at least 1")


def import_timm() -> Any:
    """The module timm. Raises ValueError saying how to install it where there is none."""
    try:
        import_torchvision()  # timm needs it
        import timm
    except ImportError as error:
        raise ValueError(f"a pretrained encoder needs timm and torchvision ({error}); install them: pip install 'imagoal[timm]'") from error
    return timm


def make_trunk(c: PretrainedConfig) -> nn.Module:
    """The network without its classifier, with fresh weights. Raises ValueError where the config names no weights, or a model or a size
    that timm does not know."""
    if not c.weights:
        raise ValueError(
            f"PretrainedConfig: weights is empty; give the path of a .safetensors file of {c.model} (its page on the Hugging Face hub, "
            "timm/..., has it as model.safetensors), or `random` for an untrained encoder"
        )
    timm = import_timm()
    if not timm.is_model(c.model):
        near = timm.list_models(f"*{c.model.split('_')[0].split('.')[0]}*")[:5]
        raise ValueError(f"timm knows no model {c.model!r}" + (f"; names like it: {', '.join(near)}" if near else ""))
    known = timm.get_pretrained_cfg(c.model)
    fixed = known is not None and known.fixed_input_size
    try:
        return timm.create_model(c.model, pretrained=False, num_classes=0, **({"img_size": c.input_size} if fixed else {}))  # type: ignore[no-any-return]
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"timm cannot make {c.model} for input_size={c.input_size}: {error}") from error


def read_weights(trunk: Any, c: PretrainedConfig) -> None:
    """Put the weights of the file into the network, but for its classifier. Raises ValueError for a file that does not fit it."""
    path = Path(c.weights).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"weights={c.weights}: only .safetensors files are read (others can run code); convert it with safetensors.torch.save_file")
    if not path.is_file():
        raise ValueError(f"weights={c.weights}: there is no such file")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"weights={c.weights} is not a safetensors file ({error}); download it again") from error
    heads = trunk.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(f"{head}." for head in heads))}
    try:
        trunk.load_state_dict(kept)
    except RuntimeError as error:
        raise ValueError(f"weights={c.weights} does not fit {c.model} at input_size={c.input_size}: {error}") from error


class Pretrained(Deterministic):
    """A frozen encoder of others and a trained decoder; a `LatentModel` without a prior, see `Deterministic`."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: PretrainedConfig) -> None:
        c, trunk = config, make_trunk(config)
        super().__init__(config, trunk.num_features)  # type: ignore[arg-type]
        if c.weights != RANDOM and not next(trunk.parameters()).is_meta:  # on `meta`, it is being read back from its own folder
            read_weights(trunk, c)
        for module in trunk.modules():
            module._non_persistent_buffers_set.clear()  # tables that timm computes anew are stored too: a stored model is whole
        self.trunk = trunk.requires_grad_(False).eval()
        settings: Any = trunk.pretrained_cfg
        for name in ("mean", "std"):
            self.register_buffer(f"pixel_{name}", torch.tensor(settings[name]).view(3, 1, 1))
        self.decoder = Up(c.image_size, c.channels, self.latent_dim, c.hidden)

    def train(self, mode: bool = True) -> "Pretrained":
        """The frozen part stays in evaluation mode: batch statistics must not move."""
        super().train(mode)
        self.trunk.eval()
        return self

    @torch.no_grad()
    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """The pooled features of each image; this model needs no context."""
        check_pictures("Pretrained", images, self.config.image_size)
        side = (self.config.input_size,) * 2
        x = F.interpolate(to_float(images), side, mode="bilinear", antialias=True)
        return self.trunk((x - self.pixel_mean) / self.pixel_std).float()  # type: ignore[no-any-return]
