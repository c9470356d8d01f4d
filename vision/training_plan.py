"""What a training is told, and whom it tells: see `vision.train.fit` for the meaning of each."""

from collections.abc import Callable
from dataclasses import dataclass

from vision.training_state import State


@dataclass(frozen=True)
class Plan:
    """The settings of `vision.train.fit`, see there; `device` is "cpu", "cuda" or "cuda:K"."""

    steps: int
    batch_size: int = 128
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 1000
    validate_every: int = 250
    patience: int = 0
    device: str = "cpu"
    devices: int = 1
    precision: str = "32-true"
    gradient_clip: float | None = None


@dataclass(frozen=True)
class Calls:
    """Whom training tells of its steps, see `vision.train.fit`."""

    log: Callable[[int, dict[str, float]], None] | None = None
    checkpoint: Callable[[int, State], None] | None = None
    progress: Callable[[int, int], None] | None = None
    stop: Callable[[], bool] | None = None


class NotFinite(FloatingPointError):
    """The loss of step `step` (the first is 1) is not finite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step
