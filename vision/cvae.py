"""Conditional VAE: what may be seen later in a scene, given the scene's first picture.

Sohn et al. 2015 (eq. 4, with the prior N(0, I)): both q(z | x, s_0) and p(x | z, s_0) see the first picture s_0 of the trajectory, the
decoder through a wide vector of features. z holds what changed; to decode it, the context must be given again. The loss and its
reduction are in `vision.variational`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vision.networks import Up, check_size, down, one_or_each
from vision.variational import Variational, check_variational


@dataclass(frozen=True)
class CVAEConfig:
    """Settings of a `CVAE`."""

    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 12."""
    latents: int = 4
    """z, numbers of the latent."""
    features: int = 256
    """Numbers by which the decoder knows the context."""
    channels: int = 16
    """Of the first convolution; the second and third have two and four times as many."""
    hidden: int = 512
    """Units between the convolutions and the latent."""
    beta: float = 10.0
    """Weight of the KL term, in the summed reduction."""
    likelihood: str = "gaussian"
    """gaussian (of the given std) | bernoulli (each intensity as a probability)."""
    std: float = 0.1
    """Of the Gaussian likelihood, images being in [0, 1]."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_size("CVAEConfig", self.image_size)
        check_variational("CVAEConfig", self, self.features)


class CVAE(Variational):
    """A conditional variational autoencoder; a `LatentModel` that needs the context everywhere (one for all images, or one for each)."""

    needs_context = True

    def __init__(self, config: CVAEConfig) -> None:
        super().__init__(config)
        c = config
        self.encoder = down(c.image_size, c.channels, 2 * c.latents, c.hidden, inputs=6)
        self.condition = down(c.image_size, c.channels, c.features, c.hidden)
        self.decoder = Up(c.image_size, c.channels, c.latents + c.features, c.hidden)

    def render(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """What the likelihood is given for a latent. Raises ValueError without a context."""
        features = self.condition(self.standard(one_or_each("CVAE", context, len(z))))
        return self.around_mean(self.decoder(torch.cat([z, torch.relu(features).expand(len(z), -1)], 1)))
