"""Columns: what is written is what is read, and bad data are refused by name."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from envs.columns import Columns, ColumnsWriter, open_columns, read_meta, validate

LENGTHS = (4, 3, 5)  # observations of each episode


def episode(length: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 255, (length, 8, 8, 3), dtype=np.uint8),
        "proprio": rng.standard_normal((length, 2)).astype(np.float32),
        "action": rng.uniform(-1, 1, (length - 1, 2)).astype(np.float32),
        "state": rng.standard_normal((length, 4)).astype(np.float32),
        "scene": seed,
    }


def write(folder: Path, **change: object) -> Columns:
    with ColumnsWriter(folder, sum(LENGTHS), len(LENGTHS), (8, 8, 3), 2, 2, 4) as writer:
        for i, length in enumerate(LENGTHS):
            writer.append(**(episode(length, i) | (change if i == 1 else {})))
        return writer.close({"split": "train"})


def test_round_trip(tmp_path: Path) -> None:
    columns = write(tmp_path / "columns")
    assert (len(columns), columns.episodes, columns.meta) == (12, 3, {"split": "train"})
    assert columns.start.tolist() == [0, 4, 7] and columns.end.tolist() == [4, 7, 12] and columns.scene.tolist() == [0, 1, 2]
    for i, (begin, end) in enumerate(zip(columns.start, columns.end, strict=True)):
        wanted = episode(LENGTHS[i], i)
        for name in ("image", "proprio", "state"):
            assert np.array_equal(getattr(columns, name)[begin:end], wanted[name])
        assert np.array_equal(columns.action[begin : end - 1], wanted["action"])
        assert not columns.action[end - 1].any()  # unused
    assert isinstance(columns.image, np.memmap) and not columns.image.flags.writeable
    assert sorted(p.name for p in tmp_path.iterdir()) == ["columns"]


def test_columns_of_no_width(tmp_path: Path) -> None:
    with ColumnsWriter(tmp_path / "c", 3, 1, (8, 8, 3), 0, 2, 0) as writer:
        writer.append(**(episode(3, 0) | {"proprio": np.zeros((3, 0)), "state": np.zeros((3, 0))}))
        columns = writer.close()
    assert columns.proprio.shape == (3, 0) and open_columns(tmp_path / "c").state.shape == (3, 0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"action": np.array([[0, 0], [0, np.nan]])}, r"episode 1 has an action that is NaN or infinite at step 1 \(1 of 3"),
        ({"action": np.array([[0, 1.5], [0, 0]])}, r"episode 1 has an action outside \[-1, 1\] at step 0"),
        ({"proprio": np.full((3, 2), np.inf)}, "episode 1 has a proprio value that is NaN"),
        ({"action": np.zeros((3, 2))}, "episode 1: 3 images, 3 proprio, 3 states and 3 actions do not belong together"),
        ({"image": np.zeros((3, 9, 8, 3), np.uint8)}, r"episode 1: images must be uint8 \(8, 8, 3\), not uint8 \(9, 8, 3\)"),
        ({"image": np.zeros((3, 8, 8, 3), np.float32)}, "episode 1: images must be uint8"),
    ],
)
def test_bad_episodes_are_refused_and_leave_nothing(tmp_path: Path, change: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        write(tmp_path / "columns", **change)
    assert not list(tmp_path.iterdir())


def test_an_older_folder_survives_a_failed_writer(tmp_path: Path) -> None:
    write(tmp_path / "columns")
    with pytest.raises(ValueError, match="NaN"):
        write(tmp_path / "columns", action=np.full((2, 2), np.nan))
    assert len(open_columns(tmp_path / "columns")) == 12


def test_short_episodes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"episode 1 has 1 steps, an episode needs at least 2 \(1 of 2 episodes"):
        with ColumnsWriter(tmp_path / "c", 5, 2, (8, 8, 3), 2, 2, 4) as writer:
            writer.append(**episode(3, 0))
            writer.append(**episode(2, 1))
            writer.close()


def test_unfinished_writers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 episodes with 3 rows were written, not all"):
        with ColumnsWriter(tmp_path / "c", 5, 2, (8, 8, 3), 2, 2, 4) as writer:
            writer.append(**episode(3, 0))
            writer.close()


def test_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no columns"):
        open_columns(tmp_path)
    write(tmp_path / "c")
    whole = (tmp_path / "c" / "image.npy").read_bytes()
    (tmp_path / "c" / "image.npy").write_bytes(whole[:200])
    with pytest.raises(ValueError, match="column image cannot be read"):
        open_columns(tmp_path / "c")
    (tmp_path / "c" / "image.npy").write_bytes(whole)
    (tmp_path / "c" / "action.npy").unlink()
    with pytest.raises(ValueError, match="column action is missing"):
        open_columns(tmp_path / "c")
    (tmp_path / "c" / "columns.json").write_text("{")
    with pytest.raises(ValueError, match="not readable JSON"):
        read_meta(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"image": np.zeros((12, 8, 8, 3), np.float32)}, "column image must be uint8, not float32"),
        ({"image": np.zeros((12, 8, 8), np.uint8)}, r"column image must be \(N, H, W, 3\)"),
        ({"state": np.zeros((11, 4), np.float32)}, r"column state must be \(12, ...\)"),
        ({"start": np.array([0, 4, 8])}, "must cover the rows"),
        ({"scene": np.array([0])}, "differ in length"),
    ],
)
def test_validate(tmp_path: Path, change: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        validate(dataclasses.replace(write(tmp_path / "c"), **change))
