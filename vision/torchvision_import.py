"""torchvision beside any PyTorch.

torchvision's wheels carry compiled operators (nms, roi_align, ...) for one build of PyTorch; beside another, such as a
CPU build, `import torchvision` stops at "operator torchvision::nms does not exist". Its transforms need none of them: it
is enough that the names exist. Lightning (through torchmetrics) and timm import torchvision wherever it is installed, so
call `import_torchvision` (or `ready_for_lightning`) before them.
"""

import importlib
import importlib.util
import re
import sys
from types import ModuleType

import torch

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""The operators whose schemas torchvision asks for while it is imported; others, of other releases, get `ANY`."""
ANY = "(...) -> ..."
MISSING = re.compile(r"operator torchvision::(\w+) does not exist")

_library: torch.library.Library | None = None  # its operators live as long as it does


def ready_for_lightning() -> None:
    """To be called before Lightning is imported: imports torchvision where it is installed."""
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is not None:
        import_torchvision()


def import_torchvision() -> ModuleType:
    """`import torchvision`, with names for the operators that this build of PyTorch lacks (calling one still fails).

    Does no more than import it where that works. Raises ImportError when torchvision is not installed or cannot be used.
    """
    defined: set[str] = set()
    while True:
        try:
            return importlib.import_module("torchvision")
        except ModuleNotFoundError as error:
            raise ImportError(f"{error}; install torchvision with: pip install torchvision") from error
        except RuntimeError as error:
            found = MISSING.search(str(error))
            if found is None or found[1] in defined:
                raise ImportError(
                    f"torchvision does not work with torch {torch.__version__}: {error}; install the torchvision made "
                    "for this torch, see pytorch.org/get-started"
                ) from error
            for name in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
                del sys.modules[name]  # half imported
            # All known ones at once: what the first try registered for one operator cannot be registered again.
            names = {found[1]} | (set() if defined else set(SCHEMAS))
            _define(names)
            defined |= names


def _define(names: set[str]) -> None:
    """Give operators a schema, without an implementation."""
    global _library
    if _library is None:
        _library = torch.library.Library("torchvision", "FRAGMENT")
    for name in sorted(names):
        if not hasattr(torch.ops.torchvision, name):
            _library.define(name + SCHEMAS.get(name, ANY))
