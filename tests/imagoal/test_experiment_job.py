"""`imagoal experiment`: seeds become a result file in design.md's form, and what is not there is named."""

import json
import sys
import types

import pytest

from imagoal.compose import load
from imagoal.errors import UserError
from imagoal.experiments import EXPERIMENTS
from imagoal.jobs import experiment
from imagoal.results import read_result_file, section


@pytest.fixture
def toy(monkeypatch):
    """An experiment `demo` of two variants that takes no time."""
    module = types.ModuleType("toy_experiment")
    module.one_seed = lambda config, folder, seed: {"a": {"success": 0.5 + 0.1 * seed}, "b": {"success": 0.2, "last_loss": 3.0}}
    module.BARS = [("a", "success", "a"), ("b", "success", "b")]
    monkeypatch.setitem(sys.modules, "toy_experiment", module)
    monkeypatch.setitem(EXPERIMENTS, "demo", "toy_experiment")


def test_the_result_file_holds_every_seed_the_mean_and_the_interval(toy, tmp_path):
    experiment.main(load("experiment", ["demo", "seeds=3", "device=cpu", f"run={tmp_path / 'run'}", f"results={tmp_path}"]))
    result = json.loads((tmp_path / "demo.json").read_text())
    a = result["variants"]["a"]["success"]
    assert a["per_seed"] == pytest.approx([0.5, 0.6, 0.7]) and a["mean"] == pytest.approx(0.6)
    # Student's t with 2 degrees of freedom is 4.3027; the standard error 0.1 / sqrt(3)
    assert a["ci95"] == pytest.approx([0.6 - 0.24841, 0.6 + 0.24841], abs=1e-4)
    assert result["seeds"] == [0, 1, 2] and result["variants"]["b"]["last_loss"]["unit"] == ""
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "| success | fraction | 0.6 [0.352, 0.848] |" in section(read_result_file(tmp_path / "demo.json"), tmp_path / "demo.json")


def test_seeds_are_added_to_a_result_file(toy, tmp_path, capsys):
    def run(name: str, *words: str) -> dict:
        experiment.main(load("experiment", ["demo", "device=cpu", f"run={tmp_path / name}", f"results={tmp_path}", *words]))
        return json.loads((tmp_path / "demo.json").read_text())

    first = run("one", "seeds=1")
    assert first["seeds"] == [0] and first["variants"]["a"]["success"]["ci95"] is None
    both = run("more", "seeds=3", "extend=true")
    assert both["seeds"] == [0, 1, 2] and both["variants"]["a"]["success"]["per_seed"] == pytest.approx([0.5, 0.6, 0.7])
    assert both["command"].endswith("seeds=3 episodes=100") and both["variants"]["b"]["last_loss"]["per_seed"] == [3.0] * 3
    assert run("none", "seeds=3", "extend=true") == both and "has seeds 0, 1, 2 already" in capsys.readouterr().out
    with pytest.raises(UserError, match="was measured with episodes=100, not 50"):
        run("other", "seeds=4", "episodes=50", "extend=true")
    assert run("one", "seeds=2", "resume=true")["seeds"] == [0, 1]  # the run itself goes on to more seeds


def test_what_is_done_is_in_the_file_when_a_seed_fails(toy, tmp_path):
    sys.modules["toy_experiment"].one_seed = lambda config, folder, seed: {"a": {"success": 1 / (1 - seed)}, "b": {"success": 0.2}}
    with pytest.raises(ZeroDivisionError):
        experiment.main(load("experiment", ["demo", "seeds=2", "device=cpu", f"run={tmp_path / 'run'}", f"results={tmp_path}"]))
    assert json.loads((tmp_path / "demo.json").read_text())["seeds"] == [0]


def test_an_experiment_without_a_comparison_is_named(toy, tmp_path, monkeypatch):
    monkeypatch.delitem(EXPERIMENTS, "resume")
    with pytest.raises(UserError, match="no comparison yet"):
        experiment.main(load("experiment", ["resume", f"run={tmp_path / 'run'}"]))
