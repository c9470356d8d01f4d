"""Offline learning of locomotion: scores, and the whole of it in small."""

import json

import pytest

from envs.offline import open_minari, read_numbers
from imagoal.compose import load
from imagoal.experiments import locomotion
from imagoal.jobs import experiment


def test_scores_are_0_for_random_actions_and_100_for_the_expert():
    returns = {"random": -200.0, "expert": 4800.0}
    assert locomotion.scores("medium", 2300.0, returns) == {"medium.return": 2300.0, "medium.score": 50.0}
    assert locomotion.scores("medium", -200.0, returns)["medium.score"] == 0


def test_all_of_it_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(locomotion, "ENV", "Pendulum-v1")
    monkeypatch.setattr(locomotion, "LEARNED", {"medium": 1, "expert": 3})
    monkeypatch.setattr(locomotion, "COLLECTED", 4)
    monkeypatch.setattr(locomotion, "RANDOM", 2)
    monkeypatch.setattr(locomotion, "AGENTS", {name: locomotion.AGENTS[name] for name in ("bc", "iql")})
    monkeypatch.setattr(locomotion, "BARS", [("data", "replay.score", "data"), ("iql", "medium.score", "IQL")])
    small = {"pretrain": {"updates": 4, "evaluate_every": 0, "batch_size": 16}, "practice": {"parallel": 1, "updates_per_episode": 2, "batch_size": 16, "evaluate_every": 0}}
    monkeypatch.setattr("imagoal.compose.read_experiment", lambda name: small)
    experiment.main(load("experiment", ["locomotion", "seeds=2", "episodes=1", f"run={tmp_path / 'run'}", f"results={tmp_path}", "threads=1"]))
    result = json.loads((tmp_path / "locomotion.json").read_text())
    made = tmp_path / "run" / "source"
    assert [len(read_numbers(open_minari(made / name)).start) for name in ("medium", "replay", "medium_expert")] == [4, 1, 4]
    found = result["variants"]["iql"]["medium.return"]["per_seed"]
    assert len(found) == 2 and all(-2000 < value < 0 for value in found)
    data = result["variants"]["data"]
    assert data["medium.return"]["per_seed"][0] == pytest.approx(json.loads((made / "returns.json").read_text())["medium"], rel=1e-5)
    assert set(result["iqm"]) == {"bc", "iql"} and result["iqm"]["bc"][1] <= result["iqm"]["bc"][0] <= result["iqm"]["bc"][2]
    assert (tmp_path / "locomotion.png").read_bytes().startswith(b"\x89PNG")
