"""The batches of a run in order, drawn ahead by a thread while the model learns from the ones before."""

import threading
import time
from collections.abc import Iterator
from queue import Empty, Full, Queue

import numpy as np
import torch
from torch import Tensor

from vision.data import Batches

AHEAD = 2  # batches drawn and waiting


def step_rng(seed: int, step: int, *rank: int) -> np.random.Generator:
    """The random generator of one step of one run (of one process of it)."""
    return np.random.default_rng((seed, step, *rank))


class BatchStream:
    """Batches of steps `start`, `start + 1`, ...: rows drawn with replacement by a generator seeded by (seed, step), or
    by (seed, step, rank) where `ranks` processes share a batch; `batch_size` is what this one draws.

    One thread draws them, in order, so `data` need not be safe for several; it must give the same rows the same batch
    and leave torch's global random state alone. `waited` adds up the seconds that the reader had to wait.
    """

    def __init__(self, data: Batches, batch_size: int, seed: int, start: int = 0, rank: int = 0, ranks: int = 1) -> None:
        self.data, self.batch_size, self.seed, self.start = data, batch_size, seed, start
        self.key = (rank,) if ranks > 1 else ()
        self.waited = 0.0
        self.queue: Queue[tuple[Tensor, ...] | BaseException] = Queue(AHEAD)
        self.closed = threading.Event()
        self.thread: threading.Thread | None = None

    def at(self, step: int) -> tuple[Tensor, ...]:
        """The batch of a step (counted from 0), drawn again."""
        rows = step_rng(self.seed, step, *self.key).integers(len(self.data), size=self.batch_size)
        return self.data.batch(rows)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Never ends: the trainer stops at its number of steps, and `close` ends the thread."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._draw, name="batches", daemon=True)
            self.thread.start()
        while True:
            began = time.perf_counter()
            item = self.queue.get()
            self.waited += time.perf_counter() - began
            if isinstance(item, BaseException):
                raise item
            yield item

    def _draw(self) -> None:
        torch.set_num_threads(1)  # of this thread: the others are the model's
        step = self.start
        while not self.closed.is_set():
            item: tuple[Tensor, ...] | BaseException
            try:
                item = self.at(step)
            except BaseException as error:  # the reader raises it
                item = error
            while not self.closed.is_set():
                try:
                    self.queue.put(item, timeout=0.1)
                    break
                except Full:
                    continue
            if isinstance(item, BaseException):
                return
            step += 1

    def close(self) -> None:
        """End the thread, and let go of what it drew."""
        self.closed.set()
        while True:
            try:
                self.queue.get_nowait()
            except Empty:
                break
        if self.thread is not None:
            self.thread.join()
