"""The command line as a person meets it."""

import errno
import os
import subprocess
import sys
import time
import types

import pytest

from imagoal import cli
from imagoal.config import JOBS


def job_module(monkeypatch: pytest.MonkeyPatch, job: str, main: object) -> None:
    module = types.ModuleType(f"imagoal.jobs.{job}")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"imagoal.jobs.{job}", module)


def test_help_names_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    assert all(name in page for name in JOBS)


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_jobs_help_shows_every_key_and_an_example(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([job, "--help"]) == 0
    page = capsys.readouterr().out
    assert all(f"{key}" in page for key in JOBS[job].config.__dataclass_fields__)
    assert all(example in page for example in JOBS[job].examples)
    assert max(map(len, page.splitlines())) <= 120


def test_help_shows_the_keys_of_a_chosen_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "vision=vqvae", "--help"]) == 0
    assert "  vision.prior.layers=15" in capsys.readouterr().out
    assert cli.main(["train", "vision=vqvea", "--help"]) == 2
    assert "did you mean 'vqvae" in capsys.readouterr().err


def test_a_mistake_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["practice", "epsiodes=5"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["imagoal: unknown key 'epsiodes'; did you mean 'episodes'? See: imagoal practice --help"]
    assert cli.main(["praktice"]) == 2
    assert "did you mean 'practice'?" in capsys.readouterr().err


def test_help_is_quick_and_loads_neither_torch_nor_hydra() -> None:
    code = "import sys; from imagoal.cli import main; main(['practice', '--help']); print(sorted({'torch','hydra','mujoco','numpy'} & set(sys.modules)))"
    began = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert time.perf_counter() - began < 3  # 0.13 s on an idle machine


def test_a_job_receives_its_dataclass(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    job_module(monkeypatch, "evaluate", seen.append)
    assert cli.main(["evaluate", "policy=p", "episodes=3", "run=r"]) == 0
    assert seen == [JOBS["evaluate"].config(run="r", policy="p", episodes=3)]


def test_ctrl_c_says_how_to_continue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(config: object) -> None:
        raise KeyboardInterrupt

    job_module(monkeypatch, "evaluate", stopped)
    assert cli.main(["evaluate", "policy=p", "run=runs/e"]) == 130
    assert "stopped; continue with: imagoal evaluate run=runs/e resume=true" in capsys.readouterr().err


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_one_line(wrapped: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(config: object) -> None:
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/e/big")
        if wrapped:
            raise RuntimeError("cannot save") from error
        raise error

    job_module(monkeypatch, "evaluate", full)
    assert cli.main(["evaluate", "policy=p", "run=runs/e"]) == 2
    line = capsys.readouterr().err
    assert "the disk is full" in line and "resume=true" in line and line.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(config: object) -> None:
        raise ZeroDivisionError

    job_module(monkeypatch, "evaluate", bug)
    with pytest.raises(ZeroDivisionError):
        cli.main(["evaluate", "policy=p", "run=r"])


def test_no_rendering_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from envs.render import RenderError

    def blind(config: object) -> None:
        raise RenderError("no off-screen rendering; apt-get install -y libegl1")

    job_module(monkeypatch, "evaluate", blind)
    assert cli.main(["evaluate", "policy=p", "run=r"]) == 2
    assert "apt-get install" in capsys.readouterr().err
