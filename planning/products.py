"""Float32 matrix products on a CPU by oneDNN, which torch uses for convolutions, instead of MKL.

MKL uses half of the vector width of AMD's processors with AVX-512: on a Zen 5 it does 103 GFLOP/s a core where oneDNN does 220. On Intel's the two are alike.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary


class LinearByOneDNN(TorchFunctionMode):
    """While it is entered, `F.linear` of float32 matrices (every nn.Linear is one) goes to oneDNN. Weights are laid out once, so they must not change. Every other operation takes
    a microsecond longer, so enter it around large products only (`faster`)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = WeakIdKeyDictionary()

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Every call of a torch function comes by here."""
        if function is F.linear and not kwargs and fits(args[0]) and fits(args[1]):
            return self.linear(*args)
        return function(*args, **(kwargs or {}))

    def linear(self, x: Float[Tensor, "B i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None) -> Float[Tensor, "B o"]:
        """x @ weight.T + bias."""
        laid_out = self.weights.get(weight)
        if laid_out is None:
            laid_out = self.weights[weight] = weight.contiguous().to_mkldnn()
        y: Tensor = F.linear(x.contiguous().to_mkldnn(), laid_out).to_dense()
        return y if bias is None else y.add_(bias)


def fits(x: Tensor) -> bool:
    """Whether oneDNN can take it: a float32 matrix on a CPU that is not empty."""
    return x.dtype is torch.float32 and x.device.type == "cpu" and x.layout is torch.strided and x.ndim == 2 and x.numel() > 0


def faster(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The function with its products by oneDNN, where they are float32's on a CPU with AVX-512 and without gradients; elsewhere the function itself. Its weights must not change while it is in use."""
    slow = device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    if slow or not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return function
    mode = LinearByOneDNN()

    @wraps(function)
    def call(*args: Any) -> Any:
        with mode:
            return function(*args)

    return call
