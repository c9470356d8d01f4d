"""The comparisons of practice from nothing: numbers by world, curves over seeds, and their figure."""

import numpy as np
import pytest

from imagoal.compose import load
from imagoal.config import ExperimentConfig
from imagoal.experiments import cc_rig, rig
from imagoal.experiments.curves import by_variant, curves, curves_figure
from imagoal.jobs.experiment import as_result, unit
from imagoal.jobs.rig import check
from imagoal.metrics import Metrics


def test_results_of_runs_become_metrics_of_variants():
    found = by_variant({("reacher", "rig"): {"final_distance": 0.02, "solved_at": 900, "seconds.updates": 3.0, "model.psnr": 20.0},
                        ("pusher", "rig"): {"final_distance": 0.1, "objects_1.success": 0.5}})  # fmt: skip
    assert found == {"rig": {"reacher.final_distance": 0.02, "reacher.solved_at": 900.0, "reacher.seconds.updates": 3.0, "reacher.solved": 1.0,
                             "pusher.final_distance": 0.1, "pusher.objects_1.success": 0.5, "pusher.solved": 0.0}}  # fmt: skip
    assert [unit(m) for m in ("reacher.final_distance", "reacher.solved_at", "reacher.seconds.updates", "pusher.distance.puck", "reacher.success", "maze.steps", "maze.transitions")] == ["m", "steps", "s", "m", "fraction", "steps", ""]


def test_curves_count_exploration_and_keep_every_seed(tmp_path):
    for seed in (0, 1):
        for name in ("rig", "oracle"):
            run = tmp_path / f"seed-{seed}" / f"reacher-{name}"
            run.mkdir(parents=True)
            metrics = Metrics(run / "metrics.csv", keep=0)
            metrics.append(50, {"model.loss": 3.0})  # of fitting the model: no evaluation
            for step in (0, 100):
                metrics.append(step, {"final_distance": 0.2 - step / 1000 + seed / 100, "success": step / 100, "explored": 40})
            metrics.sync()
    config = ExperimentConfig(name="rig", seeds=2, device="cpu")
    pairs = [("reacher", "rig"), ("reacher", "oracle")]
    found = curves(tmp_path, pairs, [0, 1], {})
    assert found["rig"]["reacher"]["steps"] == [40, 140]
    np.testing.assert_allclose(found["rig"]["reacher"]["final_distance"], [[0.2, 0.1], [0.21, 0.11]])
    assert found["oracle"]["reacher"]["success"] == [[0.0, 1.0]] * 2
    assert curves(tmp_path, pairs, [1], {"curves": curves(tmp_path, pairs, [0], {})}) == found  # added to an earlier file
    result = as_result(config, {"rig": {"reacher.start_distance": [0.2, 0.2]}}, 1.0, [0, 1]) | {"curves": found}
    assert curves_figure(result, [("reacher", "reacher", ["rig", "oracle", "absent"])]).startswith(b"\x89PNG")


@pytest.mark.parametrize("experiment", [rig, cc_rig], ids=["rig", "cc_rig"])
def test_every_run_of_the_comparisons_is_told_what_it_understands(experiment, tmp_path, monkeypatch):
    seen = []

    def pretend(jobs, workers):
        for job, folder, words in jobs:
            config = load(job, [f"run={folder}", *(word for word in words if not word.startswith("model="))])
            check(config)
            seen.append((config.world, folder.name.removeprefix(f"{config.world}-")))
        return [{"final_distance": 0.1}] * len(jobs)

    monkeypatch.setattr(experiment, "stages", pretend)
    name = experiment.__name__.rsplit(".", 1)[-1]
    found = experiment.one_seed(ExperimentConfig(name=name, device="cpu"), tmp_path, 0)
    assert seen == list(experiment.PAIRS) and set(found) == {name for _, name in experiment.PAIRS}
