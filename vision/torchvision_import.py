"""Importing torchvision beside a torch it was not built for: only its models' and transforms' Python is needed here.

Some builds of torchvision declare operators at import (torchvision::nms, ...) that their compiled part, not fitting this torch, did not
define. Declaring them empty lets the import go on; calling one still fails.
"""

import re
import sys
from types import ModuleType
from typing import Any

import torch

MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_declared: list[Any] = []  # a library's declarations live as long as the object


def import_torchvision() -> ModuleType:
    """The module torchvision. Raises ImportError, saying what to install, where there is none or it cannot be made to load."""
    for _ in range(20):
        try:
            import torchvision
        except RuntimeError as error:
            missing = MISSING.search(str(error))
            if missing is None:
                raise ImportError(f"torchvision does not load beside torch {torch.__version__}: {error}") from error
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{missing[1]}(Tensor x) -> Tensor")
            _declared.append(library)
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
        else:
            return torchvision  # type: ignore[no-any-return]
    raise ImportError(f"torchvision does not load beside torch {torch.__version__}: install the two that belong together")
