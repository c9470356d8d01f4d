"""Plain autoencoder: images as a few numbers, with no prior over them (Lange and Riedmiller 2010, as RIG's baseline).

Loss = squared error summed over pixels and channels, averaged over the batch.
"""

from dataclasses import dataclass

from jaxtyping import Float, UInt8
from torch import Tensor

from vision.deterministic import Deterministic
from vision.networks import Up, check_pictures, check_size, down


@dataclass(frozen=True)
class AutoencoderConfig:
    """Settings of an `Autoencoder`."""

    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 12."""
    latents: int = 16
    """z, numbers of the latent."""
    channels: int = 16
    """Of the first convolution; the second and third have two and four times as many."""
    hidden: int = 512
    """Units between the convolutions and the latent."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_size("AutoencoderConfig", self.image_size)
        if min(self.latents, self.channels, self.hidden) < 1:
            raise ValueError("AutoencoderConfig: latents, channels and hidden must be at least 1")


class Autoencoder(Deterministic):
    """A deterministic autoencoder; a `LatentModel` without a prior, see `Deterministic`."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config, config.latents)
        c = config
        self.encoder = down(c.image_size, c.channels, c.latents, c.hidden)
        self.decoder = Up(c.image_size, c.channels, c.latents, c.hidden)

    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """The latent of each image; this model needs no context."""
        check_pictures("Autoencoder", images, self.config.image_size)
        return self.encoder(self.standard(images))  # type: ignore[no-any-return]
