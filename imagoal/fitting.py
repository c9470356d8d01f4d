"""One network's training as a stage of a run: with a progress bar, metrics and checkpoints it continues from."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from imagoal.disk import write_atomic
from imagoal.progress import progress
from imagoal.run import RunFolder
from vision.data import Batches
from vision.torchvision_import import ready_for_lightning
from vision.train import fit
from vision.training_state import restore_model

if TYPE_CHECKING:
    import numpy as np

CHECKPOINT_EVERY = 250  # steps
PICTURES_EVERY = 500  # steps, a multiple of CHECKPOINT_EVERY


def fit_stage(
    run: RunFolder, name: str, network: nn.Module, data: Batches, steps: int, batch_size: int, seed: int, device: torch.device,
    clip: float | None = None, *, validation: Batches | None = None, validate_every: int = 250, patience: int = 0, devices: int = 1,
    precision: str = "32-true", pictures: "Callable[[], np.ndarray] | None" = None,
) -> int:  # fmt: skip
    """Fits one network, with metrics `NAME.*`, checkpoints NAME and a progress bar; continues from its last checkpoint.

    The metrics also go to RUN/tensorboard/NAME. `pictures()`, uint8 (H, W, 3), is called in evaluation mode every
    `PICTURES_EVERY` steps and at the end, and kept there and as RUN/pictures/NAME-STEP.png. Where a loss is not finite,
    its batch is left in RUN/bad_batch-STEP.safetensors. The rest is as for `vision.train.fit`. Returns the step reached.
    """
    saved = run.load_checkpoint(name)
    begin = saved.state["step"] if saved else 0
    latest: dict[str, float] = {}
    board = Board(run.path / "tensorboard", name, begin)

    def log(step: int, metrics: dict[str, float]) -> None:
        latest.update(metrics)
        run.log(step, **{f"{name}.{key}": value for key, value in metrics.items()})
        board.scalars(step, metrics)

    def draw(step: int) -> None:
        if pictures is None:
            return
        training = network.training
        network.eval()
        with torch.random.fork_rng(), torch.no_grad():
            picture = pictures()
        network.train(training)
        (run.path / "pictures").mkdir(exist_ok=True)
        write_atomic(run.path / "pictures" / f"{name}-{step}.png", png(picture))
        board.picture(step, picture)

    def keep(step: int, tensors: dict[str, Tensor]) -> None:
        board.flush()
        run.checkpoint(name, tensors, {"step": step})
        if step % PICTURES_EVERY == 0 and step < steps:
            if devices > 1:  # it is trained elsewhere
                restore_model(network, tensors)
            draw(step)

    def keep_bad(step: int, tensors: dict[str, Tensor]) -> Path:
        from safetensors.torch import save

        return write_atomic(run.path / f"bad_batch-{step}.safetensors", save(tensors))

    try:
        with progress(f"train {name}", steps, begin) as bar:

            def tick(step: int, total: int) -> None:
                bar.advance(1, **({"loss": latest["loss"]} if "loss" in latest else {}))

            reached = fit(
                network, data, steps, batch_size=batch_size, seed=seed, log=log, checkpoint=keep,
                checkpoint_every=CHECKPOINT_EVERY, resume=saved.tensors if saved else None, progress=tick, device=device,
                devices=devices, precision=precision, gradient_clip=clip, validation=validation, validate_every=validate_every,
                patience=patience, bad_batch=keep_bad,
            )  # fmt: skip
        draw(reached)
    finally:
        board.close()
    return reached


class Board:
    """TensorBoard's files of one stage, by Lightning's logger; what a run that was cut off wrote after its last checkpoint
    is purged when it goes on."""

    def __init__(self, folder: Path, name: str, begin: int) -> None:
        """`begin`: the step of the last checkpoint, 0 for a new stage."""
        self.folder, self.name, self.begin = folder, name, begin
        self._writer: Any = None

    @property
    def writer(self) -> Any:
        """TensorBoard's writer, opened when there is something to write: importing it takes seconds."""
        if self._writer is None:
            ready_for_lightning()
            from lightning.pytorch.loggers import TensorBoardLogger

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._writer = TensorBoardLogger(self.folder, name=self.name, version="", purge_step=self.begin + 1).experiment
        return self._writer

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers, by their names."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def picture(self, step: int, picture: "np.ndarray") -> None:
        """A picture, uint8 (H, W, 3)."""
        self.writer.add_image("pictures", picture, step, dataformats="HWC")

    def flush(self) -> None:
        """Onto the disk, where anything was written."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """The end of the files."""
        if self._writer is not None:
            self._writer.close()


def png(picture: "np.ndarray") -> bytes:
    """A uint8 picture (H, W, 3) as the content of a PNG file."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return content.getvalue()
