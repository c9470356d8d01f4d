"""One process of training, by Lightning's Trainer: the loop, its clock and what is reported of it."""

import logging
import math
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vision.collectives import all_sum, from_first, processes
from vision.data import Batches
from vision.streams import BatchStream, step_rng
from vision.torchvision_import import ready_for_lightning
from vision.training_plan import Calls, NotFinite, Plan
from vision.training_state import Best, State, restore_optimizer, training_state

ready_for_lightning()

import lightning  # noqa: E402
from lightning.pytorch.strategies import DDPStrategy  # noqa: E402

VALIDATION_ROWS = 2048


@torch.no_grad()
def evaluate(
    model: Any, data: Batches, batch_size: int, seed: int, device: torch.device, precision: AbstractContextManager[Any]
) -> dict[str, float]:
    """Mean loss and metrics, as `val_NAME`, over at most `VALIDATION_ROWS` evenly spaced rows, in evaluation mode.

    The same weights give the same numbers, whatever the loss draws at random; random states and modes are put back.
    """
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), VALIDATION_ROWS)).astype(np.int64))
    modes = [(module, module.training) for module in model.modules()]
    sums: dict[str, Tensor] = {}
    model.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), precision:
        torch.manual_seed(seed)
        for begin in range(0, len(rows), batch_size):
            part = rows[begin : begin + batch_size]
            loss, metrics = model.loss(*(x.to(device) for x in data.batch(part)))
            for key, value in {**metrics, "loss": loss}.items():
                sums[key] = sums.get(key, 0) + value.detach().double() * len(part)
    for module, training in modes:
        module.training = training
    return {f"val_{key}": float(total) / len(rows) for key, total in sums.items()}


class Module(lightning.LightningModule):
    """The thin wrapper: Lightning calls the model's `loss`, this counts steps and calls back."""

    def __init__(
        self, model: nn.Module, plan: Plan, start: int, resume: State | None, calls: Calls, stream: BatchStream,
        validation: Batches | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model: Any
        self.model, self.plan, self.done, self.resume, self.calls = model, plan, start, resume, calls
        self.stream, self.validation = stream, validation
        self.selects = validation is not None and getattr(model, "select_best", True)
        self.best = Best.of(resume if self.selects else None)
        self.window: list[dict[str, Tensor]] = []
        self.window_began = time.perf_counter()
        self.images = 0
        self.adam: torch.optim.Optimizer | None = None
        self.control: torch.distributed.ProcessGroup | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam (fused) on what has gradients, with the learning rate, and where it has them the `betas` and the
        (decoupled) `weight_decay`, of the model's config."""
        config = self.model.config
        decay = float(getattr(config, "weight_decay", 0.0))
        settings: dict[str, Any] = {"lr": config.learning_rate, "betas": tuple(getattr(config, "betas", (0.9, 0.999)))}
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if decay > 0:
            self.adam = torch.optim.AdamW(parameters, **settings, weight_decay=decay, fused=True)
        else:
            self.adam = torch.optim.Adam(parameters, **settings, fused=True)
        if self.resume is not None:
            restore_optimizer(self.model, self.adam, self.resume)
        return self.adam

    def on_train_start(self) -> None:
        """The clock of the first log starts here. The processes agree among CPUs: asking a GPU would stall it."""
        if processes() > 1 and torch.distributed.get_backend() != "gloo":
            self.control = torch.distributed.new_group(backend="gloo")
        self.window_began = time.perf_counter()

    def on_train_batch_start(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Random numbers inside a loss, and what anneals, depend on the step alone."""
        torch.manual_seed(int(step_rng(self.plan.seed, self.done, *self.stream.key).integers(2**62)))
        if hasattr(self.model, "progress"):
            self.model.progress = self.done / self.plan.steps
        if self.adam is not None and getattr(self.model.config, "decay", False):
            rate = self.model.config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.done / self.plan.steps))
            for group in self.adam.param_groups:
                group["lr"] = rate

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Float[Tensor, ""]:
        """The model's loss; its metrics wait, as tensors, for the next log."""
        loss, metrics = self.model.loss(*batch)
        self.window.append({**metrics, "loss": loss.detach()})
        self.images += len(batch[0])
        if loss.device.type == "cpu" and not loss.isfinite():  # elsewhere at the next log: a check a step would stall
            raise NotFinite(self.done + 1)
        return loss

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        """Clip the norm here: Lightning refuses to beside a fused optimiser in mixed precision, for a gradient scaler's
        sake, which bfloat16 does not use."""
        if self.plan.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.gradient_clip)

    def on_train_batch_end(self, outputs: object, batch: Sequence[Tensor], batch_idx: int) -> None:
        """After the optimiser's step: the model's own moves, then validation, log, checkpoint and progress when due."""
        after_step = getattr(self.model, "after_step", None)
        if after_step is not None:
            after_step()
        self.done += 1
        plan, calls = self.plan, self.calls
        ends = self.done == plan.steps
        validates = self.validation is not None and (ends or self.done % plan.validate_every == 0)
        values = self.measure() if validates else {}
        if validates:
            values |= self.validate()
            ends |= 0 < plan.patience <= self.best.bad
        last = self.agree(ends or (calls.stop is not None and calls.stop()))
        saves = calls.checkpoint is not None and (last or self.done % plan.checkpoint_every == 0)
        if last or saves or self.done % plan.log_every == 0:
            values |= self.measure()
        if values:
            if calls.log is not None:
                calls.log(self.done, values)
        if saves and calls.checkpoint is not None and self.adam is not None:
            calls.checkpoint(self.done, training_state(self.model, self.adam, self.done, self.best))
        if values:  # validating, and writing files, is not training time
            self.window_began, self.stream.waited = time.perf_counter(), 0.0
        if calls.progress is not None:
            calls.progress(self.done, plan.steps)
        if last:
            self.trainer.should_stop = True

    def agree(self, last: bool) -> bool:
        """What the first process says: all stop at the same step."""
        if processes() == 1:
            return last
        return bool(from_first(torch.tensor(int(last)), self.control))

    def measure(self) -> dict[str, float]:
        """The means since the last time, over all processes. Raises NotFinite when a loss was not finite."""
        if not self.window:
            return {}
        first = self.done - len(self.window) + 1
        names = list(self.window[0])
        columns = torch.stack([torch.stack([m[key] for m in self.window]).float().to(self.device) for key in names])
        columns = all_sum(columns) / processes()
        if not (finite := columns[names.index("loss")].isfinite()).all():
            raise NotFinite(first + int((~finite).nonzero()[0]))
        values = dict(zip(names, columns.mean(1).tolist(), strict=True))
        seconds = max(time.perf_counter() - self.window_began, 1e-9)
        values["images_per_s"] = self.images * processes() / seconds
        values["waiting"] = min(self.stream.waited / seconds, 1.0)
        self.window, self.images = [], 0
        return values

    def validate(self) -> dict[str, float]:
        """Validate, in the first process, and remember the best weights."""
        assert self.validation is not None
        if self.trainer.global_rank:
            return {}
        precision = self.trainer.precision_plugin.forward_context()
        values = evaluate(self.model, self.validation, self.plan.batch_size, self.plan.seed, self.device, precision)
        if self.selects:
            self.best.offer(self.model, values["val_loss"], self.done)
        return values


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
            warnings.filterwarnings("ignore", message=r".*find_unused_parameters.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def train(
    model: nn.Module, data: Batches, plan: Plan, start: int, resume: State | None, calls: Calls,
    validation: Batches | None = None, rank: int = 0, unused: bool = False,
) -> int:  # fmt: skip
    """Train in this process, which is number `rank` of `plan.devices`; returns the step reached, with the best weights
    in the model where it validates. `unused`: some parameters may have no gradient, which matters to several. Raises NotFinite, KeyboardInterrupt, and what the model and the callbacks raise."""
    target = torch.device(plan.device)
    stream = BatchStream(data, plan.batch_size // plan.devices, plan.seed, start, rank, plan.devices)
    module = Module(model, plan, start, resume, calls, stream, validation)
    model.train()
    parallel: dict[str, Any] = {"devices": [target.index or 0] if target.type == "cuda" else 1}
    if plan.devices > 1:
        backend = "nccl" if target.type == "cuda" else "gloo"
        strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=unused)
        parallel = {"devices": plan.devices, "strategy": strategy}
    interrupt = signal.getsignal(signal.SIGINT)
    threads = torch.get_num_threads()
    with _quiet(), torch.random.fork_rng() if rank == 0 else nullcontext():
        trainer = lightning.Trainer(
            accelerator="gpu" if target.type == "cuda" else target.type,
            precision=plan.precision,  # type: ignore[arg-type]
            max_steps=plan.steps - start,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **parallel,
        )
        try:
            trainer.fit(module, stream)
        except SystemExit as exit:  # Lightning turns Ctrl-C into an exit and leaves the signal ignored
            if isinstance(exit.__context__, KeyboardInterrupt):
                signal.signal(signal.SIGINT, interrupt)
                raise KeyboardInterrupt from exit
            raise
        finally:
            stream.close()
            torch.set_num_threads(threads)  # the stream's thread has changed what new threads begin with
            model.eval()
    module.best.put_into(model)
    return module.done
