"""Where training batches come from: rows of columns, chosen by index."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Batches(Protocol):
    """Rows that can be asked for by index; a batch is the positional arguments of a model's `loss`."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def batch(self, rows: Int[np.ndarray, "B"]) -> tuple[Tensor, ...]:
        """The rows (int64, repeats allowed) as tensors."""
        ...


def _take(column: Any, rows: Int[np.ndarray, "B"]) -> Tensor:
    """Rows of an array, memmap or tensor, as a new tensor."""
    return column[torch.from_numpy(rows)] if isinstance(column, Tensor) else torch.from_numpy(column[rows])


def first_rows(start: Int[np.ndarray, "E"], end: Int[np.ndarray, "E"]) -> Int[np.ndarray, "N"]:
    """For episodes of rows [start[e], end[e]) that follow one another: each row's episode's first row (N,)."""
    if not np.array_equal(start[1:], end[:-1]) or start[0] != 0:
        raise ValueError("first_rows: the episodes must cover the rows from 0 on, one after another")
    return np.repeat(start, end - start)


class ImageData:
    """Images of a uint8 array, memmap or tensor (N, H, W, 3); with `first` (N,), also the first image of each one's
    trajectory, as the context. Raises ValueError for other types or shapes."""

    def __init__(self, images: Any, first: Int[np.ndarray, "N"] | None = None) -> None:
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype not in (np.uint8, torch.uint8):
            raise ValueError(f"ImageData: needs uint8 (N, H, W, 3), got {images.dtype} {tuple(images.shape)}")
        if first is not None and len(first) != len(images):
            raise ValueError(f"ImageData: {len(images)} images but {len(first)} first rows")
        self.images, self.first = images, first

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Int[np.ndarray, "B"]) -> tuple[Tensor, ...]:
        """(images,) or (images, context), uint8 (B, H, W, 3)."""
        images = _take(self.images, rows)
        return (images,) if self.first is None else (images, _take(self.images, np.asarray(self.first)[rows]))


class CodePairs:
    """Pairs (any frame t | frame 0 of the same trajectory) for a prior: the codes of t, the latent of frame 0 (errata).

    `codes` is (N, g * g) of any integer type, `first` (N,) the row of each one's frame 0 (see `first_rows`), `lookup`
    turns codes into flat latents (`VQVAE.lookup`), on the device of the codes.
    """

    def __init__(
        self,
        codes: Int[Tensor, "N cells"],
        first: Int[np.ndarray, "N"],
        lookup: Callable[[Int[Tensor, "B cells"]], Float[Tensor, "B z"]],
    ) -> None:
        side = int(codes.shape[1] ** 0.5)
        if len(first) != len(codes) or side * side != codes.shape[1]:
            raise ValueError(f"CodePairs: codes {tuple(codes.shape)} must be (N, g*g) and first {first.shape} (N,)")
        self.codes, self.first, self.lookup, self.side = codes, np.asarray(first), lookup, side

    def __len__(self) -> int:
        return len(self.codes)

    def batch(self, rows: Int[np.ndarray, "B"]) -> tuple[Tensor, ...]:
        """(codes (B, g, g), context (B, z))."""
        with torch.no_grad():
            context = self.lookup(_take(self.codes, self.first[rows]))
        return _take(self.codes, rows).view(-1, self.side, self.side), context
