"""Training latent models and priors with Lightning's Trainer.

Lightning moves the data, runs the optimiser, the precision and the clipping; its loggers, progress bars and (pickled)
checkpoints are off. Steps are the only clock: the batch of step k is a function of (seed, k), and so is the torch random
state, so a run resumed at step k sees what the uninterrupted run saw and ends with the same weights.
"""

import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int16
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from vision.data import Batches
from vision.vqvae import VQVAE

Log = Callable[[int, dict[str, float]], None]
Checkpoint = Callable[[int, dict[str, Tensor]], None]


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The random generator of one step of one run."""
    return np.random.default_rng((seed, step))


class BatchStream(IterableDataset[tuple[Tensor, ...]]):
    """Batches of steps `start`, `start + 1`, ...: rows drawn with replacement by a generator seeded by (seed, step)."""

    def __init__(self, data: Batches, batch_size: int, seed: int, start: int = 0) -> None:
        self.data, self.batch_size, self.seed, self.start = data, batch_size, seed, start

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Never ends: the trainer stops at its number of steps."""
        step = self.start
        while True:
            yield self.data.batch(step_rng(self.seed, step).integers(len(self.data), size=self.batch_size))
            step += 1


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Tensor]:
    """All that a resume needs, as copies in flat tensors on the CPU: `step`, `model.NAME`, `optimizer.NAME.KEY`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    state = {"step": torch.tensor(step)} | {f"model.{key}": value for key, value in model.state_dict().items()}
    for parameter, moments in optimizer.state.items():
        state |= {f"optimizer.{names[parameter]}.{key}": value for key, value in moments.items()}
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}


def restore_model(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put the weights of a `training_state` into the model. Raises ValueError when they are not this model's."""
    weights = {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"the checkpoint does not fit this {type(model).__name__}; use the settings it was trained with: {error}"
        ) from error


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Put the moments of a `training_state` into the optimizer, each in its parameter's memory layout (fused Adam reads
    them side by side)."""
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        for key, value in state.items():
            if key.startswith(prefix):
                like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
                optimizer.state[parameter][key.removeprefix(prefix)] = like.copy_(value).detach().to(parameter.device)


class Module(lightning.LightningModule):
    """The thin wrapper: Lightning calls the model's `loss`, this counts steps and calls back."""

    def __init__(
        self,
        model: nn.Module,
        seed: int,
        start: int,
        steps: int,
        resume: dict[str, Tensor] | None,
        log: Log | None,
        log_every: int,
        checkpoint: Checkpoint | None,
        checkpoint_every: int,
        progress: Callable[[int, int], None] | None,
        stop: Callable[[], bool] | None,
        gradient_clip: float | None,
    ) -> None:
        super().__init__()
        self.model: Any
        self.model, self.seed, self.done, self.steps, self.resume = model, seed, start, steps, resume
        self.report, self.report_every = log, log_every
        self.save, self.save_every = checkpoint, checkpoint_every
        self.show, self.stop, self.gradient_clip = progress, stop, gradient_clip
        self.window: list[dict[str, Tensor]] = []
        self.window_began = time.perf_counter()
        self.images = 0
        self.adam: torch.optim.Optimizer | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam (fused) on what has gradients, with the learning rate of the model's config."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(parameters, lr=self.model.config.learning_rate, fused=True)
        if self.resume is not None:
            restore_optimizer(self.model, self.adam, self.resume)
        return self.adam

    def on_train_batch_start(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Random numbers inside a loss, and a learning rate that decays, depend on the step alone."""
        torch.manual_seed(int(step_rng(self.seed, self.done).integers(2**62)))
        if self.adam is not None and getattr(self.model.config, "decay", False):
            rate = self.model.config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
            for group in self.adam.param_groups:
                group["lr"] = rate

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Float[Tensor, ""]:
        """The model's loss; its metrics wait, as tensors, for the next log."""
        loss, metrics = self.model.loss(*batch)
        self.window.append(metrics)
        self.images += len(batch[0])
        if loss.device.type == "cpu" and not loss.isfinite():  # elsewhere at the next log: a check a step would stall
            raise FloatingPointError(self._not_finite(self.done + 1))
        return loss

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        """Clip the norm here: Lightning refuses to beside a fused optimiser in mixed precision, for a gradient scaler's
        sake, which bfloat16 does not use."""
        if self.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)

    def on_train_batch_end(self, outputs: object, batch: Sequence[Tensor], batch_idx: int) -> None:
        """After the optimiser's step: the model's own moves, then log, checkpoint and progress when due."""
        after_step = getattr(self.model, "after_step", None)
        if after_step is not None:
            after_step()
        self.done += 1
        last = self.done == self.steps or (self.stop is not None and self.stop())
        saves = self.save is not None and (last or self.done % self.save_every == 0)
        if last or saves or self.done % self.report_every == 0:
            self.flush()
        if saves and self.save is not None and self.adam is not None:
            self.save(self.done, training_state(self.model, self.adam, self.done))
            self.window_began = time.perf_counter()  # writing files is not training time
        if self.show is not None:
            self.show(self.done, self.steps)
        if last:
            self.trainer.should_stop = True

    def flush(self) -> None:
        """Average and report the metrics since the last time. Raises FloatingPointError when a loss was not finite."""
        if not self.window:
            return
        first = self.done - len(self.window) + 1
        columns = {key: torch.stack([m[key] for m in self.window]).float() for key in self.window[0]}
        if "loss" in columns and not (finite := columns["loss"].isfinite()).all():
            raise FloatingPointError(self._not_finite(first + int((~finite).nonzero()[0])))
        values = {key: float(column.mean()) for key, column in columns.items()}
        seconds = time.perf_counter() - self.window_began
        if self.report is not None:
            self.report(self.done, values | {"images_per_s": self.images / max(seconds, 1e-9)})
        self.window, self.images, self.window_began = [], 0, time.perf_counter()

    def _not_finite(self, step: int) -> str:
        return (
            f"the loss of {type(self.model).__name__} is not finite at step {step}; lower learning_rate "
            f"(now {self.model.config.learning_rate}), set a gradient clip, or check the data"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's notes and warnings off, for the duration."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning.*")
            warnings.filterwarnings("ignore", message=r".*(num_workers|IterableDataset|litlogger|LeafSpec).*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


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
    precision: str = "32-true",
    gradient_clip: float | None = None,
) -> int:
    """Train `model` (its `loss(*batch)` gives a scalar and metrics) until step `steps`; returns the step reached.

    The model needs a `config.learning_rate`, and may have `prepare(images)`, called once on 1,024 rows before the first
    step, and `after_step()`. `log(step, metrics)` gets averages since the last log and `images_per_s`;
    `checkpoint(step, state)` gets `training_state` every `checkpoint_every` steps and at the end, which given back as
    `resume` continues the run exactly. `progress(step, steps)` is called at every step; `stop()` turning true ends the run after
    the current step, with a checkpoint. `precision` is "32-true" or "bf16-mixed", `gradient_clip` a norm.

    Raises ValueError for a checkpoint of another model or settings out of range, FloatingPointError naming the step when
    the loss is not finite, KeyboardInterrupt when interrupted.
    """
    if len(data) < 1 or min(batch_size, log_every, checkpoint_every) < 1 or steps < 0:
        raise ValueError(
            f"fit: needs data ({len(data)} rows), batch_size={batch_size}, log_every={log_every} and "
            f"checkpoint_every={checkpoint_every} of at least 1, and steps={steps} of at least 0"
        )
    if precision not in ("32-true", "bf16-mixed"):
        raise ValueError(f'fit: precision={precision!r} must be "32-true" or "bf16-mixed"')
    target = torch.device(device)
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
        prepare(data.batch(rows)[0].to(target))
    if start >= steps:
        return start
    module = Module(
        model, seed, start, steps, resume, log, log_every, checkpoint, checkpoint_every, progress, stop, gradient_clip
    )
    model.train()
    interrupt = signal.getsignal(signal.SIGINT)
    with _quiet(), torch.random.fork_rng():
        trainer = lightning.Trainer(
            accelerator="gpu" if target.type == "cuda" else target.type,
            devices=[target.index or 0] if target.type == "cuda" else 1,
            precision=precision,  # type: ignore[arg-type]
            max_steps=steps - start,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        try:
            trainer.fit(module, DataLoader(BatchStream(data, batch_size, seed, start), batch_size=None))
        except SystemExit as exit:  # Lightning turns Ctrl-C into an exit and leaves the signal ignored
            if isinstance(exit.__context__, KeyboardInterrupt):
                signal.signal(signal.SIGINT, interrupt)
                raise KeyboardInterrupt from exit
            raise
        finally:
            model.to(target).eval()
    return module.done


@torch.no_grad()
def encode_dataset(
    model: VQVAE,
    images: object,
    batch_size: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> Int16[Tensor, "N cells"]:
    """The codes of every image of a uint8 array, memmap or tensor (N, H, W, 3), as int16 on the CPU, row-major cells.

    Works on the model's device; `progress(done, N)` is called after each batch.
    """
    total = len(images)  # type: ignore[arg-type]
    device = model.codebook.device
    out = torch.empty(total, model.config.grid**2, dtype=torch.int16)
    for begin in range(0, total, batch_size):
        part = images[begin : begin + batch_size]  # type: ignore[index]
        batch = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
        out[begin : begin + len(batch)] = model.codes(batch.to(device)).flatten(1).to("cpu", torch.int16)
        if progress is not None:
            progress(min(begin + batch_size, total), total)
    return out
