"""Deep spatial autoencoder: images as the positions of a few things in them.

Finn et al. 2016, "Deep Spatial Autoencoders for Visuomotor Learning" (section V; eq. 1 for the spatial softmax). Convolutions give one
map for each feature; each map, through a softmax over its pixels with a learned temperature, becomes the expected position of its
activation. The latent is all positions, (x_1, ..., x_F, y_1, ..., y_F) with -1 the left and top edge and 1 the right and bottom one.

Two things differ from the paper. Its decoder is a linear map to a small grey picture; ours draws the full picture in colour, with the
decoder of the other models with flat latents (`networks.Up`). And the penalty on features that jump is left out: the data here are
pictures, not sequences of three. Loss = squared error summed over pixels and channels, averaged over the batch.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vision.deterministic import Deterministic
from vision.keypoints import spatial_softmax
from vision.networks import Up, channels_last, check_pictures, check_size


@dataclass(frozen=True)
class DSAEConfig:
    """Settings of a `DSAE`."""

    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 12."""
    features: int = 16
    """Positions; the latent has twice as many numbers."""
    channels: int = 32
    """Of the two convolutions before the features' maps."""
    stride: int = 1
    """Of the first convolution, 1 or 2: with 2 the maps are half as fine and four times as fast."""
    decoder_channels: int = 16
    """Of the decoder's last maps; the ones before have two and four times as many."""
    hidden: int = 256
    """Units between the positions and the decoder's first map."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_size("DSAEConfig", self.image_size)
        if min(self.features, self.channels, self.decoder_channels, self.hidden) < 1:
            raise ValueError("DSAEConfig: features, channels, decoder_channels and hidden must be at least 1")
        if self.stride not in (1, 2):
            raise ValueError(f"DSAEConfig: stride={self.stride} must be 1 or 2, or positions of small things are lost")


class DSAE(Deterministic):
    """A deep spatial autoencoder; a `LatentModel` without a prior, see `Deterministic`."""

    def __init__(self, config: DSAEConfig) -> None:
        super().__init__(config, 2 * config.features)
        c = config
        self.maps = channels_last(
            nn.Sequential(
                nn.Conv2d(3, c.channels, 7, c.stride, 3), nn.BatchNorm2d(c.channels), nn.ReLU(),
                nn.Conv2d(c.channels, c.channels, 5, 1, 2), nn.BatchNorm2d(c.channels), nn.ReLU(),
                nn.Conv2d(c.channels, c.features, 5, 1, 2), nn.BatchNorm2d(c.features),
            )
        )  # fmt: skip
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.5)))
        self.decoder = Up(c.image_size, c.decoder_channels, 2 * c.features, c.hidden)

    def encode(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """The positions of each image, in [-1, 1]; this model needs no context."""
        check_pictures("DSAE", images, self.config.image_size)
        return spatial_softmax(self.maps(self.standard(images)), self.log_temperature.exp())
