"""The comparison at the gate: what every run is told is understood, numbers go where they belong, and pictures of states that cannot be are told from those that can."""

import numpy as np

from envs.families import FAMILIES
from envs.tabletop import TabletopBatch
from imagoal.compose import load
from imagoal.config import ExperimentConfig
from imagoal.experiments import gate, long_tasks
from imagoal.experiments.plans import nearest


def test_every_run_is_told_what_it_understands(tmp_path, monkeypatch):
    seen = {}

    def pretend(jobs, workers):
        for job, folder, words in jobs:
            seen[folder.name] = load(job, [f"run={folder}", *words])
        return [{"success_before": 0.2, "success_after": 0.9 if "subgoals=" in " ".join(words) else 0.1, "seconds": 2, "lost": 1} for _, _, words in jobs]

    monkeypatch.setattr(long_tasks, "stages", pretend)
    monkeypatch.setattr(gate, "judged", lambda config, folder, seed: [0.8, 0.2, 0.5])
    found = gate.one_seed(ExperimentConfig(name="gate", device="cpu", episodes=30), tmp_path, 1)
    assert found["ptp"] == {"open_pass_shut.success_offline": 0.2, "open_pass_shut.success_after": 0.9, "open_pass_shut.seconds": 2.0, "open_pass_shut.lost": 1.0, "subgoals.plausible": 0.8}
    assert found["model_free"]["open_pass_shut.success_after"] == 0.1 and found["leap"]["subgoals.plausible"] == 0.2
    assert seen["data"].env.family == "gate" and seen["subgoals-leap"].planner.method == "leap" and seen["subgoals-gcp"].generator.likelihood == "codes"
    for name in gate.WAYS:
        run = seen[f"open_pass_shut-{name}"]
        assert (run.scene, run.task, run.goal_source, run.horizon or FAMILIES["gate"].steps(run.task), run.evaluation_episodes) == ("train/1", gate.TASK, "oracle", 90, 30)
        assert run.planner.subgoals == 3 and bool(run.subgoals) == (name != "model_free")
    without = seen["open_pass_shut-ptp_without_memory"]
    assert not without.planner.memory and without.subgoals.endswith("subgoals-ptp") and seen["open_pass_shut-gcp"].subgoals.endswith("subgoals-gcp")
    assert {(variant, metric) for variant, metric, _ in gate.BARS} <= {(variant, metric) for variant, metrics in found.items() for metric in metrics}


def test_pictures_of_states_that_cannot_be_are_far_from_all_that_can():
    world = TabletopBatch("train/0", 1, gate=True)
    valid = gate.valid_pictures(world)
    assert 0.7 * gate.LEVELS**2 < len(valid) < gate.LEVELS**2  # those are left out in which the pucks overlap
    starts, goals = world.sample(range(6), task=gate.TASK)
    true = nearest(world.picture(goals), valid)
    doubled = world.picture(starts).astype(np.float32) + world.picture(goals)  # as a blend of outcomes: pucks at both ends
    assert nearest((doubled / 2).astype(np.uint8), valid).min() > true.max()
