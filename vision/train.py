"""Training latent models and priors with Lightning's Trainer.

Lightning moves the data, runs the optimiser, the precision and the clipping; its loggers, progress bars and (pickled)
checkpoints are off. Steps are the only clock: the batch of step k is a function of (seed, k), and so is the torch random
state, so a run resumed at step k sees what the uninterrupted run saw and ends with the same weights.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vision.data import Batches
from vision.streams import BatchStream
from vision.training_plan import Calls, NotFinite, Plan
from vision.training_state import Best, restore_model

Log = Callable[[int, dict[str, float]], None]
Checkpoint = Callable[[int, dict[str, Tensor]], None]
BadBatch = Callable[[int, dict[str, Tensor]], Path | None]


def fit(
    model: nn.Module,
    data: Batches,
    steps: int,
    *,
    batch_size: int = 128,
    seed: int = 0,
    log: Log | None = None,
    log_every: int = 50,
    checkpoint: Checkpoint | None = None,
    checkpoint_every: int = 1000,
    resume: dict[str, Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    device: str | torch.device = "cpu",
    devices: int = 1,
    precision: str = "32-true",
    gradient_clip: float | None = None,
    validation: Batches | None = None,
    validate_every: int = 250,
    patience: int = 0,
    bad_batch: BadBatch | None = None,
) -> int:
    """Train `model` (its `loss(*batch)` gives a scalar and metrics) until step `steps`; returns the step reached.

    The model needs a `config.learning_rate`; its config may have `decay` (the rate falls along half a cosine), `betas`
    and `weight_decay`. It may have `prepare(*batch)`, called once on 1,024 rows before the first step; `after_step()`,
    called after every step; and `progress`, set before every step to the share of the steps done, in [0, 1).

    `log(step, metrics)` gets averages since the last log, `images_per_s` and `waiting`, the share of the time spent
    waiting for data; `checkpoint(step, state)` gets `training_state` every `checkpoint_every` steps and at the end, which
    given back as `resume` continues the run exactly. `progress(step, steps)` is called at every step; `stop()` turning
    true ends the run after the current step (some steps later with several devices), with a checkpoint. `precision` is
    "32-true" or "bf16-mixed", `gradient_clip` a norm.

    With `validation`, every `validate_every` steps and at the end the loss and metrics over at most 2,048 of its rows are
    logged as `val_NAME`, the weights with the lowest `val_loss` are kept, and are the model's at the end; with `patience`
    above 0 that many validations in a row without improvement end the run. A model whose `select_best` is False (a GAN)
    keeps its last weights.

    With `devices` above 1 that many processes share each batch, on as many GPUs or, with one thread each, on the CPU. They
    draw other rows than one process would; what a model changes in `after_step` it must keep equal, see
    `vision.collectives`.

    When the loss is not finite the batch, drawn again, is given to `bad_batch(step, {argument: tensor})`, which may write
    it and return where. No checkpoint is made of such a step.

    Raises ValueError for a checkpoint of another model or settings out of range, FloatingPointError naming the step when
    the loss is not finite, KeyboardInterrupt when interrupted.
    """
    target = torch.device(device)
    _check(model, data, validation, steps, batch_size, log_every, checkpoint_every, validate_every, patience)
    _check_devices(target, devices, batch_size, precision)
    start = 0
    if resume is not None:
        if "step" not in resume:
            raise ValueError(
                "fit: the checkpoint to resume from has no step; give a state that fit's checkpoint received"
            )
        restore_model(model, resume)
        start = int(resume["step"])
    model.to(target)
    prepare = getattr(model, "prepare", None)
    if resume is None and prepare is not None:
        rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), 1024)).astype(np.int64))
        prepare(*(column.to(target) for column in data.batch(rows)))
    best = Best.of(resume if validation is not None and getattr(model, "select_best", True) else None)
    if start >= steps or 0 < patience <= best.bad:
        best.put_into(model)
        return start

    from vision.lightning_module import train  # here: it imports Lightning, which takes seconds

    plan = Plan(
        steps, batch_size, seed, log_every, checkpoint_every, validate_every, patience, str(target), devices, precision,
        gradient_clip,
    )  # fmt: skip
    calls = Calls(log, checkpoint, progress, stop)
    try:
        if devices == 1:
            return train(model, data, plan, start, resume, calls, validation)
        from vision.distributed import train_together

        return train_together(model, data, plan, start, resume, calls, validation)
    except NotFinite as error:
        where = bad_batch(error.step, bad_tensors(model, data, plan, error.step)) if bad_batch is not None else None
        raise FloatingPointError(
            f"the loss of {type(model).__name__} is not finite at step {error.step}; lower learning_rate (now "
            f"{model.config.learning_rate}), set a gradient clip, or check the data"  # type: ignore[union-attr]
            + (f": that step's batch is in {where}" if where is not None else "")
        ) from None
    finally:
        model.to(target).eval()


def bad_tensors(model: nn.Module, data: Batches, plan: Plan, step: int) -> dict[str, Tensor]:
    """The batch of a step (the first is 1), of all processes, drawn again: by the names of the loss's arguments, on the
    CPU, contiguous."""
    share = plan.batch_size // plan.devices
    parts = [BatchStream(data, share, plan.seed, 0, rank, plan.devices).at(step - 1) for rank in range(plan.devices)]
    names = list(inspect.signature(model.loss).parameters)  # type: ignore[arg-type]
    return {
        names[i] if i < len(names) else f"argument_{i}": torch.cat(column).detach().cpu().contiguous()
        for i, column in enumerate(zip(*parts, strict=True))
    }


def _check(
    model: nn.Module, data: Batches, validation: Batches | None, steps: int, batch_size: int, log_every: int,
    checkpoint_every: int, validate_every: int, patience: int,
) -> None:  # fmt: skip
    if len(data) < 1 or min(batch_size, log_every, checkpoint_every) < 1 or steps < 0:
        raise ValueError(
            f"fit: needs data ({len(data)} rows), batch_size={batch_size}, log_every={log_every} and "
            f"checkpoint_every={checkpoint_every} of at least 1, and steps={steps} of at least 0"
        )
    if validation is not None and (len(validation) < 1 or validate_every < 1):
        raise ValueError(
            f"fit: needs validation data ({len(validation)} rows) and validate_every={validate_every} of at least 1; "
            "leave out validation to train without it"
        )
    if patience < 0 or (patience and validation is None):
        raise ValueError(f"fit: patience={patience} needs validation data, and must be at least 0 (0: no early stop)")
    if patience and not getattr(model, "select_best", True):
        raise ValueError(
            f"fit: a {type(model).__name__} has no loss that says when it is best (select_best is False), so it cannot "
            f"stop early; set patience=0 instead of {patience}"
        )


def _check_devices(target: torch.device, devices: int, batch_size: int, precision: str) -> None:
    if precision not in ("32-true", "bf16-mixed"):
        raise ValueError(f'fit: precision={precision!r} must be "32-true" or "bf16-mixed"')
    if devices < 1 or batch_size % devices:
        raise ValueError(
            f"fit: batch_size={batch_size} must be divisible by devices={devices} (at least 1), which share each batch"
        )
    if devices > 1 and target.type not in ("cpu", "cuda"):
        raise ValueError(f"fit: devices={devices} works on cpu and cuda, not on {target.type}; set devices=1")
    if devices > 1 and target.type == "cuda" and torch.cuda.device_count() < devices:
        raise ValueError(
            f"fit: devices={devices}, but this machine has {torch.cuda.device_count()} GPU(s); lower devices, or train on "
            "the CPU"
        )
