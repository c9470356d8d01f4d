"""docs/results.md is made from result files."""

import json
from pathlib import Path

import pytest

from imagoal.errors import UserError
from imagoal.jobs.experiment import metric
from imagoal.results import duration, page

RESULT = {
    "experiment": "demo", "command": "imagoal experiment demo seeds=3", "commit": "0123456789abcdef", "machine": "2 cores, no GPU",
    "seeds": [0, 1, 2], "wall_clock_s": 5400,
    "variants": {
        "affordance": {"success_after": {"unit": "fraction", "per_seed": [0.9, 0.86, 0.93], "mean": 0.897, "ci95": [0.86, 0.93]}},
        "no_practice": {},
        "other": {"success_after": {"unit": "fraction", "mean": 0.5}, "steps": {"unit": "steps/s", "mean": 2345.6}},
    },
}  # fmt: skip


def test_a_table_per_experiment(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps(RESULT))
    (tmp_path / "demo.png").write_bytes(b"")
    text = page(tmp_path)
    assert "| success_after | fraction | 0.897 [0.86, 0.93] |  | 0.5 |" in text
    assert "| steps | steps/s |  |  | 2,346 |" in text
    assert "`0123456789`" in text and "3 seeds, 90 min" not in text and "1 h 30 min" in text and "demo.png" in text


def test_an_incomplete_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(json.dumps({"experiment": "bad"}))
    with pytest.raises(UserError, match=r"bad\.json lacks command, commit"):
        page(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        page(tmp_path)


def test_no_results_yet(tmp_path: Path) -> None:
    assert "Nothing measured yet" in page(tmp_path)
    assert duration(45) == "45 s" and duration(720) == "12 min"


def test_many_variants_are_rows_and_every_figure_is_shown(tmp_path: Path) -> None:
    values = {f"model_{i}": {"psnr": {"unit": "dB", "mean": 20.0 + i, "ci95": None}} for i in range(7)}
    (tmp_path / "see.json").write_text(json.dumps({**RESULT, "experiment": "see", "variants": {**values, "none": {}}}))
    for name in ("see", "see_samples", "seen"):
        (tmp_path / f"{name}.png").write_bytes(b"")
    text = page(tmp_path)
    assert "| variant | psnr, dB |" in text and "| model_3 | 23 |" in text and "| none |  |" in text
    assert "see.png" in text and "see_samples.png" in text and "seen.png" not in text


def test_intervals_of_shares_end_where_shares_do() -> None:
    assert metric([0.9, 1.0, 1.0], "fraction")["ci95"][1] == 1.0
    assert metric([0.0, 0.1, 0.0], "fraction")["ci95"][0] == 0.0
    assert metric([0.9, 1.0, 1.0], "m")["ci95"][1] > 1.0
    assert metric([-0.4, 0.5, 1.0], "fraction")["ci95"][0] < -0.4  # no share: it goes below 0
