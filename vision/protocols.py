"""The interfaces the other rooms know: a latent model, one whose latents are codes, and a prior over latents."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor


@runtime_checkable
class LatentModel(Protocol):
    """Images to flat latents and back.

    Images enter as uint8 `(B, H, W, 3)`; latents are flat float32 `(B, z)`; decoded images are float `(B, 3, H, W)`
    in [0, 1] (`vision.images.to_uint8` turns them into uint8 pictures). A context is the first picture of a trajectory, one for all
    images or one for each; models with `needs_context` raise ValueError without one, the others ignore it.
    """

    needs_context: bool
    config: Any
    """Its settings, a dataclass; `image_size` and `learning_rate` among them."""

    @property
    def latent_dim(self) -> int:
        """z, the length of a flat latent."""
        ...

    def encode(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> Float[Tensor, "B z"]:
        """The latent of each image; `context` is the first image of its trajectory, for models that use one."""
        ...

    def decode(
        self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> Float[Tensor, "B 3 H W"]:
        """The image of each latent, in [0, 1]."""
        ...

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The training loss and its parts as detached 0-d tensors."""
        ...

    def sample(
        self, n: int, context: UInt8[Tensor, "b H W 3"] | None = None, *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """Draw `n` latents of the model's prior, of what may be seen in the context's scene where the model knows contexts."""
        ...


@runtime_checkable
class CodeModel(LatentModel, Protocol):
    """A latent model whose latents are grids of codes: vector- or scalar-quantized.

    A flat latent is the flattening of `grid_shape` (code_dim, grid, grid); `config.codes` and `config.grid` are its sizes.
    """

    config: Any
    sampler: Callable[[int, Tensor | None, Generator | None], Tensor] | None
    """What `sample` asks, given (n, context pictures, generator): a prior's, see `AffordancePrior.attach`."""

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """(code_dim, grid, grid)."""
        ...

    @property
    def code_vectors(self) -> Float[Tensor, "k d"]:
        """The vector of every code, (config.codes, code_dim)."""
        ...

    def codes(self, images: UInt8[Tensor, "B H W 3"]) -> Int[Tensor, "B g g"]:
        """The code of every cell, in [0, config.codes)."""
        ...

    def lookup(self, codes: Int[Tensor, "..."]) -> Float[Tensor, "... z"]:
        """Flat latents of codes shaped `(..., g*g)` or `(..., g, g)`."""
        ...

    def quantize(self, z: Float[Tensor, "B z"]) -> Int[Tensor, "B g g"]:
        """The nearest code of every cell of any flat latent."""
        ...


@runtime_checkable
class LatentPrior(Protocol):
    """A distribution over latents, given the latent of the scene's first image: the goals a scene affords."""

    def sample(
        self, n: int, context: Float[Tensor, "..."], *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """Draw `n` latents for one context `(z,)`, or for one context each `(n, z)`."""
        ...

    def log_prob(self, z: Float[Tensor, "B z"], context: Float[Tensor, "B z"]) -> Float[Tensor, "B"]:
        """Log-probability (nats) of each latent in its context."""
        ...
