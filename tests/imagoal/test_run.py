"""Run folders survive being killed, full disks and second thoughts."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagoal import disk, run
from imagoal.config import EvaluateConfig, PracticeConfig
from imagoal.errors import UserError
from imagoal.run import RunFolder, read_config, read_metrics, read_result


def config(path: Path, **values: Any) -> EvaluateConfig:
    return EvaluateConfig(run=str(path), policy="p", **values)


def tensors(n: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 4), float(n)), "codes": torch.arange(n, dtype=torch.int16)}


def test_a_new_folder_holds_its_config_and_a_used_one_is_refused(tmp_path: Path) -> None:
    RunFolder("evaluate", config(tmp_path / "r"))
    assert read_config(tmp_path / "r", "evaluate")["episodes"] == 100
    with pytest.raises(UserError, match=r"not empty.*imagoal evaluate run=.* resume=true"):
        RunFolder("evaluate", config(tmp_path / "r"))
    with pytest.raises(UserError, match="is the run of a evaluate; this needs the run of a train"):
        read_config(tmp_path / "r", "train")
    with pytest.raises(UserError, match="not a run folder"):
        read_config(tmp_path / "nowhere", "train")


def test_resuming_with_another_config_names_the_key(tmp_path: Path) -> None:
    RunFolder("evaluate", config(tmp_path / "r", threads=1))
    assert RunFolder("evaluate", config(tmp_path / "r", resume=True, threads=2)).resumed  # threads may change
    with pytest.raises(UserError, match="with episodes=5: it was started with episodes=100"):
        RunFolder("evaluate", config(tmp_path / "r", resume=True, episodes=5))
    with pytest.raises(UserError, match="holds a evaluate run, not a practice run"):
        RunFolder("practice", PracticeConfig(run=str(tmp_path / "r"), policy="p", resume=True))


def test_checkpoints_come_back_exactly_and_two_are_kept(tmp_path: Path) -> None:
    folder = RunFolder("evaluate", config(tmp_path / "r"))
    assert folder.load_checkpoint("agent") is None
    for n in range(1, 5):
        folder.checkpoint("agent", tensors(n), {"step": n, "name": "x"})
    found = folder.load_checkpoint("agent")
    assert found is not None and found.state == {"step": 4, "name": "x"}
    assert all(torch.equal(found.tensors[k], t) and found.tensors[k].dtype == t.dtype for k, t in tensors(4).items())
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["agent-3", "agent-4", "agent.json"]


def test_names_that_begin_alike_do_not_touch_each_other(tmp_path: Path) -> None:
    folder = RunFolder("evaluate", config(tmp_path / "r"))
    folder.checkpoint("agent", tensors(1), {})
    for n in range(4):
        folder.checkpoint("agent-best", tensors(n), {})
        folder.checkpoint("agent", tensors(n), {"n": n})
    assert folder.load_checkpoint("agent-best") and folder.load_checkpoint("agent")


def test_generators_continue_where_they_were(tmp_path: Path) -> None:
    folder = RunFolder("evaluate", config(tmp_path / "r"))
    generators = {"numpy": np.random.default_rng(3), "torch": torch.Generator().manual_seed(4)}
    generators["numpy"].normal(size=7), torch.rand(5, generator=generators["torch"])
    folder.checkpoint("agent", {}, {}, rng=generators)
    expected = generators["numpy"].normal(size=3), torch.rand(3, generator=generators["torch"])
    fresh = {"numpy": np.random.default_rng(0), "torch": torch.Generator()}
    folder.load_checkpoint("agent", rng=fresh)
    assert np.array_equal(fresh["numpy"].normal(size=3), expected[0])
    assert torch.equal(torch.rand(3, generator=fresh["torch"]), expected[1])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder("evaluate", config(tmp_path / "r"))
    for n in (1, 2):
        folder.checkpoint("agent", tensors(n), {"n": n})
    weights = folder.checkpoints / "agent-2" / "tensors.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    found = folder.load_checkpoint("agent")
    assert found is not None and found.state["n"] == 1
    assert "agent-2" in capsys.readouterr().err
    (folder.checkpoints / "agent-1" / "state.json").unlink()
    with pytest.raises(UserError, match="no readable checkpoint 'agent'"):
        folder.load_checkpoint("agent")


@pytest.mark.parametrize("writes_before", range(3))
def test_a_full_disk_leaves_the_last_good_checkpoint(writes_before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder("evaluate", config(tmp_path / "r"))
    folder.checkpoint("agent", tensors(1), {"n": 1})
    real, count = disk.write_synced, iter(range(100))

    def full(path: Path, content: bytes) -> None:
        if next(count) < writes_before:
            return real(path, content)
        path.write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_synced", full)
        patch.setattr(run, "write_synced", full)
        with pytest.raises(OSError, match="No space left"):
            folder.checkpoint("agent", tensors(2), {"n": 2})
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["agent-1", "agent.json"]
    found = RunFolder("evaluate", config(tmp_path / "r", resume=True)).load_checkpoint("agent")
    assert found is not None and found.state["n"] == 1
    folder.checkpoint("agent", tensors(3), {"n": 3})
    found = folder.load_checkpoint("agent")
    assert found is not None and found.state["n"] == 3


def test_metrics_grow_columns_and_forget_rows_after_the_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder("evaluate", config(tmp_path / "r"))
    folder.log(1, loss=torch.tensor(0.5))
    folder.log(2, loss=0.25, **{"success.after": np.float32(1)})
    folder.checkpoint("agent", {}, {})
    folder.log(3, loss=9.0, late=1)
    with open(folder.path / "metrics.csv", "a") as file:
        file.write("4,0.1")  # killed in the middle of a row
    again = RunFolder("evaluate", config(tmp_path / "r", resume=True))
    assert again.metrics.rows == 2
    again.log(3, loss=0.125)
    columns = read_metrics(tmp_path / "r")
    assert columns["step"] == [1, 2, 3] and columns["loss"] == [0.5, 0.25, 0.125]
    assert columns["success.after"] == [None, 1.0, None]


def test_without_a_checkpoint_a_resumed_run_starts_its_metrics_again(tmp_path: Path) -> None:
    RunFolder("evaluate", config(tmp_path / "r")).log(1, loss=1.0)
    assert RunFolder("evaluate", config(tmp_path / "r", resume=True)).metrics.rows == 0
    assert read_metrics(tmp_path / "r")["step"] == []


def test_finish_marks_the_run_done(tmp_path: Path) -> None:
    folder = RunFolder("evaluate", config(tmp_path / "r"))
    with pytest.raises(UserError, match="not finished"):
        read_result(tmp_path / "r")
    folder.finish({"success": torch.tensor(0.5), "per_episode": np.array([1, 0])})
    assert folder.done and folder.result() == {"success": 0.5, "per_episode": [1, 0]}


CHILD = """
import sys, torch
from imagoal.config import EvaluateConfig
from imagoal.run import RunFolder
folder = RunFolder("evaluate", EvaluateConfig(run=sys.argv[1], policy="p", resume=True))
found = folder.load_checkpoint("agent")
step = found.state["step"] if found else 0
assert found is None or float(found.tensors["w"][0]) == step and folder.metrics.rows == step
print("ready", flush=True)
while True:
    step += 1
    folder.log(step, value=step)
    folder.checkpoint("agent", {"w": torch.full((50_000,), float(step))}, {"step": step})
"""


def test_kill_nine_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    chance, reached = random.Random(0), 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.2 * chance.random())
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        folder = RunFolder("evaluate", config(tmp_path / "r", resume=True))
        found = folder.load_checkpoint("agent")
        assert found is not None and found.state["step"] > reached
        reached = found.state["step"]
        assert torch.equal(found.tensors["w"], torch.full((50_000,), float(reached)))
        assert read_metrics(tmp_path / "r")["value"] == list(range(1, reached + 1))


def test_config_yaml_is_plain(tmp_path: Path) -> None:
    RunFolder("evaluate", config(tmp_path / "r"))
    assert "!!" not in (tmp_path / "r" / "config.yaml").read_text()
    folder = RunFolder("evaluate", config(tmp_path / "r", resume=True))
    folder.checkpoint("agent", {}, {"n": 1})
    assert json.loads((folder.checkpoints / "agent.json").read_text())["kept"] == ["agent-1"]
