"""Collection: the same data however it was collected, and bad datasets refused by name."""

import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest

from envs.collect import Plan, WorkerDied, assemble, collect, collect_shards, outcomes, read_shard
from envs.columns import Columns, open_columns
from envs.trajectories import MAIN_FILE, Episode, MinariWriter, columns_from_minari

PLAN = Plan(episodes=7, scenes=3, horizon=6, seed=4)
NAMES = ("image", "proprio", "action", "state", "start", "end", "scene")


def same(a: Columns, b: Columns) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in NAMES)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collected")
    collect(PLAN, folder, workers=1)
    return folder


def test_what_is_left_behind(collected: Path) -> None:
    assert sorted(p.name for p in collected.iterdir()) == ["columns", "minari"]
    columns = open_columns(collected / "columns")
    assert len(columns) == 7 * 7 and columns.episodes == 7
    assert sorted(columns.scene.tolist()) == [0, 0, 0, 1, 1, 2, 2]
    assert columns.meta["split"] == "train" and columns.meta["kinds"] == list(PLAN.kinds)


def test_minari_reads_it(collected: Path) -> None:
    dataset = minari.MinariDataset(collected / "minari")
    columns = open_columns(collected / "columns")
    assert (dataset.total_episodes, dataset.total_steps) == (7, 42)
    for e, episode in enumerate(dataset):
        begin, end = columns.start[e], columns.end[e]
        assert np.array_equal(episode.observations["image"], columns.image[begin:end])
        assert np.array_equal(episode.observations["proprio"], columns.proprio[begin:end])
        assert np.array_equal(episode.actions, columns.action[begin : end - 1])
        assert np.array_equal(episode.infos["state"], columns.state[begin:end])
        assert (episode.infos["scene"] == columns.scene[e]).all()
        assert episode.truncations.tolist() == [False] * 5 + [True] and not episode.terminations.any()
    assert dataset.observation_space["image"].contains(episode.observations["image"][0])
    environment = dataset.recover_environment()
    assert environment.reset(seed=0)[0]["observation"].shape == (48, 48, 3)


def test_conversion_gives_the_same_columns_once(collected: Path, tmp_path: Path) -> None:
    columns = columns_from_minari(collected / "minari", tmp_path / "c")
    direct = open_columns(collected / "columns")
    assert same(columns, direct) and columns.meta == direct.meta
    written = (tmp_path / "c" / "columns.json").stat().st_mtime_ns
    columns_from_minari(collected / "minari", tmp_path / "c")
    assert (tmp_path / "c" / "columns.json").stat().st_mtime_ns == written
    metadata = collected / "minari" / "metadata.json"
    metadata.write_text(metadata.read_text() + "\n")  # a changed dataset is converted again
    columns_from_minari(collected / "minari", tmp_path / "c")
    assert (tmp_path / "c" / "columns.json").stat().st_mtime_ns > written


def test_processes_do_not_change_the_data(collected: Path, tmp_path: Path) -> None:
    assert same(collect(PLAN, tmp_path, workers=2), open_columns(collected / "columns"))


def test_a_killed_worker_is_said_and_nothing_is_lost(collected: Path, tmp_path: Path) -> None:
    def kill(n: int) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(WorkerDied, match="a collecting process died"):
        collect_shards(dataclasses.replace(PLAN, episodes=60, scenes=30), tmp_path / "other", 2, kill)
    assert list((tmp_path / "other").glob("*.npz"))


def test_a_killed_worker_is_replaced(collected: Path, tmp_path: Path) -> None:
    said: list[int] = []

    def kill_once(n: int) -> None:
        said.append(n)
        if len(said) == 1:
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    collect_shards(PLAN, tmp_path / "shards", 2, kill_once)
    assert sum(said) == PLAN.episodes
    assert same(assemble(PLAN, tmp_path, lambda n: None), open_columns(collected / "columns"))


def test_resuming_collects_only_what_is_missing(collected: Path, tmp_path: Path) -> None:
    collect_shards(PLAN, tmp_path / "shards", 1, lambda n: None)
    shards = sorted((tmp_path / "shards").iterdir())
    shards[1].unlink()
    (tmp_path / "shards" / ".000002-2.npz.tmp-123").write_bytes(b"killed while writing")
    kept = shards[0].stat().st_mtime_ns
    done: list[int] = []
    collect_shards(PLAN, tmp_path / "shards", 1, done.append)
    assert shards[0].stat().st_mtime_ns == kept and sum(done) == 7
    assert sorted((tmp_path / "shards").iterdir()) == shards
    assert same(collect(PLAN, tmp_path, workers=1), open_columns(collected / "columns"))
    assert same(collect(PLAN, tmp_path, workers=1), open_columns(collected / "columns"))  # nothing left to do


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    collect_shards(Plan(2, 1, 3), tmp_path, 1, lambda n: None)
    (tmp_path / "000000-2.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match=r"000000-2.npz cannot be read .* delete it"):
        list(read_shard(Plan(2, 1, 3), tmp_path, (0, 1)))


def test_the_columns_come_back_when_deleted(collected: Path, tmp_path: Path) -> None:
    columns = collect(PLAN, tmp_path, workers=1)
    for path in (tmp_path / "columns").iterdir():
        path.unlink()
    assert same(collect(PLAN, tmp_path, workers=1), columns)


def test_seeds_and_sizes_matter(collected: Path, tmp_path: Path) -> None:
    other = collect(dataclasses.replace(PLAN, seed=5, image_size=64, kinds=("lever", "drawer")), tmp_path, workers=1)
    assert other.image.shape == (49, 64, 64, 3)
    assert not np.array_equal(other.state, open_columns(collected / "columns").state)


def test_a_longer_collection_begins_with_the_shorter_one() -> None:
    """Whether the expert acts does not depend on how many episodes there are, and its share is kept."""
    for share in (0.0, 0.25, 0.5, 0.7, 1.0):
        short, long = Plan(40, 10, expert_share=share), Plan(400, 10, expert_share=share)
        experts = [long.by_expert(e) for e in range(400)]
        assert [short.by_expert(e) for e in range(40)] == experts[:40]
        assert abs(np.mean(experts) - share) < 0.02 and abs(np.mean(experts[:10]) - share) < 0.2


@pytest.mark.parametrize("family", ["tabletop", "desk"])
def test_trajectories_end_some_steps_after_the_expert_has_finished(tmp_path: Path, family: str) -> None:
    """They are the beginnings of those that go on to the horizon, and what was to be done is done; random ones have all steps."""
    whole, cut = (collect(Plan(8, 2, 75, 0.5, family=family, linger=linger), tmp_path / str(linger), 1) for linger in (-1, 4))
    steps = (cut.end - cut.start - 1).tolist()
    plan = Plan(8, 2, 75, 0.5, family=family)
    by_expert = [plan.by_expert(number) for shard in plan.shards() for number in shard]
    assert all(10 < n < 75 if expert else n == 75 for n, expert in zip(steps, by_expert, strict=True)) and len(set(steps)) > 2
    for e, n in enumerate(steps):
        begun, all_of = cut.start[e], whole.start[e]
        for name in ("image", "state", "proprio"):
            assert np.array_equal(getattr(cut, name)[begun : begun + n + 1], getattr(whole, name)[all_of : all_of + n + 1])
        assert np.array_equal(cut.action[begun : begun + n], whole.action[all_of : all_of + n])
    assert outcomes(plan, cut)["expert"]["all"] == (4, 4)


def test_every_episode_is_in_one_shard_of_its_scene() -> None:
    plan = Plan(1000, 7)
    shards = plan.shards()
    assert sorted(e for shard in shards for e in shard) == list(range(1000))
    assert all(len({e % 7 for e in shard}) == 1 and len(shard) <= 16 for shard in shards)
    assert len(Plan(3, 10).shards()) == 3


def test_outcomes_count_the_experts_thing() -> None:
    plan = Plan(4, 2, horizon=2, expert_share=0.5)
    order = [number for shard in plan.shards() for number in shard]
    state = np.zeros((12, 4), np.float32)
    state[2::3, 2:] = 1.0  # both things of every episode end at their other end
    columns = Columns(
        np.zeros((12, 8, 8, 3), np.uint8), state[:, :2], state[:, :2], state, np.arange(0, 12, 3), np.arange(3, 13, 3),
        np.array(order) % 2,
    )  # fmt: skip
    counts = outcomes(plan, columns)
    experts = sum(plan.by_expert(e) for e in range(4))
    assert counts["expert"]["all"] == (experts, experts) and counts["random"]["all"] == (2 * (4 - experts),) * 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"episodes": 0}, "at least 1"),
        ({"horizon": 1}, "horizon must be at least 2"),
        ({"expert_share": 1.5}, "between 0 and 1"),
        ({"linger": -2}, "linger must be at least 0"),
        ({"elsewhere": 1.5}, "elsewhere must lie between 0 and 1"),
        ({"split": "test"}, "split must be one of"),
        ({"kinds": ("block",)}, "at least two different kinds"),
    ],
)
def test_plans_out_of_range(change: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        dataclasses.replace(PLAN, **change)


# -- bad datasets -------------------------------------------------------------------------------------------------------


def dataset(path: Path, spoil: Callable[[h5py.File], None] = lambda file: None, steps: tuple[int, ...] = (3, 3)) -> Path:
    """A small dataset whose file was changed by `spoil`."""
    with MinariWriter(path, "train") as writer:
        for number, n in enumerate(steps):
            images = np.full((n + 1, 32, 32, 3), number, np.uint8)
            numbers = np.zeros((n + 1, 2), np.float32)
            writer.append(Episode(images, numbers, numbers, np.zeros((n, 2), np.float32), 0, number, "random"))
        writer.close("imagoal/test-v0")
    with h5py.File(path / MAIN_FILE, "a") as file:
        spoil(file)
    return path


def set_nan(file: h5py.File) -> None:
    file["episode_1/actions"][2, 0] = np.nan


def set_large(file: h5py.File) -> None:
    file["episode_1/actions"][0, 1] = -7.0


def drop_episode(file: h5py.File) -> None:
    del file["episode_1"]


def drop_actions(file: h5py.File) -> None:
    del file["episode_1/actions"]


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (set_nan, "episode 1 has an action that is NaN or infinite at step 2"),
        (set_large, r"episode 1 has an action outside \[-1, 1\] at step 0"),
        (drop_episode, "episode 1 cannot be read"),
        (drop_actions, "episode 1 cannot be read"),
    ],
)
def test_bad_datasets_are_refused(tmp_path: Path, spoil: Callable[[h5py.File], None], line: str) -> None:
    path = dataset(tmp_path / "data", spoil)
    with pytest.raises(ValueError, match=line) as error:
        columns_from_minari(path, tmp_path / "columns")
    assert str(path) in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_short_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="episode 1 has 1 steps, an episode needs at least 2"):
        columns_from_minari(dataset(tmp_path / "data", steps=(3, 1, 3)), tmp_path / "columns")


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="doesn't exist"):
        columns_from_minari(tmp_path / "nothing", tmp_path / "columns")
    path = dataset(tmp_path / "data")
    (path / MAIN_FILE).write_bytes((path / MAIN_FILE).read_bytes()[:3000])  # truncated
    with pytest.raises(ValueError, match="cannot be read as a Minari dataset"):
        columns_from_minari(path, tmp_path / "columns")
    with pytest.raises(ValueError, match="no episodes"):
        with MinariWriter(tmp_path / "empty", "train") as writer:
            writer.close("imagoal/test-v0")


def test_a_dataset_of_plain_pictures(tmp_path: Path) -> None:
    """A dataset of another maker: the observation is the picture, compressed by Minari, and there are no infos."""
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    path = tmp_path / "data"
    storage = MinariStorage.new(path, spaces.Box(0, 255, (32, 32, 3), np.uint8), spaces.Box(-1, 1, (1,), np.float32))
    images = np.full((4, 32, 32, 3), 128, np.uint8)
    zeros = [0.0] * 3
    buffer = EpisodeBuffer(observations=list(images), actions=[np.zeros(1, np.float32)] * 3, rewards=zeros,
                           terminations=[False] * 3, truncations=[False] * 3)  # fmt: skip
    storage.update_episodes([buffer])
    storage.update_metadata({"dataset_id": "a-v0", "minari_version": minari.__version__})
    columns = columns_from_minari(path, tmp_path / "columns")
    assert np.abs(columns.image.astype(int) - 128).max() <= 2
    assert columns.proprio.shape == (4, 0) and columns.state.shape == (4, 0) and columns.scene.tolist() == [0]


def test_a_dataset_without_pictures(tmp_path: Path) -> None:
    def blind(file: h5py.File) -> None:
        del file["episode_0/observations/image"]

    with pytest.raises(ValueError, match=r"episode 0 has no pictures .* \['proprio'\]"):
        columns_from_minari(dataset(tmp_path / "data", blind), tmp_path / "columns")


def test_a_relative_folder_works_as_an_absolute_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = Plan(episodes=2, scenes=1, horizon=3)
    columns = collect(plan, Path("here"), workers=1)
    assert columns.episodes == 2 and columns_from_minari("here/minari", "again").episodes == 2
