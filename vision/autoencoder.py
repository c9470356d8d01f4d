"""Plain autoencoder: images as a few numbers, with no prior over them (Lange and Riedmiller 2010, as RIG's baseline).

Loss = squared error summed over pixels and channels, averaged over the batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from vision.images import to_float
from vision.networks import check_pictures, check_size, down, up


@dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of an `Autoencoder`."""

    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 12."""
    latents: int = 16
    """z, numbers of the latent."""
    channels: int = 16
    """Of the first convolution; the second and third have two and four times as many."""
    hidden: int = 256
    """Units between the convolutions and the latent."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_size("AutoencoderConfig", self.image_size)
        if min(self.latents, self.channels, self.hidden) < 1:
            raise ValueError("AutoencoderConfig: latents, channels and hidden must be at least 1")


class Autoencoder(nn.Module):
    """A deterministic autoencoder; a `LatentModel`.

    It has no prior: `sample` draws each number of the latent from a Gaussian with the mean and spread it had in training, which is all
    that can be said without one.
    """

    needs_context = False
    mean: Tensor
    spread: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = c = config
        self.encoder = down(c.image_size, c.channels, c.latents, c.hidden)
        self.decoder = up(c.image_size, c.channels, c.latents, c.hidden)
        self.register_buffer("mean", torch.zeros(c.latents))
        self.register_buffer("spread", torch.ones(c.latents))

    @property
    def latent_dim(self) -> int:
        """z."""
        return self.config.latents

    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """The latent of each image; this model needs no context."""
        check_pictures("Autoencoder", images, self.config.image_size)
        return self.encoder(to_float(images))  # type: ignore[no-any-return]

    def decode(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """Images in [0, 1]; this model needs no context."""
        return self.decoder(z).float().clamp(0, 1)  # type: ignore[no-any-return]

    def loss(
        self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Squared error. In training mode the mean and spread of the latents follow the batches. Metrics: loss, mse."""
        z = self.encode(images)
        square = (self.decoder(z).float() - to_float(images)).square()
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
