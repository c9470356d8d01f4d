"""The benchmark runs, writes what the documentation reads, and its arithmetic is right."""

import json

import pytest

from benchmarks import bench, cases
from imagoal.results import NEEDED, page


@pytest.mark.slow
def test_quick_run_writes_a_result_file_that_the_documentation_reads(tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert bench.main(["--quick", "--threads", "1", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["experiment"] == "bench" and result["seeds"] == [0] and "1 thread" in result["machine"]
    metrics = result["variants"]["imagoal"]
    for entry in metrics.values():
        assert len(entry["per_seed"]) == 1 and entry["mean"] > 0 and entry["unit"]
    for start in ("env.", "agents.td3_bc", "agents.iql", "goals.", "prior_small", "vision_small", "planner_small"):
        assert any(name.startswith(start) for name in metrics)
    name, passes = "prior_small.samples_per_s.batch_32", result["variants"]["full_passes"]
    ratio = metrics["prior_small.cached_over_passes"]["mean"]
    assert ratio == pytest.approx(metrics[name]["mean"] / passes[name]["mean"], rel=1e-3)
    assert name in capsys.readouterr().out.replace("\n", "")
    assert name in page(tmp_path)


def test_only_what_is_named_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "cases", lambda quick: [cases.Case(name, "s", lambda seconds: 2.0) for name in ("one.seconds", "two.seconds")])
    assert bench.main(["--threads", "1", "--only", "two", "--out", str(tmp_path / "out.json")]) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result["variants"]["imagoal"]) == {"two.seconds"} and result["experiment"] == "bench_two"
    with pytest.raises(SystemExit, match="'three'"):
        bench.main(["--threads", "1", "--only", "three"])


def test_rounds_become_a_mean_with_an_interval_above_zero():
    entry = bench.summary({"unit": "s", "per_seed": [1.0, 2.0, 3.0]})
    assert entry["mean"] == 2.0 and entry["ci95"] == [0.0, 4.4843]
    assert bench.summary({"unit": "s", "per_seed": [1.23456789]})["ci95"] == [1.2346, 1.2346]


def test_rates_are_medians_of_calls(monkeypatch):
    clock = iter([0.0, 0.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 13.0, 13.0])  # calls of 1, 2 and 10 seconds
    monkeypatch.setattr(cases.time, "perf_counter", lambda: next(clock))
    calls = []
    assert cases.rate(6, lambda: calls.append(1), warm=False)(5.0) == 3.0
    assert len(calls) == 3


def test_updates_on_a_gpu_are_measured_one_by_one(tmp_path, monkeypatch, capsys):
    """Here only the eager ones, on the CPU; what fails is said in its place and the others stand."""
    from benchmarks import gpu_updates

    monkeypatch.setattr(gpu_updates, "AGENTS", ("iql",))
    monkeypatch.setattr(gpu_updates, "rate", lambda step, seconds, device: (step(), 1.0)[1])
    monkeypatch.setattr(gpu_updates.Case, "alone", lambda case, update: 1 / 0)
    monkeypatch.setattr("sys.argv", ["gpu_updates", "--out", str(tmp_path / "out.json"), "--device", "cpu", "--quick", "--rounds", "2"])
    gpu_updates.main()
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["variants"]["eager.bf16"]["gpu.iql.updates_per_s.batch_256"]["per_seed"] == [1.0, 1.0] and found["seeds"] == [0, 1] and set(found["variants"]) == {"eager.32", "eager.bf16"}
    assert found["details"]["gpu.iql.eager_alone.updates_per_s.batch_256.32.round_1"] == "ZeroDivisionError: division by zero" and set(found) >= set(NEEDED)
