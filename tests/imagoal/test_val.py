"""The comparison VAL at the desk: what every run is told is understood, and the numbers go where they belong."""

from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("pybullet", reason="wheels exist up to Python 3.11")

from envs.desk_scenes import sample_desk
from envs.desk_tasks import TASKS, possible
from imagoal.affordances import Affordances
from imagoal.compose import load
from imagoal.config import ExperimentConfig
from imagoal.experiments import val


def test_it_practises_where_everything_can_be_done():
    names = val.whole_scenes("held_out", 4)
    assert len(set(names)) == 4 and all(len(possible(sample_desk(name))) == len(TASKS) for name in names)


def differ(a, b):
    """Names of the keys in which two configurations differ."""
    return {f.name for f in fields(a) if getattr(a, f.name) != getattr(b, f.name)}


def test_every_run_is_told_what_it_understands(tmp_path, monkeypatch):
    seen = {}

    def pretend(jobs, workers):
        for job, folder, words in jobs:
            seen[folder.name] = load(job, [f"run={folder}", *words])
        return [{"success_before": 0.2, "success_after": 0.5 if "affordance" in " ".join(words) else 0.3, "grasp.success_after": 0.1, "success_after_ci95": [0, 1], "lost": 1, "kept": 0.5, "seconds": 2}
                for _, _, words in jobs]  # fmt: skip

    monkeypatch.setattr(val, "stages", pretend)
    monkeypatch.setattr(val, "judged_in", lambda run, scene, config: 0.45)
    monkeypatch.setattr(val, "curve", lambda run: {"success_after_200": 0.4} if run.name == "practice-val_half" else {})
    monkeypatch.setattr(val, "affordances", lambda folder, seed, config: {"val": Affordances(0.9, 0.7, 2.0, {"drawer": 0.4}), "true_goals": Affordances(1.0, 0.9, 3.0, {})})
    found = val.one_seed(ExperimentConfig(name="val", device="cpu"), tmp_path, 0)
    assert found["val"]["kept"] == 0.5 and found["val"]["success_after"] == 0.5 and found["no_practice"]["success_after"] == 0.3 and "success_after_ci95" not in found["val"]
    assert found["val"]["goals.affords"] == 0.7 and found["val"]["goals.shows_drawer"] == 0.4 and found["true_goals"]["goals.kinds"] == 3.0
    assert found["second_scene"]["first_scene.success_after_second"] == 0.45
    assert seen["model"].vision.grid == 12 and seen["model"].prior.attention == 2 and seen["model-vae_goals"].vision.image_size == 48
    assert seen["data-val_quarter"].episodes == val.EPISODES // 4 == 112 and seen["policy-val_half"].data.endswith("data-val_half")
    assert seen["practice-bigan_goals"].goal_source == "model" and seen["practice-bigan_goals"].goal_model.endswith("model-bigan_goals")
    assert seen["practice-again"].policy.endswith("practice-val") and seen["practice-again"].scene != seen["practice-val"].scene
    assert set(found) >= {*val.SOURCES, val.EARLIER, *val.SIZES} and found["val_half"]["success_after_200"] == 0.4
    explored, few = seen["practice-oracle_goals"], seen["policy-few-12"]
    for source in (*val.SOURCES, "again"):  # all with the same team; sources differ in their goals only
        practice = seen[f"practice-{source}"]
        assert [Path(run).name for run in practice.explorers] == [f"policy-few-{k}" for k in (11, 12, 13)] and not practice.noise
        assert differ(practice, explored) <= {"run", "goal_source", "goal_model", "policy", "scene"} and practice.repeats == 0.8 and practice.even
    for variant, like in val.PLAIN.items():
        plain = seen[f"practice-{variant}"]
        assert differ(plain, seen[f"practice-{like}"]) == {"run", "repeats", "even", "candidates"} and not plain.repeats and not plain.even and variant in found
    assert [val.SOURCES[v] for v in val.PLAIN.values()] == ["affordance", "model", "model", "model", "model", "replay", "oracle"]
    tried = val.whole_scenes("held_out", val.TRIED)
    others = [seen[f"practice-val_elsewhere-{i}"] for i in range(val.OTHERS)]
    assert len({practice.scene for practice in others} - {*tried}) == val.OTHERS and all(len(possible(sample_desk(practice.scene))) == len(TASKS) for practice in others)
    for i, practice in enumerate(others):
        for variant, like in val.ELSEWHERE.items():  # they differ as they do in the first scene
            there = seen[f"practice-{variant}-{i}"]
            assert there.scene == practice.scene and differ(there, seen[f"practice-{like}"]) == {"run", "scene"}
    assert found["val_elsewhere"]["success_after"] == 0.5 == found["val_elsewhere"]["scene_0.success_after"]
    assert explored.policy.endswith("policy-few") and seen["data-few"].episodes == seen["data-few"].scenes == 150
    assert few.seed == 12 and few.data.endswith("data-few") and Path(few.model).name == "model"
    sizes = [seen[f"practice-{variant}"] for variant in val.SIZES]
    assert [Path(practice.policy).name for practice in sizes] == ["policy-val_quarter", "policy-val_half", "policy"]
    assert all(not practice.explorers and practice.noise and not practice.repeats and practice.evaluate_every * practice.parallel == practice.episodes // 2 for practice in sizes)
    assert differ(seen[f"practice-{val.IDLE}"], sizes[-1]) == {"run", "goal_source"} and found[val.IDLE]["success_after"] == 0.3
    earlier, sees = seen["practice-ccrig"], seen["policy-ccrig"]
    assert Path(sees.model).name == Path(earlier.goal_model).name == "model-ccvae_goals" and sees.data.endswith("data-few") and sees.agent.encoder == "mlp"
    assert Path(earlier.policy).name == "policy-ccrig" and earlier.goal_source == "model" and not earlier.explorers and not earlier.repeats and not earlier.even
    monkeypatch.setattr(val, "affordances", None)
    monkeypatch.setattr(val, "judged_in", None)
    assert val.one_seed(ExperimentConfig(name="val", device="cpu"), tmp_path, 0) == found  # what was found beside the stages is not found twice


def test_curves_are_read_where_practice_was_judged(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,reached,success\n0,,0.25\n40,0.1,\n200,0.2,0.4\n400,0.2,0.45\n600,,0.5\n")
    assert val.curve(tmp_path) == {"success_after_200": 0.4, "success_after_400": 0.45}  # before and after are the result's


def test_scenes_are_averaged_and_kept():
    found = val.over_scenes([{"success_before": 0.2, "success_after": 0.4, "grasp.success_after": 0.0}, {"success_before": 0.4, "success_after": 0.9, "grasp.success_after": 0.5}])
    assert found == pytest.approx({"success_before": 0.3, "success_after": 0.65, "grasp.success_after": 0.25, "scene_0.success_before": 0.2, "scene_0.success_after": 0.4,
                                   "scene_1.success_before": 0.4, "scene_1.success_after": 0.9})  # fmt: skip
