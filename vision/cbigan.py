"""Conditional BiGAN: what may be seen later in a scene, given the scene's first picture, learned as a game.

BiGAN (`vision.bigan`, `vision.adversarial`) with every player told the first picture s_0 of the trajectory, as Mirza and Osindero 2014 do
for a GAN: generator G(z, s_0), encoder E(x, s_0), discriminator D(x, z, s_0). One of the priors that VAL is compared with (thesis ch. 9,
figures 42 and 47). G knows s_0 by maps of features at each resolution (Ronneberger et al. 2015), draws a picture and a mask, and leaves
s_0 as it is where the mask says so (Ebert et al. 2017); E and D see x - s_0 and s_0. To decode a latent, the context must be given again.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vision.adversarial import Adversarial, Discriminator, Drawer, beside, check_adversarial, encoder, halve
from vision.networks import channels_last, one_or_each


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
    noise: float = 0.1
    """Standard deviation of the noise on the pictures that the discriminator sees in training, in units of the pictures' spread."""
    penalty: float = 3.0
    """Weight of R1, half of which times the squared norm of the discriminator's gradient is added to its loss."""
    invert: float = 1.0
    """Weight of the mean squared error of E(G(z)) as z."""
    average: float = 0.99
    """Share that the averaged weights of encoder and generator keep of themselves each step."""
    learning_rate: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.0, 0.99])
    """Of Adam: no momentum, because the other player moves (Karras et al. 2018)."""
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_adversarial("CBiGANConfig", self)


class CBiGAN(Adversarial):
    """A conditional bidirectional GAN; a `LatentModel` that needs the context everywhere (one for all images, or one for each)."""

    needs_context = True

    def __init__(self, config: CBiGANConfig) -> None:
        c = config
        maps = (c.channels, 2 * c.channels, 4 * c.channels)
        players: dict[str, nn.Module] = {
            "encoder": encoder(c.image_size, c.channels, c.latents, c.hidden, inputs=6),
            "condition": channels_last(halve(c.channels, 3)),
            "generator": Drawer(c.image_size, c.channels, c.latents, 4, maps),
        }
        super().__init__(config, players, Discriminator(c.image_size, c.channels, c.latents, c.hidden, inputs=6))

    def infer(self, players: nn.ModuleDict, x: Float[Tensor, "B 3 H W"], context: Float[Tensor, "b 3 H W"] | None) -> Float[Tensor, "B z"]:
        """E(x, s_0)."""
        assert context is not None
        return players["encoder"](beside(x, context))  # type: ignore[no-any-return]

    def draw(self, players: nn.ModuleDict, z: Float[Tensor, "B z"], context: Float[Tensor, "b 3 H W"] | None) -> Float[Tensor, "B 3 H W"]:
        """G(z, s_0): what it draws anew, where it does not leave the context as it was."""
        assert context is not None
        maps, x = [], context
        for layer in players["condition"].children():
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                maps.append(x)
        drawn, keep = players["generator"](z, maps).split([3, 1], 1)
        return torch.lerp(drawn, context.expand(len(z), -1, -1, -1), torch.sigmoid(keep))

    def given(self, context: UInt8[Tensor, "b H W 3"] | None, n: int) -> Float[Tensor, "b 3 H W"]:
        """The standardised context. Raises ValueError without one."""
        return self.standard(one_or_each("CBiGAN", context, n))  # type: ignore[no-any-return]
