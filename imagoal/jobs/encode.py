"""`imagoal encode`: a data set as a trained model sees it, with a stamp that says which model and data it is of."""

import time
from dataclasses import replace

import numpy as np

from imagoal.config import EncodeConfig
from imagoal.errors import UserError
from imagoal.loading import load_model, model_folder, open_pictures, pick_device
from imagoal.progress import progress
from imagoal.run import RunFolder, read_config
from vision.encoding import write_encoded
from vision.store import describe


def main(config: EncodeConfig) -> None:
    """Encode; leaves RUN/encoded (codes.npy or latents.npy, stamp.json) and RUN/episodes.npz (start, end, scene: which rows belong
    together). A run that was cut off begins again."""
    began = time.monotonic()
    device = pick_device(config.device)
    model = load_model(config.model, device)
    size = model.config.image_size
    if config.image_size not in (0, size):
        raise UserError(f"image_size={config.image_size}: the model of {config.model} sees pictures of {size} pixels a side; leave image_size out.")
    trained = read_config(config.model, "train")
    pictures = open_pictures(replace(config, clip=config.clip or trained.get("clip", 0)), size)  # contexts as in training
    if model.needs_context and not pictures.trajectories:
        raise UserError(f"data: the {type(model).__name__} of {config.model} needs trajectories, but {config.data} holds loose pictures.")
    run = RunFolder("encode", config)
    if run.done:
        print(f"encode: already done, see {run.path}")
        return
    sha = describe(model_folder(config.model))["sha256"]
    folder = run.path / "encoded"
    with progress("encode", 0) as bar:
        array = write_encoded(folder, model, sha, pictures.image, pictures.first, pictures.source, bar.reach)
    np.savez(run.path / "episodes.npz", start=pictures.start, end=pictures.end, scene=pictures.scene)
    seconds = time.monotonic() - began
    print(f"encode: {array.shape[0]} pictures, {array.shape[1]} numbers each, {array.dtype}: {folder}")
    run.finish({"pictures": len(array), "width": int(array.shape[1]), "model": sha, "seconds": round(seconds, 1)})
