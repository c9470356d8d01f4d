"""How a generator says which latent it means: numbers, or codes of the vision model's codebook.

Shapes: B batch, z flat latent = c * h * w numbers ("c h w" order), K codes.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

if TYPE_CHECKING:
    from planning.generator import SubgoalCVAEConfig

WORDS = 16  # numbers from which the logits of a cell's codes are made
CACHED, AT_ONCE = 16, 1024  # grids whose logits are compared at once: on a CPU, while they are in the cache; on a GPU
Metrics = dict[str, Float[Tensor, ""]]


class NumbersHead(nn.Module):
    """The change of the latent, in units of `latent_scale`; error by SmoothL1 (PTP's released code).

    Means of several outcomes are neither of them: where latents are codes, `CodesHead` is the sharper.
    """

    def __init__(self, config: "SubgoalCVAEConfig", codebook: Tensor | None = None):
        super().__init__()
        self.channels, self.scale, self.weight = config.latent_shape[0], config.latent_scale, config.reconstruction_weight

    def forward(self, out: Float[Tensor, "B c h w"], base: Float[Tensor, "B z"] | None) -> Float[Tensor, "B z"]:
        """The latent meant; `base` is what changes, None where nothing does."""
        change = self.scale * out.flatten(1)
        return change if base is None else base + change

    def loss(self, out: Float[Tensor, "B c h w"], base: Float[Tensor, "B z"] | None, target: Float[Tensor, "B z"]) -> tuple[Float[Tensor, ""], Float[Tensor, "B z"], Metrics]:
        """The weighted error, the latent meant, and metrics."""
        predicted = self(out, base)
        error = F.smooth_l1_loss(predicted / self.scale, target / self.scale)
        return self.weight * error, predicted, {"reconstruction": error}


class CodesHead(nn.Module):
    """A distribution over the codes of every cell, with a logit for staying as it is; error by cross entropy, in nats a grid. Means the likeliest codes.

    Args: codebook (K, c): the vision model's. Raises ValueError without one.
    """

    codebook: Tensor

    def __init__(self, config: "SubgoalCVAEConfig", codebook: Float[Tensor, "K c"] | None = None):
        super().__init__()
        if codebook is None:
            raise ValueError("likelihood='codes' needs the vision model's codebook")
        self.channels = WORDS + 1
        self.words = nn.Linear(WORDS, len(codebook))
        self.register_buffer("codebook", codebook.detach().clone())

    def forward(self, out: Float[Tensor, "B e h w"], base: Float[Tensor, "B z"] | None) -> Float[Tensor, "B z"]:
        """The latent meant, on the codebook; `base` is what may stay, None where nothing does."""
        size = CACHED if out.device.type == "cpu" else AT_ONCE
        found = [likeliest(self.logits(out[i : i + size], None if base is None else base[i : i + size])) for i in range(0, len(out), size)]
        return self.latents(torch.cat(found) if found else out.new_zeros(0, out.shape[2] * out.shape[3], dtype=torch.int64))

    def loss(self, out: Float[Tensor, "B e h w"], base: Float[Tensor, "B z"] | None, target: Float[Tensor, "B z"]) -> tuple[Float[Tensor, ""], Float[Tensor, "B z"], Metrics]:
        """Minus the log likelihood of the target's codes, summed over cells and averaged over the batch; the latent meant; metrics."""
        logits = self.logits(out, base)
        nats = F.cross_entropy(logits.flatten(0, 1), self.codes(target).flatten(), reduction="sum") / len(target)
        return nats, self.latents(likeliest(logits.detach())), {"reconstruction": nats}

    def logits(self, out: Float[Tensor, "B e h w"], base: Float[Tensor, "B z"] | None) -> Float[Tensor, "B n K"]:
        """Of every cell's codes, float32."""
        rows = rearrange(out, "b e h w -> b (h w) e").float()
        with torch.autocast(out.device.type, enabled=False):
            logits = self.words(rows[..., :WORDS])
        return logits if base is None else logits.scatter_add_(2, self.codes(base)[..., None], rows[..., WORDS:])

    def codes(self, z: Float[Tensor, "B z"]) -> Int[Tensor, "B n"]:
        """The nearest codes of every cell; found by their first number where the latents are on the codebook, which is several times as fast on a CPU."""
        cells = rearrange(z, "b (c n) -> b n c", c=self.codebook.shape[1]).float()
        first, order = self.codebook[:, 0].sort()
        found = order[torch.searchsorted(first, cells[..., 0].contiguous()).clamp_max(len(order) - 1)]
        there = (F.embedding(found, self.codebook) == cells).all(-1)
        if z.device.type == "cpu" and there.all():  # a GPU would have to be waited for
            return found
        return torch.where(there, found, (self.codebook.square().sum(1) - 2 * cells @ self.codebook.T).argmin(-1))

    def latents(self, codes: Int[Tensor, "B n"]) -> Float[Tensor, "B z"]:
        """Flat latents of codes."""
        return rearrange(F.embedding(codes, self.codebook), "b n c -> b (c n)")


def likeliest(logits: Float[Tensor, "*b k"]) -> Int[Tensor, "*b"]:
    """argmax over the last axis of float32 logits, the first of equals, by operations that a CPU does on many numbers at once; torch's own takes three times as long."""
    k = logits.shape[-1]
    order = torch.arange(k, 0, -1, dtype=torch.int32, device=logits.device)
    below = (logits - logits.amax(-1, keepdim=True)).view(torch.int32).bitwise_right_shift_(31)  # the sign: -1, and 0 of the largest
    return (k - below.bitwise_or_(order).amax(-1)).clamp_max_(k - 1).long()


HEADS = {"smooth_l1": NumbersHead, "codes": CodesHead}
