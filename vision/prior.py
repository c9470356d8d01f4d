"""The affordance prior: a PixelCNN over a VQ-VAE's codes, as a `LatentPrior` (VAL, seed 003)."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from vision.pixelcnn import PixelCNN
from vision.vqvae import VQVAE


class AffordancePrior(nn.Module):
    """Goals a scene affords: latents of images that could be reached from the scene's first image.

    `temperature` is the PixelCNN's own (its config's) when not given. Raises ValueError when the two models do not fit each other (grid, codes, latent length).
    """

    def __init__(self, pixelcnn: PixelCNN, vqvae: VQVAE, temperature: float | None = None, chunk: int = 512) -> None:
        super().__init__()
        p, v = pixelcnn.config, vqvae.config
        if (p.grid, p.codes, p.context_dim) != (v.grid, v.codes, vqvae.latent_dim):
            raise ValueError(
                f"AffordancePrior: the PixelCNN (grid {p.grid}, {p.codes} codes, context {p.context_dim}) does not fit "
                f"the VQ-VAE (grid {v.grid}, {v.codes} codes, latent {vqvae.latent_dim}); train it on this VQ-VAE's codes"
            )
        self.pixelcnn, self.vqvae = pixelcnn, vqvae
        self.temperature, self.chunk = p.temperature if temperature is None else temperature, chunk

    @torch.no_grad()
    def sample_codes(
        self, n: int, context: Float[Tensor, "..."], *, generator: Generator | None = None
    ) -> Int[Tensor, "n g g"]:
        """Draw `n` grids of codes for one context `(z,)` or `(1, z)`, or for one context each `(n, z)`."""
        contexts = context.expand(n, -1) if context.dim() == 1 or len(context) == 1 else context
        if tuple(contexts.shape) != (n, self.vqvae.latent_dim):
            raise ValueError(
                f"AffordancePrior: {n} samples need a context of shape ({self.vqvae.latent_dim},) or "
                f"({n}, {self.vqvae.latent_dim}), got {tuple(context.shape)}"
            )
        uniforms = torch.rand(n, self.pixelcnn.config.grid**2, generator=generator, device=context.device)
        parts = [
            self.pixelcnn.sample_codes(
                contexts[i : i + self.chunk], uniforms[i : i + self.chunk], temperature=self.temperature
            )
            for i in range(0, n, self.chunk)
        ]
        return torch.cat(parts)

    def sample(
        self, n: int, context: Float[Tensor, "..."], *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """Draw `n` flat latents for one context `(z,)` or `(1, z)`, or for one context each `(n, z)`."""
        return self.vqvae.lookup(self.sample_codes(n, context, generator=generator)).detach()

    def log_prob(self, z: Float[Tensor, "B z"], context: Float[Tensor, "B z"]) -> Float[Tensor, "B"]:
        """Log-probability in nats of the codes nearest to each latent."""
        return self.pixelcnn.log_prob(self.vqvae.quantize(z), context)
