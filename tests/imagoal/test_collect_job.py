"""`imagoal collect` as a person runs it: what it leaves, how it dies, how it goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from envs.columns import open_columns
from imagoal.cli import main

WORDS = ["collect", "episodes=6", "scenes=3", "horizon=4", "workers=1"]


def collect_in(folder: Path, *words: str) -> int:
    return main([*WORDS, f"run={folder}", *words])


def test_a_run_and_going_on_with_it(tmp_path: Path) -> None:
    run = tmp_path / "data"
    assert collect_in(run) == 0
    result = json.loads((run / "result.json").read_text())
    assert (result["episodes"], result["frames"]) == (6, 30) and "all" in result["expert_success"]
    assert (run / "films" / "sample.gif").stat().st_size > 500
    page = (run / "report.html").read_text()
    assert "Collected trajectories" in page and "The scripted expert" in page and "The random policy" in page
    assert main(["collect", f"run={run}", "resume=true"]) == 0  # nothing to do
    (run / "result.json").unlink()  # killed before the end: everything is there already
    assert main(["collect", f"run={run}", "resume=true"]) == 0
    assert json.loads((run / "result.json").read_text())["expert_success"] == result["expert_success"]


def test_trajectories_of_different_lengths(tmp_path: Path) -> None:
    run = tmp_path / "data"
    assert collect_in(run, "horizon=30", "linger=2") == 0
    result = json.loads((run / "result.json").read_text())
    assert 6 * 3 < result["frames"] < 6 * 31
    assert re.search(r"\d+ to 30 steps each", (run / "report.html").read_text())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["expert_share=2"], "expert_share must lie between 0 and 1, not 2.0"),
        (["env.kinds=block,robot"], "a scene needs at least two different kinds"),
        (["env.image_size=50"], "env.image_size=50 is not a choice"),
    ],
)
def test_wrong_values(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    assert collect_in(tmp_path / "data", *words) == 2
    assert line in capsys.readouterr().err and not (tmp_path / "data").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_and_continued(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C or kill -9 amid collecting by two processes; the continued run has the data of an uninterrupted one."""
    words = ["episodes=60", "scenes=30", "horizon=6", "workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "imagoal", "collect", *words, f"run={tmp_path / 'stopped'}"],
        cwd=Path(__file__).parents[2], start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("stopped/shards/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to the workers too
    else:
        process.kill()
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert code != 130 or ("stopped; continue with: imagoal collect run=" in said and "Traceback" not in said)
    assert not (tmp_path / "stopped" / "result.json").exists()
    assert main(["collect", f"run={tmp_path / 'stopped'}", "resume=true"]) == 0
    assert main(["collect", *words[:3], "workers=1", f"run={tmp_path / 'whole'}"]) == 0
    stopped, whole = (open_columns(tmp_path / name / "columns") for name in ("stopped", "whole"))
    assert np.array_equal(stopped.image, whole.image) and np.array_equal(stopped.action, whole.action)
    assert sorted(p.name for p in (tmp_path / "stopped").iterdir()) == sorted(p.name for p in (tmp_path / "whole").iterdir())
