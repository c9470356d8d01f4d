"""BiGAN: a generator of pictures and an encoder that learns to invert it, both from a discriminator of (picture, latent) pairs.

Donahue et al. 2017 (eq. 3); Dumoulin et al. 2017; one of the priors that VAL is compared with (thesis ch. 9, figures 42 and 47). The game
and its losses are in `vision.adversarial`. Nothing asks that decode(encode(x)) be x, so reconstructions are loose: of the same kind as the
picture, not the picture. `sample` knows no context.
"""

from dataclasses import dataclass, field

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vision.adversarial import Adversarial, Discriminator, Drawer, check_adversarial, encoder


@dataclass(frozen=True)
class BiGANConfig:
    """Settings of a `BiGAN`."""

    image_size: int = 48
    """Side of the square images, in pixels; a multiple of 8."""
    latents: int = 16
    """z, numbers of the latent."""
    channels: int = 16
    """Of the first convolution; the second and third have two and four times as many; a multiple of 4."""
    hidden: int = 256
    """Units between the convolutions and the latent, and of the discriminator's judgement."""
    noise: float = 0.1
    """Standard deviation of the noise on the pictures that the discriminator sees in training, in units of the pictures' spread."""
    penalty: float = 5.0
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
        check_adversarial("BiGANConfig", self)


class BiGAN(Adversarial):
    """A bidirectional GAN; a `LatentModel` whose latents are flat vectors near N(0, I) and which needs no context."""

    needs_context = False

    def __init__(self, config: BiGANConfig) -> None:
        c = config
        players: dict[str, nn.Module] = {
            "encoder": encoder(c.image_size, c.channels, c.latents, c.hidden, inputs=3),
            "generator": Drawer(c.image_size, c.channels, c.latents),
        }
        super().__init__(config, players, Discriminator(c.image_size, c.channels, c.latents, c.hidden, inputs=3))

    def infer(self, players: nn.ModuleDict, x: Float[Tensor, "B 3 H W"], context: Tensor | None = None) -> Float[Tensor, "B z"]:
        """E(x)."""
        return players["encoder"](x)  # type: ignore[no-any-return]

    def draw(self, players: nn.ModuleDict, z: Float[Tensor, "B z"], context: Tensor | None = None) -> Float[Tensor, "B 3 H W"]:
        """G(z)."""
        return players["generator"](z)  # type: ignore[no-any-return]

    def given(self, context: UInt8[Tensor, "b H W 3"] | None, n: int) -> None:
        """Nothing: it knows no context."""
