"""beta-VAE: images as a few Gaussian numbers, and their prior N(0, I).

Kingma and Welling 2014; Higgins et al. 2017; RIG (thesis ch. 2), whose networks and Bernoulli likelihood these are. The loss and its
reduction are in `vision.variational`. The latent handed to the other rooms is the posterior's mean; `sample` knows no context: these
are the goals RIG imagines.
"""

from dataclasses import dataclass

from jaxtyping import Float, UInt8
from torch import Tensor

from vision.networks import check_size
from vision.variational import Variational, check_annealing, check_variational, make_decoder, make_encoder


@dataclass(frozen=True)
class VAEConfig:
    """Settings of a `VAE`."""

    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 12."""
    latents: int = 16
    """z, numbers of the latent."""
    channels: int = 16
    """Of the first convolution; the second and third have two and four times as many."""
    hidden: int = 512
    """Units between the convolutions and the latent."""
    beta: float = 1.0
    """Weight of the KL term, in the summed reduction."""
    beta_start: float = 0.0
    """Its weight at the beginning, from which it goes to beta geometrically during 70% of training; 0: beta from the beginning."""
    likelihood: str = "gaussian"
    """gaussian (of the given std) | bernoulli (each intensity as a probability; RIG)."""
    std: float = 0.1
    """Of the Gaussian likelihood, images being in [0, 1]."""
    encoder: str = "conv"
    """conv | keypoints (reads where features are, and finds small things beside large ones; see `vision.keypoints`)."""
    decoder: str = "conv"
    """conv (the encoder's mirror) | keypoints (its latents follow places nearly linearly)."""
    hold: float = 0.0
    """Share of training for which an encoder of keypoints stays as it began, while the decoder learns to draw from its places."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_size("VAEConfig", self.image_size)
        check_variational("VAEConfig", self)
        check_annealing("VAEConfig", self)


class VAE(Variational):
    """A variational autoencoder; a `LatentModel` whose latents are flat Gaussian vectors and which needs no context."""

    needs_context = False

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        c = config
        self.encoder = make_encoder(c)
        self.decoder = make_decoder(c, c.latents)

    def render(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """What the likelihood is given for a latent."""
        return self.around_mean(self.decoder(z))
