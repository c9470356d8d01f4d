"""Whether a goal picture is like anything a policy has seen: how far its latent is from the nearest one known, and how well the model can draw it, beside what is usual."""

import numpy as np
import torch
from torch import Tensor

COMPARED = 2000  # pictures that a goal is compared with
BEYOND = 0.99  # share of the known pictures that what is usual covers
TIMES = 1.5  # what is usual, from which a goal is called strange
Found = dict[str, tuple[float, float]]  # name -> (of the goal, what is usual)


def latent_strangeness(own: Tensor, data: Tensor, episode: Tensor) -> tuple[float, float]:
    """Distance of a latent (1, z) to the nearest of data (n, z), and what `BEYOND` of those have to the nearest of another episode (n,)."""
    between = torch.cdist(data, data)
    between[episode[:, None] == episode[None]] = torch.inf
    usual = between.min(1).values
    usual = usual[usual.isfinite()]
    return float(torch.cdist(own, data).min()), float(usual.quantile(BEYOND)) if len(usual) else float("inf")


def drawing_strangeness(drawn: np.ndarray, goal: np.ndarray, rebuilt: np.ndarray, pictures: np.ndarray) -> tuple[float, float]:
    """Mean error of a goal's reconstruction (H, W, 3) in 8-bit levels, and what `BEYOND` of the known pictures (n, H, W, 3) have."""
    errors = np.abs(rebuilt.astype(np.float32) - pictures).mean((1, 2, 3))
    return float(np.abs(drawn.astype(float) - goal).mean()), float(np.quantile(errors, BEYOND))


def warning(found: Found, name: str = "goal") -> str:
    """What to say of a picture, `name`, that is like nothing known; empty where it is like something."""
    says = {"latent": "its latent is {:.2f} from the nearest one known (usual: up to {:.2f})", "rebuilt": "the model rebuilds it with an error of {:.1f} levels (usual: up to {:.1f})"}
    far = [says[name].format(*pair) for name, pair in found.items() if pair[0] > TIMES * pair[1]]
    return f"warning: this {name} picture is unlike what the policy has seen: {'; '.join(far)}. It may be of another world or camera." if far else ""
