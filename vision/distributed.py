"""Data-parallel training on N processes of this machine, through Lightning's DDP strategy.

This process starts the N, listens to the first of them, and makes all the calls (log, checkpoint, progress, stop), so
that a run folder has one writer; the trained weights come back to its model. Nothing outlives it: whatever ends the run
ends the processes, and they watch for its own end.
"""

import copy
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import nn

from vision.data import Batches
from vision.lightning_module import train
from vision.training_plan import Calls, NotFinite, Plan
from vision.training_state import State, on_cpu, restore_model

KNOWN: dict[str, type[Exception]] = {e.__name__: e for e in (ValueError, FloatingPointError, OSError, MemoryError)}
"""Errors of a child that are raised here as what they were; others as RuntimeError."""


@dataclass(frozen=True)
class Job:
    """What each process is given: the arguments of `train`, and which calls the parent wants."""

    model: nn.Module
    data: Batches
    plan: Plan
    start: int
    resume: State | None
    validation: Batches | None
    threads: int
    logs: bool
    checkpoints: bool
    unused: bool


def start_method() -> str:
    """Forked children share this process's data as it is; CUDA, and systems other than Linux, need fresh ones."""
    return "fork" if sys.platform == "linux" and not torch.cuda.is_available() else "spawn"


def train_together(
    model: nn.Module, data: Batches, plan: Plan, start: int, resume: State | None, calls: Calls, validation: Batches | None
) -> int:
    """As `vision.lightning_module.train`, on `plan.devices` processes.

    Raises NotFinite, KeyboardInterrupt, what the callbacks raise, and what a child raised, with its message, as
    ValueError, FloatingPointError, OSError or MemoryError where it was one, else as RuntimeError.
    """
    context: Any = multiprocessing.get_context(start_method())
    threads = max(1, torch.get_num_threads() // plan.devices) if start_method() == "spawn" else 1
    model.cpu()
    job = Job(
        model, data, plan, start, resume, validation, threads, calls.log is not None, calls.checkpoint is not None,
        leaves_parameters_out(model, data, plan.batch_size),
    )  # fmt: skip
    stopping, port = context.Event(), free_port()
    ForkingPickler.register(np.memmap, reduce_memmap)
    children: list[tuple[Any, Connection]] = []
    try:
        for rank in range(plan.devices):
            here, there = context.Pipe()
            child = context.Process(target=_child, args=(rank, port, there, stopping, job), daemon=True)
            try:
                child.start()
            except OSError:
                raise
            except Exception as error:  # pickling, for a lambda or an open file, raises several kinds
                raise ValueError(
                    f"the model or data cannot be sent to another process ({error}); with devices={plan.devices} use "
                    "functions and classes defined at the top of a module"
                ) from error
            there.close()
            children.append((child, here))
        done, weights = _listen(children, plan, calls, stopping)
    finally:
        for child, here in children:
            child.kill()  # they write nothing; a polite end could wait for ever on another rank
            child.join()
            here.close()
    restore_model(model, weights)
    model.eval()
    return done


def leaves_parameters_out(model: nn.Module, data: Batches, batch_size: int) -> bool:
    """Whether some parameter may have no gradient at a step, which DDP must then look for: a trial on a few rows says
    so, or the model itself, by `unused_parameters = True`."""
    if getattr(model, "unused_parameters", False):
        return True
    trial: Any = copy.deepcopy(model).train()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        loss, _ = trial.loss(*(x.cpu() for x in data.batch(np.arange(min(len(data), batch_size, 8)))))
        loss.backward()
    return any(p.grad is None for p in trial.parameters() if p.requires_grad)


def _listen(children: list[tuple[Any, Connection]], plan: Plan, calls: Calls, stopping: Any) -> tuple[int, State]:
    """Make the calls that the first child asks for, until it is done: (step reached, weights)."""
    handlers: dict[str, Callable[..., object]] = {
        "log": calls.log or _nothing,
        "checkpoint": lambda step, state: calls.checkpoint and calls.checkpoint(step, from_bytes(state)),
        "progress": calls.progress or _nothing,
    }
    ranks: dict[Any, int] = {here: rank for rank, (_, here) in enumerate(children)}
    ranks |= {child.sentinel: rank for rank, (child, _) in enumerate(children)}
    while True:
        ready = wait(list(ranks))
        # Messages before deaths: a child says why before it ends.
        for source in sorted(ready, key=lambda s: isinstance(s, int)):
            rank = ranks[source]
            here = children[rank][1]
            if isinstance(source, int) and not here.poll():
                raise _died(children, rank)
            try:
                kind, *message = here.recv()
            except EOFError:
                del ranks[source]  # its sentinel tells the rest
                break
            if kind == "end":
                return message[0], from_bytes(message[1])
            if kind == "not finite":
                raise NotFinite(message[0])
            if kind == "error":
                name, text, trace = message
                others = {child.sentinel: i for i, (child, _) in enumerate(children) if i != rank}
                if name not in KNOWN and (dead := wait(list(others), timeout=0.5)):  # of which the others complain
                    raise _died(children, others[dead[0]])  # type: ignore[index]
                sys.stderr.write(trace)
                raise KNOWN.get(name, RuntimeError)(
                    f"training process {rank} of {plan.devices}: {text if name in KNOWN else f'{name}: {text}'}"
                )
            handlers[kind](*message)
            if kind == "progress" and calls.stop is not None and calls.stop():
                stopping.set()
            break  # others may have become ready, and come first


def _died(children: list[tuple[Any, Connection]], rank: int) -> RuntimeError:
    child = children[rank][0]
    child.join()
    return RuntimeError(
        f"training process {rank} of {len(children)} died (exit code {child.exitcode}); it may have been killed, for "
        "instance for memory: lower batch_size or devices"
    )


def _child(rank: int, port: int, there: Connection, stopping: Any, job: Job) -> None:
    """One process of the group; only the first sends anything but its failure."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C, and ends the children
    threading.Thread(target=_watch, daemon=True).start()
    torch.set_num_threads(job.threads)  # a forked child can use one only: OpenMP's threads are not forked with it
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": job.plan.devices}
    os.environ |= {key: str(value) for key, value in ranks.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

    def send(*message: object) -> None:
        if rank == 0:
            there.send(message)

    calls = Calls(
        log=(lambda step, values: send("log", step, values)) if job.logs else None,
        checkpoint=(lambda step, state: send("checkpoint", step, to_bytes(state) if rank == 0 else b"")) if job.checkpoints else None,
        progress=lambda step, steps: send("progress", step, steps),
        stop=stopping.is_set,
    )
    try:
        model = copy.deepcopy(job.model)  # a spawned process gets tensors in shared memory, the same in all of them
        done = train(model, job.data, job.plan, job.start, job.resume, calls, job.validation, rank, job.unused)
        send("end", done, to_bytes({f"model.{key}": x for key, x in on_cpu(model.state_dict()).items()}))
    except NotFinite as error:
        there.send(("not finite", error.step))
    except BaseException as error:
        there.send(("error", type(error).__name__, str(error), traceback.format_exc()))
    threading.Event().wait()  # for the parent: an early end would give the others errors of their own


def _watch() -> None:
    """End this process when its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _nothing(*message: object) -> None:
    """For calls that nobody waits for."""


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def reduce_memmap(array: np.memmap) -> tuple[Any, tuple[Any, ...]]:
    """How a mapped file travels to another process: by its name, not by its contents."""
    whole = array.base is not None and not isinstance(array.base, np.ndarray)
    if not (whole and array.filename and array.flags.c_contiguous):
        return np.array, (np.asarray(array).tolist(), array.dtype)
    return _map, (str(array.filename), array.dtype.str, array.offset, array.shape)


def _map(name: str, dtype: str, offset: int, shape: tuple[int, ...]) -> np.memmap:
    return np.memmap(name, np.dtype(dtype), "r", offset, shape)
