"""How good a latent model is: numbers on pictures it was not trained on. Ground truth enters here and nowhere in training."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.stats import rankdata
from torch import Tensor

from vision.likelihoods import Gaussian, bits_per_dim
from vision.protocols import LatentModel

RIDGE = 1e-3  # of the probe, in standardised units and per picture
CHUNK = 256  # pictures encoded at once
COMPARED = 100  # pictures of one trajectory whose distances are compared, evenly spaced


def thin(rows: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " m"]:
    """At most `most` of the rows, evenly spaced."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]


def device_of(model: LatentModel) -> torch.device:
    """Where the model's weights lie."""
    return next(model.parameters()).device  # type: ignore[attr-defined, no-any-return]


@torch.no_grad()
def encode_all(
    model: LatentModel, images: UInt8[np.ndarray, "N H W 3"], context: UInt8[np.ndarray, "N H W 3"] | None = None
) -> Float[np.ndarray, "N z"]:
    """The latent of every picture, float32, encoded in chunks on the model's device."""
    device, parts = device_of(model), []
    for i in range(0, len(images), CHUNK):
        given = None if context is None else torch.from_numpy(context[i : i + CHUNK]).to(device)
        parts.append(model.encode(torch.from_numpy(images[i : i + CHUNK]).to(device), given).float().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def decode_all(
    model: LatentModel, z: Float[np.ndarray, "N z"], context: UInt8[np.ndarray, "N H W 3"] | None = None
) -> Float[np.ndarray, "N H W 3"]:
    """The picture of every latent, in [0, 1]."""
    device, parts = device_of(model), []
    for i in range(0, len(z), CHUNK):
        given = None if context is None else torch.from_numpy(context[i : i + CHUNK]).to(device)
        drawn = model.decode(torch.from_numpy(z[i : i + CHUNK]).to(device), given)
        parts.append(drawn.float().cpu().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def psnr(images: UInt8[np.ndarray, "N H W 3"], drawn: Float[np.ndarray, "N H W 3"]) -> float:
    """Peak signal-to-noise ratio in dB, of the mean squared error over all pictures."""
    return float(-10 * np.log10(max(float(np.square(images / np.float32(255) - drawn).mean()), 1e-12)))


@torch.no_grad()
def bound(
    model: LatentModel, images: UInt8[np.ndarray, "N H W 3"], context: UInt8[np.ndarray, "N H W 3"] | None, seed: int = 0
) -> dict[str, float]:
    """`elbo_per_dim`, nats an intensity, and for a Gaussian likelihood `bits_per_dim`; empty for models without a bound."""
    if not hasattr(model, "elbo"):
        return {}
    device, total = device_of(model), 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for i in range(0, len(images), CHUNK):
            given = None if context is None else torch.from_numpy(context[i : i + CHUNK]).to(device)
            total += float(model.elbo(torch.from_numpy(images[i : i + CHUNK]).to(device), given).double().sum())
    dims = int(np.prod(images.shape[1:]))
    mean = total / len(images)
    numbers = {"elbo_per_dim": mean / dims}
    if isinstance(getattr(model, "likelihood", None), Gaussian):  # a Bernoulli's is no density over intensities
        numbers["bits_per_dim"] = bits_per_dim(mean, dims)
    return numbers


def codebook_use(codes: Int[Tensor, "N *cells"], size: int) -> tuple[float, float, np.ndarray]:
    """(perplexity of the codes' frequencies, share of the codebook that occurs at all, frequencies (size,))."""
    counts = np.bincount(codes.cpu().numpy().reshape(-1).astype(np.int64), minlength=size)
    share = counts / counts.sum()
    used = share[share > 0]
    return float(np.exp(-(used * np.log(used)).sum())), float((counts > 0).mean()), share


def probe(
    z: Float[np.ndarray, "N z"], state: Float[np.ndarray, "N s"], z_new: Float[np.ndarray, "M z"], state_new: Float[np.ndarray, "M s"]
) -> Float[np.ndarray, " s"]:
    """R² on new pictures of a ridge regression from latent to each number of the state; 1 is perfect, 0 no better than the mean. Numbers
    of the state that do not vary give NaN.

    Latents wider than there are pictures are handled by the ridge.
    """
    mean, spread = z.mean(0), z.std(0) + 1e-6
    inputs, inputs_new = (((x - mean) / spread).astype(np.float64) for x in (z, z_new))
    s_mean = state.mean(0)
    gram = inputs.T @ inputs + RIDGE * len(inputs) * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ (state - s_mean))
    residual = np.square(state_new - s_mean - inputs_new @ weights).sum(0)
    variance = np.square(state_new - state_new.mean(0)).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 1e-12 * len(state_new), 1 - residual / variance, np.nan)


def rank_correlation(
    z: Float[np.ndarray, "N z"], state: Float[np.ndarray, "N s"], start: Int[np.ndarray, " E"], end: Int[np.ndarray, " E"]
) -> float:
    """Spearman's correlation of latent distance with true distance, over all pairs of pictures of one trajectory, averaged over the
    trajectories in which anything moved: what a goal reward needs. NaN where nothing moved in any.

    `start` and `end` are rows of `z` and `state` [start[e], end[e]).
    """
    found = []
    for a, b in zip(start, end, strict=True):
        rows = thin(np.arange(a, b), COMPARED)
        i, j = np.triu_indices(len(rows), 1)
        true = np.linalg.norm(state[rows[i]] - state[rows[j]], axis=1)
        latent = np.linalg.norm(z[rows[i]] - z[rows[j]], axis=1)
        if len(i) > 2 and np.ptp(true) > 1e-6:
            ranks = np.stack([rankdata(true), rankdata(latent)]) if np.ptp(latent) > 0 else None
            found.append(0.0 if ranks is None else float(np.corrcoef(ranks)[0, 1]))
    return float(np.mean(found)) if found else float("nan")


@dataclass(frozen=True)
class Kept:
    """What samples kept of their scene, errors in 8-bit intensity levels, 0 to 255."""

    color_error: float
    background_error: float
    variety: float


def scene_errors(
    samples: UInt8[np.ndarray, "n H W 3"],
    context: UInt8[np.ndarray, "H W 3"],
    things: Bool[np.ndarray, "T H W"],
    background: Bool[np.ndarray, "H W"],
) -> Kept:
    """How far samples of one scene are from its first picture, in colours and in what cannot move.

    Object colour error: of each thing's colour (the mean over its pixels in the context) the root mean squared distance of those pixels of
    the sample that are nearest to it in colour, half as many as the thing has in the context. It does not matter where the thing stands; a sample
    that lost it, or gave it another colour, is far. Background error: mean absolute difference over the background's pixels. Variety: mean
    absolute difference over the other pixels, where things move: 0 for a copy of the first picture, which has no errors either.
    """
    drawn, seen = samples.astype(np.float64), context.astype(np.float64)
    pixels = drawn.reshape(len(drawn), -1, 3)
    errors = []
    for mask in things:
        count = int(mask.sum()) // 2
        if count == 0:
            continue
        squares = np.square(pixels - seen[mask].mean(0)).mean(-1)  # (n, H * W)
        errors.append(np.sqrt(np.partition(squares, count - 1, axis=1)[:, :count].mean(1)))
    color = float(np.mean(errors)) if errors else float("nan")
    difference = np.abs(drawn - seen)
    return Kept(color, float(difference[:, background].mean()), float(difference[:, ~background].mean()))
