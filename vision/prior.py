"""The affordance prior: a PixelCNN over the codes of a `CodeModel`, as a `LatentPrior` (VAL, seed 003)."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor, nn

from vision.pixelcnn import PixelCNN
from vision.protocols import CodeModel


class AffordancePrior(nn.Module):
    """Goals a scene affords: latents of images that could be reached from the scene's first image.

    `temperature` is the PixelCNN's own (its config's) when not given. Raises ValueError when the two models do not fit each other (grid,
    codes, latent length). A PixelCNN that is not `conditional` may be given any context, for instance zeros.
    """

    def __init__(self, pixelcnn: PixelCNN, model: CodeModel, temperature: float | None = None, chunk: int = 512) -> None:
        super().__init__()
        p, c = pixelcnn.config, model.config
        if (p.grid, p.codes, p.context_dim) != (c.grid, c.codes, model.latent_dim):
            raise ValueError(
                f"AffordancePrior: the PixelCNN (grid {p.grid}, {p.codes} codes, context {p.context_dim}) does not fit the "
                f"{type(model).__name__} (grid {c.grid}, {c.codes} codes, latent {model.latent_dim}); train it on this model's codes"
            )
        self.pixelcnn: PixelCNN = pixelcnn
        self.model: CodeModel = model
        self.temperature, self.chunk = p.temperature if temperature is None else temperature, chunk

    def attach(self) -> CodeModel:
        """Let the model's own `sample` draw from this prior; returns the model."""
        self.model.sampler = self.sample_seen
        return self.model

    @torch.no_grad()
    def sample_seen(self, n: int, context: UInt8[Tensor, "b H W 3"] | None, generator: Generator | None = None) -> Float[Tensor, "n z"]:
        """Draw `n` latents given the first picture of the scene (or one for each); none where the prior is unconditional.

        Raises ValueError without a picture that it needs."""
        if not self.pixelcnn.config.conditional:
            return self.sample(n, self.model.code_vectors.new_zeros(self.model.latent_dim), generator=generator)
        if context is None:
            raise ValueError(
                f"{type(self.model).__name__}.sample: its prior imagines what can follow the first picture of a scene; give it as `context`"
            )
        return self.sample(n, self.model.encode(context), generator=generator)

    @torch.no_grad()
    def sample_codes(
        self, n: int, context: Float[Tensor, "..."], *, generator: Generator | None = None
    ) -> Int[Tensor, "n g g"]:
        """Draw `n` grids of codes: as many for each of the contexts `(c, z)` in their order, or all for one, `(z,)`. What a context says is computed once."""
        contexts = context.view(1, -1) if context.dim() == 1 else context
        if contexts.dim() != 2 or contexts.shape[1] != self.model.latent_dim or not len(contexts) or n % len(contexts):
            raise ValueError(
                f"AffordancePrior: {n} samples need a context of shape ({self.model.latent_dim},) or "
                f"(c, {self.model.latent_dim}) with c a divisor of {n}, got {tuple(context.shape)}"
            )
        each, cells = n // len(contexts), self.pixelcnn.config.grid**2
        uniforms = torch.rand(n, cells, generator=generator, device=context.device).view(-1, each, cells)
        group, of_each = max(1, self.chunk // each), min(each, self.chunk)
        parts = []
        for some, u in zip(contexts.split(group), uniforms.split(group), strict=True):
            for of_these in u.split(of_each, 1):
                parts.append(self.pixelcnn.sample_codes(some, of_these.flatten(0, 1), each=of_these.shape[1], temperature=self.temperature))
        return torch.cat(parts)

    def sample(
        self, n: int, context: Float[Tensor, "..."], *, generator: Generator | None = None
    ) -> Float[Tensor, "n z"]:
        """Draw `n` flat latents: as many for each of the contexts `(c, z)` in their order, or all for one, `(z,)`."""
        return self.model.lookup(self.sample_codes(n, context, generator=generator)).detach()

    def log_prob(self, z: Float[Tensor, "B z"], context: Float[Tensor, "B z"]) -> Float[Tensor, "B"]:
        """Log-probability in nats of the codes nearest to each latent."""
        return self.pixelcnn.log_prob(self.model.quantize(z), context)
