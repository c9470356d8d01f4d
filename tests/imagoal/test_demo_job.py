"""`imagoal demo`: every stage is told what it understands, and the summary says what the stages found."""

import json

import pytest
import yaml

from envs.families import FAMILIES
from imagoal import stages
from imagoal.compose import load
from imagoal.jobs import demo
from imagoal.report import Report


@pytest.fixture
def pretend(monkeypatch):
    seen = {}

    def stage(job, folder, *words):
        seen[folder.name] = load(job, [f"run={folder}", *words])
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump({"job": job, "agent": {"name": "td3_bc"}}))
        Report(f"The page of {folder.name}", "").save(folder / "report.html")
        after = 0.9 if "gate" in folder.name else 0.7
        return {"success": 0.02, "success_before": 0.3, "success_after": after, "success_after_ci95": (after - 0.1, after + 0.1), "practice_gain": 0.4, "attempts": 120, "wall_clock_s": 5.0}

    monkeypatch.setattr(stages, "stage", stage)
    return seen


def test_the_demo_ends_with_a_long_task_by_planned_subgoals(tmp_path, pretend, capsys):
    demo.main(load("demo", [f"run={tmp_path / 'demo'}", "seed=2", "episodes=40"]))
    result = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert result["practice.success_after"] == 0.7 and result["long_task.success_after"] == 0.9 and result["long_task.final_goal_only"] == 0.02
    assert result["gate-practice.wall_clock_s"] == 5.0
    said = capsys.readouterr().out
    assert "2% given the final goal only, 30% by planned subgoals, 90% after 120 attempts by plan" in said
    page = (tmp_path / "demo" / "report.html").read_text()
    assert all(f"The page of {name}" in page for name in demo.PAGES)
    long, alone = pretend["gate-practice"], pretend["gate-final-goal"]
    assert (long.scene, long.task, long.horizon or FAMILIES["gate"].steps(long.task), long.evaluation_episodes) == ("train/2", "open_pass_shut", 90, 20)
    assert (alone.scene, alone.task, alone.horizon or FAMILIES["gate"].steps(alone.task), alone.episodes) == ("train/2", "open_pass_shut", 90, 20)
    assert long.subgoals == str(tmp_path / "demo" / "gate-subgoals") and pretend["gate-data"].env.family == "gate"
    assert pretend["practice-affordance"].goal_source == "affordance" and pretend["data"].env.family == "tabletop"
