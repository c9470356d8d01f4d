"""The house's walls: who may import whom (docs: CONTRIBUTING.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["envs", "vision", "goals", "agents", "planning", "imagoal"]  # a room imports only rooms to its left
FILES = [path for room in [*ROOMS, "configs"] for path in sorted((ROOT / room).rglob("*.py"))]


def imported_by(tree: ast.AST, package: str = "") -> set[str]:
    """Top-level names a module imports anywhere, functions and `if TYPE_CHECKING` included."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else (node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                names.add(first.value.split(".")[0])
    return names


def breaches(room: str, imports: set[str]) -> list[str]:
    """What a file of this room imports and must not."""
    rank = ROOMS.index(room) if room in ROOMS else -1
    forbidden = set(ROOMS[rank + 1 :]) if room in ROOMS else set(ROOMS)
    if room not in ("imagoal", "configs"):
        forbidden |= {"hydra", "omegaconf", "configs"}
    if room == "envs":
        forbidden |= {"torch", "lightning", "pytorch_lightning", "torchvision", "safetensors"}
    return sorted(forbidden & imports | ({"tests", "benchmarks"} & imports))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_upwards(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    wrong = breaches(room, imported_by(ast.parse(path.read_text()), room))
    assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(wrong)}, which {room} must not"


def test_benchmarks_are_imported_by_nobody_and_no_room_was_forgotten() -> None:
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks", "docs"}
    assert packages == {*ROOMS, "configs"}


def test_no_pickles() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        assert not {"pickle", "dill", "joblib", "cloudpickle"} & imported_by(tree), path
        calls = [ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)]
        assert not {"torch.load", "torch.save"} & set(calls), path


def test_the_check_itself_sees_every_form_of_import() -> None:
    source = "import torch.nn as nn\nfrom imagoal.run import RunFolder\ndef f():\n    import hydra\n    importlib.import_module('agents.iql')\n"
    imports = imported_by(ast.parse(source))
    assert {"torch", "imagoal", "hydra", "agents"} <= imports
    assert breaches("envs", imports) == ["agents", "hydra", "imagoal", "torch"]
    assert breaches("planning", imports) == ["hydra", "imagoal"]
    assert breaches("imagoal", imports) == []
