"""Where training batches come from: rows of columns, chosen by index."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vision.protocols import CodeModel


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
    trajectory, as the context. `rows` (M,) says which may be drawn (all by default). Raises ValueError for other types or shapes."""

    def __init__(self, images: Any, first: Int[np.ndarray, "N"] | None = None, rows: Int[np.ndarray, "M"] | None = None) -> None:
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype not in (np.uint8, torch.uint8):
            raise ValueError(f"ImageData: needs uint8 (N, H, W, 3), got {images.dtype} {tuple(images.shape)}")
        if first is not None and len(first) != len(images):
            raise ValueError(f"ImageData: {len(images)} images but {len(first)} first rows")
        self.images, self.first = images, first
        self.rows = np.arange(len(images)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Int[np.ndarray, "B"]) -> tuple[Tensor, ...]:
        """(images,) or (images, context), uint8 (B, H, W, 3)."""
        chosen = self.rows[rows]
        images = _take(self.images, chosen)
        return (images,) if self.first is None else (images, _take(self.images, np.asarray(self.first)[chosen]))


def later_rows(start: Int[np.ndarray, "E"], end: Int[np.ndarray, "E"], after: float) -> Int[np.ndarray, "M"]:
    """The rows in the last 1 - `after` of each episode of rows [start[e], end[e]), its last row always among them.

    Raises ValueError unless `after` lies in [0, 1].
    """
    if not 0 <= after <= 1:
        raise ValueError(f"later_rows: after={after} must lie in [0, 1]")
    return np.concatenate([np.arange(b - 1 - int((1 - after) * (b - 1 - a)), b) for a, b in zip(start, end, strict=True)])


def jitter(
    images: UInt8[np.ndarray, "B k H W 3"], strength: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "B k H W 3"]:
    """Other scenes made of these: the k pictures of each scene change alike, by an order of the colour channels, by left and
    right changed or not, and by a gain of each channel, exp(normal * strength)."""
    b = len(images)
    order = rng.permuted(np.tile(np.arange(3), (b, 1)), axis=1)
    out = np.take_along_axis(images, order[:, None, None, None], -1)
    mirrored = rng.random(b) < 0.5
    out[mirrored] = out[mirrored][:, :, :, ::-1]
    gain = np.exp(strength * rng.standard_normal((b, 1, 1, 1, 3))).astype(np.float32)
    return np.minimum(out * gain, 255).astype(np.uint8)


class CodePairs:
    """Pairs (any frame t | frame 0 of the same trajectory) for a prior: the codes of t, the latent of frame 0 (errata).

    `codes` is (N, g * g) of any integer type, `first` (N,) the row of each one's frame 0 (see `first_rows`), `lookup`
    turns codes into flat latents (`VQVAE.lookup`), on the device of the codes; `rows` (M,) which may be drawn (all by default).
    """

    def __init__(
        self,
        codes: Int[Tensor, "N cells"],
        first: Int[np.ndarray, "N"],
        lookup: Callable[[Int[Tensor, "B cells"]], Float[Tensor, "B z"]],
        rows: Int[np.ndarray, "M"] | None = None,
    ) -> None:
        side = int(codes.shape[1] ** 0.5)
        if len(first) != len(codes) or side * side != codes.shape[1]:
            raise ValueError(f"CodePairs: codes {tuple(codes.shape)} must be (N, g*g) and first {first.shape} (N,)")
        self.codes, self.first, self.lookup, self.side = codes, np.asarray(first), lookup, side
        self.rows = np.arange(len(codes)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Int[np.ndarray, "B"]) -> tuple[Tensor, ...]:
        """(codes (B, g, g), context (B, z))."""
        chosen = self.rows[rows]
        with torch.no_grad():
            context = self.lookup(_take(self.codes, self.first[chosen]))
        return _take(self.codes, chosen).view(-1, self.side, self.side), context


class JitteredPairs:
    """As `CodePairs`, but the two pictures of a pair are jittered alike (see `jitter`) before they are encoded: a prior that
    sees few scenes else knows their colours by heart (VAL jitters alike too).

    `images` is uint8 (N, H, W, 3), `rows` (M,) which of them may be drawn. The jitter is a function of the rows asked for, so
    the same batch asked for again, as when a run resumes, is the same.
    """

    def __init__(
        self,
        images: Any,
        first: Int[np.ndarray, "N"],
        model: CodeModel,
        strength: float,
        rows: Int[np.ndarray, "M"],
    ) -> None:
        if len(first) != len(images):
            raise ValueError(f"JitteredPairs: {len(images)} images but {len(first)} first rows")
        self.images, self.first, self.model, self.strength, self.rows = images, first, model, strength, rows

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def batch(self, rows: Int[np.ndarray, "B"]) -> tuple[Tensor, ...]:
        """(codes (B, g, g), context (B, z))."""
        chosen = self.rows[rows]
        pairs = np.asarray(self.images[np.stack([self.first[chosen], chosen], 1)])
        jittered = torch.from_numpy(jitter(pairs, self.strength, np.random.default_rng(rows)))
        codes = self.model.codes(jittered.flatten(0, 1).to(self.model.code_vectors.device)).unflatten(0, (-1, 2))
        return codes[:, 1], self.model.lookup(codes[:, 0])
