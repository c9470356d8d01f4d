"""What is seen: images to latents, latents to images, and priors over latents (torch; imports only `envs`)."""

from vision.store import load, save

__all__ = ["load", "save"]
