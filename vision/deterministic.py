"""What models with an encoder, a decoder and no prior share: the squared error, and sampling from a Gaussian fitted to the latents."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from vision.images import to_float
from vision.networks import Standard


class Deterministic(nn.Module):
    """A model with `encode(images)` and `self.decoder` (to differences from the mean picture); a `LatentModel` that needs no context.

    It has no prior: `sample` draws each number of the latent from a Gaussian with the mean and spread it had in training, which is all
    that can be said without one.
    """

    needs_context = False
    decoder: nn.Module
    mean: Tensor
    spread: Tensor

    def __init__(self, config: Any, latents: int) -> None:
        super().__init__()
        self.config = config
        self.standard = Standard(config.image_size)
        self.register_buffer("mean", torch.zeros(latents))
        self.register_buffer("spread", torch.ones(latents))

    @property
    def latent_dim(self) -> int:
        """z."""
        return len(self.mean)

    @abstractmethod
    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """The latent of each image. Raises ValueError when the images are not `image_size` square."""

    def decode(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """Images in [0, 1]; the context is not used."""
        return self.render(z).clamp(0, 1)

    def render(self, z: Float[Tensor, "B z"]) -> Float[Tensor, "B 3 H W"]:
        """The decoder's picture, not clamped: the mean picture and what it adds."""
        return self.decoder(z).float() + self.standard.mean  # type: ignore[no-any-return]

    def prepare(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> None:
        """Begin at the data's mean picture and spread."""
        self.standard.prepare(images)

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Squared error summed over pixels and channels, averaged over the batch. In training mode the mean and spread of the latents
        follow the batches. Metrics: loss, mse."""
        z = self.encode(images)
        square = (self.render(z) - to_float(images)).square()
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(z.float().mean(0), 0.01)
                self.spread.lerp_(z.float().std(0, unbiased=False), 0.01)
        loss = square.sum((1, 2, 3)).mean()
        return loss, {"loss": loss.detach(), "mse": square.detach().mean()}

    def sample(
        self, n: int, context: UInt8[Tensor, "b H W 3"] | None = None, *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """n latents of independent Gaussians fitted to the training latents; they know no context."""
        return self.mean + self.spread * torch.randn(n, self.latent_dim, generator=generator, device=self.mean.device)
