"""What training keeps between steps and across resumes, as flat dictionaries of tensors that safetensors can hold."""

import math

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


class Best:
    """The best validation so far, and the weights that had it.

    Attributes: loss, step, bad (validations since, without improvement), weights (on the CPU; empty before the first).
    """

    def __init__(self) -> None:
        self.loss, self.step, self.bad = math.inf, 0, 0
        self.weights: State = {}

    def offer(self, model: nn.Module, loss: float, step: int) -> None:
        """Keep the weights of `model` when `loss` is lower than any before; a loss that is not finite never is."""
        if loss < self.loss:
            self.loss, self.step, self.bad = loss, step, 0
            self.weights = on_cpu(model.state_dict())
        else:
            self.bad += 1

    def put_into(self, model: nn.Module) -> None:
        """Give the model the best weights, where there are any."""
        if self.weights:
            model.load_state_dict(self.weights)

    def state(self) -> State:
        """`best.NAME`, `best_loss`, `best_step` and `bad`; empty before the first improvement."""
        if not self.weights:
            return {}
        numbers = {"best_loss": torch.tensor(self.loss, dtype=torch.float64), "best_step": torch.tensor(self.step)}
        return numbers | {"bad": torch.tensor(self.bad)} | {f"best.{key}": x for key, x in self.weights.items()}

    @classmethod
    def of(cls, state: State | None) -> "Best":
        """What a `training_state` holds of it, or a new one."""
        best = cls()
        if state is not None and "best_loss" in state:
            best.loss, best.step, best.bad = float(state["best_loss"]), int(state["best_step"]), int(state["bad"])
            best.weights = part(state, "best.")
        return best


def part(state: State, prefix: str) -> State:
    """The entries whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def on_cpu(state: State) -> State:
    """Copies on the CPU, contiguous, which later steps do not change."""
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, best: Best | None = None) -> State:
    """All that a resume needs, as copies in flat tensors on the CPU: `step`, `model.NAME`, `optimizer.NAME.KEY`, and of
    the best validation `best.NAME`, `best_loss`, `best_step`, `bad`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    state = {"step": torch.tensor(step)} | {f"model.{key}": value for key, value in model.state_dict().items()}
    for parameter, moments in optimizer.state.items():
        state |= {f"optimizer.{names[parameter]}.{key}": value for key, value in moments.items()}
    return on_cpu(state) | (best.state() if best is not None else {})


def restore_model(model: nn.Module, state: State) -> None:
    """Put the weights of a `training_state` into the model. Raises ValueError when they are not this model's."""
    try:
        model.load_state_dict(part(state, "model."))
    except RuntimeError as error:
        raise ValueError(
            f"the checkpoint does not fit this {type(model).__name__}; use the settings it was trained with: {error}"
        ) from error


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Put the moments of a `training_state` into the optimizer, each in its parameter's memory layout (fused Adam reads
    them side by side)."""
    for name, parameter in model.named_parameters():
        for key, value in part(state, f"optimizer.{name}.").items():
            like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
            optimizer.state[parameter][key] = like.copy_(value).detach().to(parameter.device)
