"""Progress is a bar on a terminal and a few lines elsewhere."""

import pytest
import torch

from imagoal import progress as module
from imagoal.progress import BarProgress, progress


def test_elsewhere_it_says_little_and_ends_with_where_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("pretrain", 100, done=20) as bar:
        for _ in range(80):
            bar.advance(loss=torch.tensor(0.5))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("pretrain 100/100 100%") and lines[0].endswith("loss 0.5")


def test_a_long_job_says_where_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)
    with progress("collect", 2) as bar:
        bar.advance()
        bar.advance()
    assert "collect 1/2 50%" in capsys.readouterr().err


def test_the_bar_counts(capsys: pytest.CaptureFixture[str]) -> None:
    bar = BarProgress("train", 3, done=1)
    bar.advance(2, loss=0.25)
    bar.bars.stop()
    assert bar.bars.tasks[0].completed == 3
