"""What `train`, `compare` and the experiments say of a latent model: every number on trajectories (or pictures) kept from training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from envs.masks import SceneMasks, scene_masks
from envs.render import RenderError
from vision.encoding import encode_dataset
from vision.images import to_uint8
from vision.judge import (
    bound,
    codebook_use,
    decode_all,
    device_of,
    encode_all,
    probe,
    psnr,
    rank_correlation,
    scene_errors,
    thin,
)  # fmt: skip
from vision.pictures import Pictures
from vision.protocols import CodeModel, LatentModel

MOST = 2048  # pictures on which PSNR and the bound are measured
PROBED = 6000  # pictures a probe is fitted on
TRAJECTORIES = 100  # in which distances are compared
SCENES, DRAWS = 40, 8  # scenes whose samples are judged, and samples of each


@dataclass(frozen=True)
class Judged:
    """Rows of pictures to judge on, chosen once so that all models see the same."""

    rows: np.ndarray  # evenly spaced rows kept for validation
    fitted: np.ndarray  # rows of the training trajectories, for probes
    episodes: np.ndarray  # whole trajectories kept for validation


def choose(pictures: Pictures, train: np.ndarray, kept: np.ndarray) -> Judged:
    """What is judged: rows and trajectories of the validation part `kept` (all rows, sorted)."""
    episodes = np.flatnonzero(np.isin(pictures.start, kept))
    return Judged(thin(kept, MOST), thin(train, PROBED), thin(episodes, TRAJECTORIES))


def pictures_at(pictures: Pictures, rows: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) uint8 in memory, read in the order in which they lie."""
    order = np.argsort(rows, kind="stable")
    out = np.empty((len(rows), *pictures.image.shape[1:]), np.uint8)
    out[order] = pictures.image[rows[order]]
    return out


def contexts_at(pictures: Pictures, rows: np.ndarray) -> np.ndarray | None:
    """The first picture of each row's trajectory; None for loose pictures."""
    first = pictures.first
    return None if first is None else pictures_at(pictures, first[rows])


def task_state(pictures: Pictures) -> np.ndarray:
    """The state a goal is about (N, s): of our own scenes without the hand, which pictures hardly show."""
    return pictures.state[:, 2:] if pictures.meta.get("family") in ("tabletop", "gate") else pictures.state


def masks_of(pictures: Pictures, episode: int) -> SceneMasks | None:
    """What the first picture of a trajectory of our own scenes shows; None elsewhere."""
    if pictures.meta.get("family") != "tabletop":
        return None
    row = pictures.start[episode]
    name = f"{pictures.meta['split']}/{int(pictures.scene[episode])}"
    return scene_masks(name, np.asarray(pictures.state[row]), pictures.image.shape[1], tuple(pictures.meta["kinds"]))


@torch.no_grad()
def sampled(model: LatentModel, n: int, context: np.ndarray | None, seed: int) -> np.ndarray:
    """n sampled pictures (n, H, W, 3) uint8, of the scene whose first picture (H, W, 3) is given."""
    device = device_of(model)
    given = None if context is None else torch.from_numpy(np.array(context)[None]).to(device)
    z = model.sample(n, given, generator=torch.Generator(device).manual_seed(seed))
    return to_uint8(model.decode(z, given)).cpu().numpy()


def can_sample(model: LatentModel) -> bool:
    """Whether there is a prior to sample from."""
    return getattr(model, "sampler", True) is not None


def judge(model: LatentModel, pictures: Pictures, judged: Judged, seed: int = 0) -> dict[str, float]:
    """Every number that this model and these pictures allow; see docs/models.md for what each means."""
    images, context = pictures_at(pictures, judged.rows), contexts_at(pictures, judged.rows)
    drawn = decode_all(model, encode_all(model, images, context), context)
    numbers: dict[str, float] = {"psnr": psnr(images, drawn), **bound(model, images, context, seed)}
    if isinstance(model, CodeModel):
        numbers["perplexity"], numbers["codes_used"], _ = codebook_use(torch.from_numpy(encode_dataset(model, images)), int(model.code_vectors.shape[0]))
    numbers |= of_state(lambda i, c: encode_all(model, i, c), pictures, judged)
    return numbers | judge_samples(model, pictures, judged, seed)


def judge_samples(model: LatentModel, pictures: Pictures, judged: Judged, seed: int = 0) -> dict[str, float]:
    """The numbers of what the model imagines, where it can."""
    if not can_sample(model):
        return {}
    return of_samples(lambda episode, first: sampled(model, DRAWS, first, seed + 1000 * episode), pictures, judged)


def of_state(encode: Any, pictures: Pictures, judged: Judged) -> dict[str, float]:
    """`probe_r2` (mean over the task's numbers) and `rank_correlation`, where the state is known. `encode(images, context)` -> (n, z)."""
    state = task_state(pictures)
    if not pictures.trajectories or not state.shape[1]:
        return {}

    def latents(rows: np.ndarray) -> np.ndarray:
        return np.asarray(encode(pictures_at(pictures, rows), contexts_at(pictures, rows)))

    r2 = probe(latents(judged.fitted), state[judged.fitted], latents(judged.rows), state[judged.rows])
    numbers = {"probe_r2": float(np.nanmean(r2))} if np.isfinite(r2).any() else {}
    rows = np.concatenate([np.arange(pictures.start[e], pictures.end[e]) for e in judged.episodes])
    lengths = pictures.end[judged.episodes] - pictures.start[judged.episodes]
    end = np.cumsum(lengths)
    rank = rank_correlation(latents(rows), np.asarray(state[rows]), end - lengths, end)
    return numbers | ({"rank_correlation": rank} if np.isfinite(rank) else {})


def of_samples(draw: Any, pictures: Pictures, judged: Judged) -> dict[str, float]:
    """`color_error`, `background_error` and `variety` of samples in scenes kept from training, 0 to 255; our own scenes only, whose masks
    are known, and where there is a renderer. `draw(episode, first picture)` -> (n, H, W, 3) uint8."""
    kept = []
    for episode in thin(judged.episodes, SCENES):
        try:
            masks = masks_of(pictures, int(episode))
        except RenderError as error:
            print(f"judge: what samples keep of their scene is not measured: {error}")
            return {}
        if masks is None:
            return {}
        first = np.array(pictures.image[pictures.start[episode]])
        kept.append(scene_errors(draw(int(episode), first), first, masks.things, masks.background))
    return {
        "color_error": float(np.nanmean([k.color_error for k in kept])),
        "background_error": float(np.mean([k.background_error for k in kept])),
        "variety": float(np.mean([k.variety for k in kept])),
    }


def references(pictures: Pictures, judged: Judged, seed: int = 0) -> dict[str, dict[str, float]]:
    """The same numbers of what no model drew: `pixels` (distances of raw pictures), `same_scene`, `other_scenes` and
    `first_picture` (real frames in place of samples; the last is a copy of the context)."""
    rng = np.random.default_rng(seed)

    def later(episode: int, first: np.ndarray) -> np.ndarray:
        return pictures_at(pictures, rng.integers(pictures.start[episode], pictures.end[episode], DRAWS))

    def elsewhere(episode: int, first: np.ndarray) -> np.ndarray:
        others = rng.choice(judged.episodes[judged.episodes != episode], DRAWS)
        return pictures_at(pictures, pictures.end[others] - 1)

    def pixels(images: np.ndarray, context: np.ndarray | None) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / 255

    found = {"pixels": of_state(pixels, pictures, Judged(judged.rows, thin(judged.fitted, 2000), judged.episodes))}
    if len(judged.episodes) > 1:
        copies = of_samples(lambda episode, first: first[None], pictures, judged)
        found |= {"same_scene": of_samples(later, pictures, judged), "first_picture": copies, "other_scenes": of_samples(elsewhere, pictures, judged)}
    return {name: numbers for name, numbers in found.items() if numbers}
