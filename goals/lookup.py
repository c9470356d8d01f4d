"""From code indices to latents, fast enough for a replay.

A lookup is any callable (codes (B, cells) int64) -> latent (B, z) float32, such as `VQVAE.lookup`. One that also has
`into(codes, out)` writes straight into a batch's memory; `CodebookLookup` is that one.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

Lookup = Callable[[Tensor], Tensor]


class CodebookLookup:
    """Flattened quantised latents, "(c h w)" order, from a frozen copy of a codebook.

    Args: codebook (K, c) code vectors. The latent of `cells` codes has z = c * cells numbers, channel first, as the
    VQ-VAE flattens its grid. The copy is frozen: make a new lookup when the codebook has moved. Every channel is gathered
    straight into its place.
    """

    def __init__(self, codebook: Float[Tensor, "K c"]):
        self.channels = codebook.detach().float().T.contiguous().clone()  # (c, K)

    def __call__(self, codes: Int[Tensor, "B cells"]) -> Float[Tensor, "B z"]:
        """Latents of a batch of code grids."""
        out = torch.empty(codes.shape[0], codes.shape[1] * len(self.channels), device=self.channels.device)
        self.into(codes, out)
        return out

    def into(self, codes: Int[Tensor, "B cells"], out: Float[Tensor, "B z"]) -> None:
        """Write the latents into `out`, which may be a column slice of a wider tensor."""
        size, c = len(codes), len(self.channels)
        places = codes.long()[:, None].expand(size, c, -1)
        torch.gather(self.channels.expand(size, -1, -1), 2, places, out=out.unflatten(1, (c, -1)))


class PictureLookup:
    """Pictures as latents, for learning from pixels: uint8 intensities, flattened, to float in [0, 1].

    `dtype` tells the replay to store its states as bytes (a 48 x 48 picture: 6,912).
    """

    dtype = torch.uint8

    def __call__(self, codes: Integer[Tensor, "B cells"]) -> Float[Tensor, "B cells"]:
        """Intensities in [0, 1]."""
        return codes / 255.0

    def into(self, codes: Tensor, out: Float[Tensor, "B cells"]) -> None:
        """Write them into `out`, which may be a column slice of a wider tensor."""
        out.copy_(codes).div_(255.0)


def writer(lookup: Lookup) -> Callable[[Tensor, Tensor], None]:
    """The (codes, out) -> None form of a lookup: its own `into`, else a copy of what it returns."""
    into = getattr(lookup, "into", None)
    if into is not None:
        return into

    def copy(codes: Tensor, out: Tensor) -> None:
        with torch.no_grad():
            out.copy_(lookup(codes.long()))

    return copy
