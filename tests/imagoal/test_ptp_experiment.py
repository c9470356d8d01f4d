"""The comparison of planning at PTP's desk: what every run is told is understood, and pictures of states that can be are told from blends of them."""

import numpy as np
import pytest

pytest.importorskip("pybullet", reason="wheels exist up to Python 3.11")

from envs.families import SceneSettings, open_scene
from envs.ptp_tasks import NAMES, TARGETS
from imagoal.compose import load
from imagoal.config import ExperimentConfig
from imagoal.experiments import long_tasks, ptp
from imagoal.experiments.plans import nearest


def test_every_run_is_told_what_it_understands(tmp_path, monkeypatch):
    seen = {}

    def pretend(jobs, workers):
        for job, folder, words in jobs:
            seen[folder.name] = load(job, [f"run={folder}", *words])
        return [{"success_before": 0.1, "success_after": 0.4, "seconds": 2, "lost": 0} for _ in jobs]

    monkeypatch.setattr(long_tasks, "stages", pretend)
    monkeypatch.setattr(ptp, "judged", lambda config, folder, seed: [0.8, 0.2, 0.5])
    found = ptp.one_seed(ExperimentConfig(name="ptp", device="cpu", episodes=30), tmp_path, 2)
    assert set(found) == set(ptp.WAYS) and all(f"{task}.success_after" in found["ptp"] for task in TARGETS)
    assert {(variant, metric) for variant, metric, _ in ptp.BARS} <= {(variant, metric) for variant, metrics in found.items() for metric in metrics}
    assert [found[name]["subgoals.plausible"] for name in ptp.JUDGED] == [0.8, 0.2, 0.5]
    assert seen["data"].env.family == "ptp_desk" and seen["subgoals-ptp"].planner.levels == (60, 30) and seen["subgoals-flat"].planner.levels == (30,)
    both = seen["push_then_open-ptp_without_both"]
    assert both.subgoals.endswith("subgoals-flat") and both.planner.subgoals == 4 and not both.planner.memory and both.scene == "train/2" and both.task == "push_then_open"
    assert not seen["close_then_push-model_free"].subgoals and seen["take_out_then_close-ptp"].planner.subgoals == 2


def test_pictures_of_states_that_cannot_be_are_far_from_all_that_can(monkeypatch):
    monkeypatch.setattr(ptp, "STATES", 3)
    world = open_scene("train/0", 1, SceneSettings("ptp_desk"))
    valid = ptp.ends(world)
    assert len(valid) == 3 * 2 * len(NAMES)
    for task in TARGETS:  # of other starts than `ends` has
        starts, goals = (world.picture(states) for states in world.sample(range(4), task=task))
        blends = ((starts.astype(np.float32) + goals) / 2).astype(np.uint8)
        assert nearest(blends, valid).min() > np.concatenate([nearest(starts, valid), nearest(goals, valid)]).max(), task
    world.close()
