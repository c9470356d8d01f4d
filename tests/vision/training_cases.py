"""What the tests of training share: a tiny model and pictures it can learn."""

import numpy as np

from vision.vqvae import VQVAEConfig

TINY = VQVAEConfig(image_size=16, grid=4, codes=16, code_dim=4, hidden=16, residual_blocks=1, residual_hidden=8,
                   ema=True, restart_dead=True, ema_decay=0.9, data_init=True, center=True, learning_rate=3e-3)  # fmt: skip


def squares(n: int = 12) -> np.ndarray:
    """Pictures of one bright square on grey, somewhere."""
    rng = np.random.default_rng(0)
    images = np.full((n, 16, 16, 3), 90, np.uint8)
    for image in images:
        y, x = rng.integers(0, 12, 2)
        image[y : y + 4, x : x + 4] = rng.integers(0, 256, 3)
    return images
