"""Data sets as a model sees them, encoded once: arrays on disk with a stamp that says which model and pictures they are of.

`codes.npy` (N, cells) int16 for models of codes, `latents.npy` (N, z) float32 for the others; `stamp.json` is written last. Latents of
another model are numbers without meaning, so `open_encoded` refuses them.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vision.judge import device_of
from vision.protocols import CodeModel, LatentModel
from vision.store import describe

BATCH = 512  # pictures encoded at once
STAMP = "stamp.json"


def fingerprint(sha256: str, source: Any) -> str:
    """16 hexadecimal digits for a model (the hash of its weights) and what the pictures are from (plain values)."""
    return hashlib.sha256(f"{sha256} {json.dumps(source, sort_keys=True, default=str)}".encode()).hexdigest()[:16]


@torch.no_grad()
def encode_dataset(
    model: LatentModel,
    images: Any,
    first: Int[np.ndarray, "N"] | None = None,
    out: np.ndarray | None = None,
    batch_size: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Every image of a uint8 array, memmap or tensor (N, H, W, 3), each once: codes (N, cells) int16, row-major, of a model of codes, else
    latents (N, z) float32.

    Works on the model's device. `first` (N,) is the row of each one's context, for models that need one; `out` an array to write
    into (a memory map, for what is larger than memory). `progress(done, N)` is called after each batch. Raises ValueError where a
    context is needed and there is none.
    """
    total, device = len(images), device_of(model)
    is_codes = isinstance(model, CodeModel)
    if model.needs_context and first is None:
        raise ValueError(f"{type(model).__name__} needs the first picture of each trajectory, and these pictures have no trajectories")

    def rows(index: Any) -> Tensor:
        part = images[index]
        return (part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))).to(device)

    if out is None:
        out = np.empty((total, width(model)), np.int16 if is_codes else np.float32)
    for begin in range(0, total, batch_size):
        some = slice(begin, min(begin + batch_size, total))
        if isinstance(model, CodeModel):
            z = model.codes(rows(some)).flatten(1)
        else:
            z = model.encode(rows(some), rows(first[some]) if first is not None and model.needs_context else None)
        out[some] = z.cpu().numpy()
        if progress is not None:
            progress(some.stop, total)
    return out


def width(model: LatentModel) -> int:
    """Numbers of one encoded picture."""
    return model.grid_shape[1] * model.grid_shape[2] if isinstance(model, CodeModel) else model.latent_dim


def write_encoded(
    folder: str | Path,
    model: LatentModel,
    sha256: str,
    images: Any,
    first: Int[np.ndarray, "N"] | None,
    source: Any,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Encode into `folder`, which appears whole or not at all, and open it as a read-only memory map."""
    folder = Path(folder)
    begun = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    kind, dtype = ("codes", np.int16) if isinstance(model, CodeModel) else ("latents", np.float32)
    try:
        shape = (len(images), width(model))
        out: Any = np.lib.format.open_memmap(begun / f"{kind}.npy", "w+", dtype, shape)  # type: ignore[no-untyped-call]
        with open(begun / f"{kind}.npy", "r+b") as file:  # a full disk says so now; writing to a map without room kills the process
            os.posix_fallocate(file.fileno(), 0, (begun / f"{kind}.npy").stat().st_size)
        encode_dataset(model, images, first, out, progress=progress)
        out.flush()
        del out
        stamp = {"model": sha256, "class": type(model).__name__, "kind": kind, "shape": shape, "source": source}
        (begun / STAMP).write_text(json.dumps(stamp, indent=1, default=str) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            begun.rename(folder)
        except OSError:  # another process put its own there in this moment, of the same model and pictures
            if not (folder / STAMP).is_file():
                raise
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    array: np.ndarray = np.load(folder / f"{kind}.npy", mmap_mode="r", allow_pickle=False)
    return array


def open_encoded(folder: str | Path, model: str | Path) -> np.ndarray:
    """What `write_encoded` (or `imagoal encode`, whose run folder may be given) wrote, as a read-only memory map. `model` is the folder of
    the model, or of its train run.

    Raises ValueError for a folder without a stamp, an array that is not what the stamp says, or latents of another model.
    """
    run = Path(model) / "model"
    sha256 = describe(run if run.is_dir() else model)["sha256"]
    folder = Path(folder)
    folder = folder / "encoded" if not (folder / STAMP).is_file() and (folder / "encoded").is_dir() else folder
    if not (folder / STAMP).is_file():
        raise ValueError(f"{folder} holds no encoded pictures: it has no {STAMP}; make them with: imagoal encode")
    stamp = json.loads((folder / STAMP).read_text())
    if stamp["model"] != sha256:
        raise ValueError(
            f"{folder} is stale: it was encoded by a model whose weights begin {stamp['model'][:12]}, not {sha256[:12]}; encode again: imagoal encode"
        )
    array: np.ndarray = np.load(folder / f"{stamp['kind']}.npy", mmap_mode="r", allow_pickle=False)
    if list(array.shape) != list(stamp["shape"]):
        raise ValueError(f"{folder}: {stamp['kind']}.npy is {array.shape}, but its stamp says {tuple(stamp['shape'])}; encode again: imagoal encode")
    return array
