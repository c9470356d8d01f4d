"""What is seen: images to latents, latents to images, and priors over latents (torch; imports only `envs`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision.encoding import open_encoded
    from vision.store import load, save

__all__ = ["load", "open_encoded", "save"]


def __getattr__(name: str) -> Any:
    """These are imported when asked for: processes that only decode pictures (`vision.sources`) need no torch."""
    if name in __all__:
        from vision import encoding, store

        return getattr(encoding if name == "open_encoded" else store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
