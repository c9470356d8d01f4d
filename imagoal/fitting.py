"""One network's training as a stage of a run: with a progress bar, metrics and checkpoints it continues from."""

import torch
from torch import Tensor, nn

from imagoal.progress import progress
from imagoal.run import RunFolder
from vision.data import Batches
from vision.train import fit

CHECKPOINT_EVERY = 250  # steps


def fit_stage(
    run: RunFolder, name: str, network: nn.Module, data: Batches, steps: int, batch_size: int, seed: int, device: torch.device,
    clip: float | None = None,
) -> None:  # fmt: skip
    """Fits one network, with metrics `NAME.*`, checkpoints NAME and a progress bar; continues from its last checkpoint."""
    saved = run.load_checkpoint(name)
    latest: dict[str, float] = {}

    def log(step: int, metrics: dict[str, float]) -> None:
        latest.update(metrics)
        run.log(step, **{f"{name}.{key}": value for key, value in metrics.items()})

    with progress(f"train {name}", steps, saved.state["step"] if saved else 0) as bar:

        def tick(step: int, total: int) -> None:
            bar.advance(1, **({"loss": latest["loss"]} if "loss" in latest else {}))

        def keep(step: int, tensors: dict[str, Tensor]) -> None:
            run.checkpoint(name, tensors, {"step": step})

        fit(
            network, data, steps, batch_size=batch_size, seed=seed, log=log, checkpoint=keep,
            checkpoint_every=CHECKPOINT_EVERY, resume=saved.tensors if saved else None, progress=tick, device=device,
            gradient_clip=clip,
        )  # fmt: skip
