"""The measurement of plans on a GPU runs, on a CPU too, and a way that fails does not end it."""

import json

import pytest
import torch

from benchmarks import gpu_plan


@pytest.mark.slow
def test_quick_run_writes_a_result_file(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_plan, "CALLS", {1: 1})
    out = tmp_path / "gpu.json"
    assert gpu_plan.main(["--device", "cpu", "--quick", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["experiment"] == "gpu_plan" and result["details"]["errors"] == {}
    assert set(result["variants"]) == {"fp32.eager", "tf32.eager", "bf16.eager"}
    assert result["variants"]["fp32.eager"]["gpu_plan.seconds_per_plan.problems_1"]["mean"] > 0
    agreement = result["details"]["agreement"]
    assert agreement["fp32"]["plan_cost"] == 0 and 0 < agreement["bf16"]["candidate_cost"] < 0.01
    assert result["details"]["kernels.bf16.eager"]["launches"] > 100


def test_a_way_that_fails_is_written_down(monkeypatch):
    def broken(*levels):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu_plan, "plan_levels", broken)
    errors: dict[str, str] = {}
    assert gpu_plan.ways(gpu_plan.PaperNetworks(), torch.device("cpu"), 1, 2, errors) == {}
    assert errors["bf16.eager.problems_1"] == "RuntimeError: no such kernel"
