"""Conditional BiGAN: what may be seen later in a scene, given the scene's first picture, learned as a game.

BiGAN (`vision.bigan`, `vision.adversarial`) with every player told the first picture s_0 of the trajectory, as Mirza and Osindero 2014 do
for a GAN: generator G(z, s_0), encoder E(x, s_0), discriminator D(x, z, s_0). One of the priors that VAL is compared with (thesis ch. 9,
figures 42 and 47). G knows s_0 by a coarse map of features, E and D see it stacked on x. To decode a latent, the context must be given
again.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vision.adversarial import Adversarial, Discriminator, Drawer, check_adversarial, encoder, halve
from vision.images import to_float
from vision.networks import channels_last, check_pictures, one_or_each, stack


@dataclass(frozen=True)
class CBiGANConfig:
    """Settings of a `CBiGAN`."""

    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 8."""
    latents: int = 8
    """z, numbers of the latent."""
    channels: int = 16
    """Of the first convolution; the second and third have two and four times as many; a multiple of 4."""
    hidden: int = 256
    """Units between the convolutions and the latent, and of the discriminator's judgement."""
    noise: float = 0.02
    """Standard deviation of the noise on the pictures that the discriminator judges in training, images being in [0, 1]."""
    penalty: float = 0.02
    """Weight of R1, half of which times the squared norm of the discriminator's gradient is added to its loss."""
    learning_rate: float = 2e-4
    betas: list[float] = field(default_factory=lambda: [0.5, 0.999])
    """Of Adam: little momentum, because the other player moves (Radford et al. 2016)."""
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_adversarial("CBiGANConfig", self)


class CBiGAN(Adversarial):
    """A conditional bidirectional GAN; a `LatentModel` that needs the context everywhere (one for all images, or one for each)."""

    needs_context = True

    def __init__(self, config: CBiGANConfig) -> None:
        super().__init__(config)
        c = config
        self.encoder = encoder(c.image_size, c.channels, c.latents, c.hidden, inputs=6)
        self.condition = channels_last(halve(c.channels, 3))
        self.generator = Drawer(c.image_size, c.channels, c.latents, 4 * c.channels)
        self.discriminator = Discriminator(c.image_size, c.channels, c.latents, c.hidden, inputs=6)

    def infer(self, images: UInt8[Tensor, "B H W 3"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B z"]:
        """E(x, s_0). Raises ValueError without a context, or for images of another size."""
        check_pictures("CBiGAN", images, self.config.image_size)
        return self.encoder(stack(images, one_or_each("CBiGAN", context, len(images))))  # type: ignore[no-any-return]

    def draw(self, z: Float[Tensor, "B z"], context: UInt8[Tensor, "b H W 3"] | None = None) -> Float[Tensor, "B 3 H W"]:
        """G(z, s_0). Raises ValueError without a context."""
        features = self.condition(to_float(one_or_each("CBiGAN", context, len(z))))
        return self.generator(z, features.expand(len(z), -1, -1, -1))  # type: ignore[no-any-return]

    def shown(self, x: Float[Tensor, "B 3 H W"], context: UInt8[Tensor, "b H W 3"] | None) -> Float[Tensor, "B 6 H W"]:
        """The picture with noise, and below it the context."""
        given = to_float(one_or_each("CBiGAN", context, len(x)))
        return torch.cat([super().shown(x, context), given.expand(len(x), -1, -1, -1)], 1)
