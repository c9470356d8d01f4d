"""How good imagined goals of a desk are, by a probe that reads pictures: whether a picture shows the scene it was imagined for, and a state that can be there and
is another than the scene's present one (thesis ch. 9; seed 003). For judging only: the probe is taught by the simulator's states, and nothing that learns sees it.

What is judged are a probe's readings, so the probe's own errors count against every model alike: judge true pictures of the scene, and of other scenes, beside
what was imagined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from envs.desk import DeskBatch
from envs.desk_scenes import SLOTS, DeskScene, sample_desk
from envs.desk_simulation import BUTTON_DRAWER, DRAWER, HELD, OBJECT, TABLE
from imagoal.disk import write_atomic
from imagoal.progress import progress
from vision.images import to_float

MIDDLE, SPREAD = np.array([0.7, 0.0, TABLE]), np.array([0.15, 0.15, 0.1])  # metres, of where the object may be
CHANGED_DRAWER, CHANGED_OBJECT = 0.35, 0.06  # of a drawer's way, and metres, from which a state is another
SAME_COLOR = 0.3  # distance of RGB in [0, 1]
# What the probe reads, a column each: which elements are there (4), y of the first three, colours (12), drawer, button's drawer, object x, y, z, held
THERE, Y, COLORS, STATE = slice(0, 4), slice(4, 7), slice(7, 19), slice(19, 25)
READ = 25
FIXED = 3  # elements that stand still: drawers and tray


def scene_targets(scene: DeskScene) -> tuple[np.ndarray, np.ndarray]:
    """The scene's part of what the probe reads (19,), and which of it means something (19,)."""
    elements = (scene.drawer, scene.button_drawer, scene.tray)
    there = np.array([*(e is not None for e in elements), scene.shape >= 0], np.float32)
    y = [e.y / SLOTS[2] if e else 0.0 for e in elements]
    colors = [*(e.color if e else (0.0, 0.0, 0.0) for e in elements), scene.color if scene.shape >= 0 else (0.0, 0.0, 0.0)]
    return np.concatenate([there, y, np.ravel(colors)]).astype(np.float32), np.concatenate([np.ones(4), there[:3], np.repeat(there, 3)]).astype(np.float32)


def targets(split: str, scenes: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What there is to read in pictures of states (N, STATE) of scenes `split`/scenes[i], and which of it means something: (N, READ) each, float32."""
    known = {int(n): scene_targets(sample_desk(f"{split}/{n}")) for n in np.unique(scenes)}
    value, weight = (np.stack([known[int(n)][i] for n in scenes]) for i in range(2))
    states = np.asarray(states)
    place = (states[:, OBJECT] - MIDDLE) / SPREAD
    state = np.concatenate([states[:, [DRAWER, BUTTON_DRAWER]], place, states[:, HELD : HELD + 1]], 1)
    of_state = np.concatenate([value[:, :2], np.repeat(value[:, 3:4], 4, 1)], 1)
    return np.concatenate([value, state], 1).astype(np.float32), np.concatenate([weight, of_state], 1).astype(np.float32)


class Probe(nn.Module):
    """A small ConvNet from pictures of 48 pixels to what is to read in them."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        c = channels
        self.layers = nn.Sequential(
            nn.Conv2d(5, c, 5, 2, 2), nn.ReLU(), nn.Conv2d(c, 2 * c, 3, 2, 1), nn.ReLU(), nn.Conv2d(2 * c, 2 * c, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(2 * c * 36, 256), nn.ReLU(), nn.Linear(256, READ),
        )  # fmt: skip
        line = torch.linspace(-1, 1, 48)
        self.register_buffer("where", torch.stack(torch.meshgrid(line, line, indexing="ij"))[None])

    def forward(self, images: Tensor) -> Tensor:
        """Readings (B, READ) of pictures (B, 48, 48, 3) uint8."""
        return self.of_floats(to_float(images))

    def of_floats(self, x: Tensor) -> Tensor:
        """Readings of pictures (B, 3, 48, 48) in [0, 1]."""
        return self.layers(torch.cat([x, self.where.expand(len(x), -1, -1, -1)], 1))  # type: ignore[no-any-return, operator]


def softened(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, H, W) as decoders draw them: half of them blurred, all with noise. Of sharp ones alone a probe learns edges, and misreads true goals that went
    through a VQ-VAE in three of four cases."""
    blurred = F.interpolate(F.avg_pool2d(x, 2), x.shape[2:], mode="bilinear", align_corners=False)
    half = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
    return torch.where(half, blurred, x) + 0.04 * torch.randn(x.shape, generator=generator, device=x.device)


def fit_probe(images: np.ndarray, value: np.ndarray, weight: np.ndarray, steps: int, seed: int, device: torch.device, batch: int = 128) -> Probe:
    """A probe taught by pictures (N, 48, 48, 3) uint8 and what there is to read in them (N, READ)."""
    torch.manual_seed(seed)
    probe = Probe().to(device)
    optimizer = torch.optim.Adam(probe.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng, generator = np.random.default_rng([seed, 31]), torch.Generator(device).manual_seed(seed)
    with progress("probe", steps) as bar:
        for _ in range(steps):
            rows = np.sort(rng.integers(len(images), size=batch))
            seen, aim, counts = (torch.from_numpy(np.ascontiguousarray(a[rows])).to(device) for a in (images, value, weight))
            loss = (counts * F.smooth_l1_loss(probe.of_floats(softened(to_float(seen), generator)), aim, reduction="none", beta=0.1)).sum() / counts.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.advance(1)
    return probe.eval()


def shown(scenes: int, size: int, split: str = "train") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a probe is taught by: four starts and two outcomes of experts in each of the split's first `scenes` scenes, the arm away from them as in goals. Pictures
    (N, size, size, 3) uint8, the scenes' numbers (N,), states (N, STATE). Rendered for it, because data for learning has too few scenes to read new ones by."""
    images, numbers, states = [], [], []
    with progress("probe pictures", scenes) as bar:
        for n in range(scenes):
            world = DeskBatch(f"{split}/{n}", 0, size)
            here = world.starts(np.arange(4))
            try:
                here = np.concatenate([here, *world.sample(np.arange(2))])
            except ValueError:  # one of the few scenes in which no expert gets anything done
                pass
            images.append(world.picture(here))
            states.append(here)
            numbers.append(np.full(len(here), n))
            world.close()
            bar.advance(1)
    return np.concatenate(images), np.concatenate(numbers), np.concatenate(states)


def taught_probe(path: Path, scenes: int, size: int, steps: int, device: torch.device) -> Probe:
    """The probe at `path`, or one taught by `shown` pictures of so many scenes and kept there."""
    if path.is_file():
        probe = Probe()
        probe.load_state_dict(load_file(path))
        return probe.to(device).eval()
    images, numbers, states = shown(scenes, size)
    probe = fit_probe(images, *targets("train", numbers, states), steps, 0, device)
    write_atomic(path, save({name: value.cpu().contiguous() for name, value in probe.state_dict().items()}))
    return probe


@torch.no_grad()
def read(probe: Probe, images: np.ndarray) -> np.ndarray:
    """Readings (N, READ) of pictures."""
    device = next(probe.parameters()).device
    parts = [probe(torch.from_numpy(np.ascontiguousarray(images[i : i + 512])).to(device)).cpu().numpy() for i in range(0, len(images), 512)]
    return np.concatenate(parts)


def shows_scene(found: np.ndarray, name: str) -> np.ndarray:
    """Whether readings (N, READ) are of this scene: the same drawers and tray, each in its place and of its colour. (N,) bool. The object does not count: it is a
    few pixels, or hidden, and of true pictures the probe misreads its colour as often as not (docs/val.md)."""
    value, _ = scene_targets(sample_desk(name))
    there = value[THERE][:FIXED] > 0.5
    same = ((found[:, THERE][:, :FIXED] > 0.5) == there).all(1)
    same &= ((np.abs(found[:, Y] - value[Y]) < 0.5) | ~there).all(1)
    away = np.linalg.norm((found[:, COLORS] - value[COLORS]).reshape(-1, 4, 3), axis=2)[:, :FIXED]
    return np.asarray(same & ((away < SAME_COLOR) | ~there).all(1))


def changes(found: np.ndarray, name: str, first: np.ndarray) -> dict[str, np.ndarray]:
    """What differs in readings (N, READ) of this scene from first pictures' readings (READ,) or (N, READ), (N,) bool each: `drawer`, `button_drawer`, `object`
    (moved, or lifted)."""
    there = scene_targets(sample_desk(name))[0][THERE] > 0.5
    state, before = found[:, STATE], first[..., STATE]
    moved = np.linalg.norm((state[:, 2:5] - before[..., 2:5]) * SPREAD, axis=1) > CHANGED_OBJECT
    return {
        "drawer": (np.abs(state[:, 0] - before[..., 0]) > CHANGED_DRAWER) & there[0],
        "button_drawer": (np.abs(state[:, 1] - before[..., 1]) > CHANGED_DRAWER) & there[1],
        "object": (moved | ((state[:, 5] > 0.5) != (before[..., 5] > 0.5))) & there[3],
    }


@dataclass
class Affordances:
    """What was imagined for some scenes: shares of samples that show their own scene; that show it and another state than the present one; mean number of
    different kinds of change among the samples of a scene; each kind's share."""

    coherent: float
    affords: float
    kinds: float
    shares: dict[str, float]


def judge_samples(probe: Probe, names: Sequence[str], firsts: np.ndarray, samples: np.ndarray) -> Affordances:
    """Of samples (S, K, 48, 48, 3) for S scenes and the first pictures they were imagined from, one of each scene (S, 48, 48, 3) or of each sample (S, K, 48, 48, 3)."""
    coherent, affords, kinds = [], [], []
    shares: dict[str, list[float]] = {}
    for name, first, drawn in zip(names, firsts, samples, strict=True):
        found, before = read(probe, drawn), read(probe, first if first.ndim == 4 else first[None])
        same = shows_scene(found, name)
        of = {kind: same & changed for kind, changed in changes(found, name, before).items()}
        coherent.append(same.mean())
        affords.append(np.any(list(of.values()), axis=0).mean())
        kinds.append(sum(bool(changed.any()) for changed in of.values()))
        for kind, changed in of.items():
            shares.setdefault(kind, []).append(float(changed.mean()))
    return Affordances(float(np.mean(coherent)), float(np.mean(affords)), float(np.mean(kinds)), {kind: float(np.mean(v)) for kind, v in shares.items()})
