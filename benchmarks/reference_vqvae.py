"""A VQ-VAE and its training step as one writes them straight from the paper, for `benchmarks.cases` to compare with.

Written from van den Oord et al. 2017 (eq. 1-3) and the sizes of configs/vision/vqvae.yaml. Layer for layer the architecture of
`vision.vqvae` with the codebook learned by gradient, in float32 and PyTorch's default layout (NCHW), without that module's
care for speed: pictures become floats in NCHW for every batch, every difference between a cell and a code is materialised,
activations are not in place, Adam is PyTorch's default. It differs in one layer: the last upsampling is a transposed
convolution, where `vision.vqvae` has a 3x3 convolution and a pixel shuffle (a superset of its weights, 1.3x its arithmetic).
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vision.vqvae import VQVAEConfig


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x))))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(), nn.Conv2d(width, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, width, 1))

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        """Same shape in and out."""
        return x + self.layers(x)


class ReferenceVQVAE(nn.Module):
    """For `stem` 2 and four pixels a cell: two strided layers down, two up."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        if config.stem != 2 or config.image_size != 4 * config.grid or config.ema:
            raise ValueError("ReferenceVQVAE: only for stem=2, four pixels a cell and a codebook learned by gradient")
        self.config = c = config
        width = c.hidden
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width // 2, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(width // 2, width, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            *(Residual(width, c.residual_hidden) for _ in range(c.residual_blocks)), nn.ReLU(),
            nn.Conv2d(width, c.code_dim, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(c.code_dim, width, 3, padding=1),
            *(Residual(width, c.residual_hidden) for _ in range(c.residual_blocks)), nn.ReLU(),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(width // 2, 3, 4, 2, 1),
        )  # fmt: skip
        self.codebook = nn.Embedding(c.codes, c.code_dim)
        nn.init.uniform_(self.codebook.weight, -1 / c.codes, 1 / c.codes)

    def nearest(self, x: Float[Tensor, "n d"]) -> Int[Tensor, "n"]:
        """argmin_j |x - e_j| (eq. 1)."""
        return (x[:, None] - self.codebook.weight[None]).square().sum(-1).argmin(1)

    def loss(self, images: UInt8[Tensor, "B H W 3"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Eq. 3, each term a mean, and its reconstruction term alone."""
        target = images.permute(0, 3, 1, 2).contiguous().float() / 255
        h = self.encoder(target).permute(0, 2, 3, 1).contiguous()
        x = h.view(-1, self.config.code_dim)
        with torch.no_grad():
            index = self.nearest(x)
        e = self.codebook(index).view_as(h)
        straight = h + (e - h).detach()
        reconstruction = F.mse_loss(self.decoder(straight.permute(0, 3, 1, 2).contiguous()), target)
        return reconstruction + F.mse_loss(e, h.detach()) + self.config.commitment * F.mse_loss(h, e.detach()), reconstruction


class ReferenceTraining:
    """A `ReferenceVQVAE` and Adam, one step a call."""

    def __init__(self, config: VQVAEConfig) -> None:
        self.model = ReferenceVQVAE(config)
        self.adam = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)

    def step(self, images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, ""]:
        """One step on a batch; returns its reconstruction error."""
        loss, reconstruction = self.model.loss(images)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return reconstruction.detach()
