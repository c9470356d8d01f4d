"""Data of every kind become the same pictures; conversions resume; what is bad is named, counted or refused."""

import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import h5py
import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from envs.columns import ColumnsWriter
from envs.trajectories import Episode, MinariWriter
from vision.pictures import Pictures, open_pictures, split_rows
from vision.sources import base, convert, find
from vision.sources.pixels import fit, read_image, rgb8
from vision.sources.video import Video

SIZE, E, T = 32, 3, 6
ROOT = Path(__file__).resolve().parents[2]


def film(episode: int = 0, length: int = T, size: int = SIZE) -> np.ndarray:
    """Smooth pictures (length, size, size, 3), each its own: a disc that moves, a shade for the moment and one for the episode."""
    y, x = np.mgrid[:size, :size] / size
    frames = []
    for t in range(length):
        disc = 160 * np.exp(-(((x - (t + 1) / (length + 1)) ** 2 + (y - 0.3) ** 2) / 0.03))
        frames.append(np.stack([20 + 30 * (t % 6) + disc / 3, 30 + 50 * episode + 60 * x, 200 - 120 * y - 10 * t], -1))
    return np.clip(frames, 0, 255).astype(np.uint8)


FILMS = [film(e) for e in range(E)]
ALL = np.concatenate(FILMS)
ENDS = np.cumsum([T] * E)
STATES = np.arange(E * T * 2, dtype=np.float32).reshape(E * T, 2)


def opened(data: Path, tmp_path: Path, size: int = SIZE, **settings) -> Pictures:
    """Pictures of `data`, decoded in this process, with all their promises checked."""
    pictures = open_pictures(data, size, tmp_path / "keep", **{"workers": 1, **settings})
    n = len(pictures.image)
    assert pictures.image.shape == (n, size, size, 3) and pictures.image.dtype == np.uint8
    assert not pictures.image.flags.writeable
    assert pictures.start[0] == 0 and pictures.end[-1] == n and np.array_equal(pictures.start[1:], pictures.end[:-1])
    assert len(pictures.state) == n and pictures.state.dtype == np.float32
    assert pictures.scene.shape == pictures.start.shape
    return pictures


def write_video(path: Path, frames: np.ndarray, fps: float = 10.0, lossless: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter_fourcc(*("FFV1" if lossless else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, fps, frames.shape[2:0:-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def write_folder(path: Path, frames: np.ndarray) -> Path:
    for i, frame in enumerate(frames):
        file = path / f"class{i % 2}" / f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(file, compress_level=1)
    return path


def folder_order(frames: np.ndarray) -> np.ndarray:
    """Pictures as `write_folder` sorts them."""
    return np.concatenate([frames[::2], frames[1::2]])


def close(images: np.ndarray, truth: np.ndarray, error: float = 6.0) -> bool:
    """Whether videos of these were decoded to those: each to its own and not to its neighbour."""
    each = np.abs(images.astype(int) - truth).mean((1, 2, 3))
    return images.shape == truth.shape and bool((each < error).all())


# --- every kind ---------------------------------------------------------------------------------------------------------


def test_the_films_differ_more_than_video_errs():
    """So that `close` would see a frame taken for its neighbour."""
    assert min(np.abs(ALL[i].astype(int) - ALL[i + 1]).mean() for i in range(len(ALL) - 1)) > 12


def test_image_folder(tmp_path):
    folder = write_folder(tmp_path / "data", ALL)
    calls = []
    pictures = opened(folder, tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert np.array_equal(pictures.image, folder_order(ALL)) and isinstance(pictures.image, np.memmap)
    assert not pictures.trajectories and pictures.episodes == 18 and pictures.state.shape == (18, 0)
    assert calls[0] == (0, 18) and calls[-1] == (18, 18)
    assert pictures.source["kind"] == "images" and pictures.source["name"] == "data"


def test_image_folder_of_all_sorts_is_read_as_read_image_does(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rgb = film(size=48)[0]
    Image.fromarray(rgb).save(folder / "a.jpg")
    Image.fromarray(rgb[..., 0]).save(folder / "b_grey.png")
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(folder / "c_deep.png")
    Image.fromarray(np.dstack([rgb, np.zeros((48, 48), np.uint8)])).save(folder / "d_clear.png")
    Image.fromarray(rgb[..., 0].astype(np.float32) / 255).save(folder / "e_float.tiff")
    Image.fromarray(rgb[..., 0].astype(np.float32)).save(folder / "f_beyond.tiff")
    (folder / ".hidden.png").write_text("none")
    pictures = opened(folder, tmp_path, max_bad_share=0.2)
    names = ["a.jpg", "b_grey.png", "c_deep.png", "d_clear.png", "e_float.tiff"]
    for image, name in zip(pictures.image, names, strict=True):
        assert np.array_equal(image, read_image(folder / name, SIZE)), name
    grey = pictures.image[1].astype(int)
    assert np.abs(pictures.image[2] - grey).max() <= 1 and np.abs(pictures.image[4] - grey).max() <= 1
    assert (pictures.image[3] == 255).all()
    assert [what for what, _ in pictures.skipped] == ["f_beyond.tiff"] and "[0, 1]" in pictures.skipped[0][1]


def test_video_file_lossless_to_the_pixel(tmp_path):
    path = write_video(tmp_path / "one.avi", film(length=20), lossless=True)
    pictures = opened(path, tmp_path)
    assert pictures.trajectories and pictures.episodes == 1
    assert np.abs(pictures.image.astype(int) - film(length=20)).max() <= 3  # FFV1 keeps YUV


def test_video_folder_in_natural_order(tmp_path):
    for e, name in enumerate(["run2.mp4", "run10.mp4", "sub/run1.mp4"]):
        write_video(tmp_path / "data" / name, FILMS[e])
    pictures = opened(tmp_path / "data", tmp_path)
    assert close(pictures.image, ALL) and pictures.end.tolist() == ENDS.tolist() and pictures.trajectories


def test_av1_which_opencv_cannot_decode(tmp_path):
    """LeRobot writes AV1. Every frame, those at a rate, and those from the middle on are the right ones."""
    frames = film(length=40, size=64)
    path = tmp_path / "a.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x64", "-r", "10"]
    command += ["-i", "-", "-c:v", "libsvtav1", "-pix_fmt", "yuv420p", "-g", "20", str(path)]
    made = subprocess.run(command, input=frames.tobytes(), capture_output=True)
    if made.returncode:
        pytest.skip(f"this ffmpeg writes no AV1: {made.stderr!r}")
    pictures = opened(path, tmp_path, size=64)
    assert close(pictures.image, frames)
    assert np.array_equal(opened(path, tmp_path, size=64, fps=5).image, pictures.image[::2])
    small = opened(path, tmp_path, size=16)
    assert close(small.image, np.stack([fit(frame, 16) for frame in frames]))
    for first in (1, 7, 19, 20, 39):
        video = Video(path)
        assert video.seek(first) and np.array_equal(video.read(64)[0], pictures.image[first])
        assert (video.read(64) is None) == (first == 39)
        video.close()
        counting = Video(path)
        assert all(counting.skip() for _ in range(first)) and np.array_equal(counting.read(64)[0], pictures.image[first])
        counting.close()


def test_long_videos_seek_to_the_very_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", np.concatenate([film(e, length=40) for e in range(5)]))
    frames = opened(path, tmp_path).image
    assert len(frames) == 200
    for first in (0, 1, 11, 12, 99, 150, 199):
        video = Video(path)
        assert video.seek(first) and np.array_equal(video.read(SIZE)[0], frames[first])
        if first < 199:
            assert video.seek(first + 1) and np.array_equal(video.read(SIZE)[0], frames[first + 1])
        assert video.seek(0) and video.skip() and np.array_equal(video.read(SIZE)[0], frames[1])
        video.close()


@pytest.mark.parametrize(("fps", "rows"), [(10, range(0, 60, 3)), (12, [0, 3, 5, 8, 10]), (30, range(60)), (90, range(60))])
def test_video_frames_at_a_chosen_rate(tmp_path, fps, rows):
    path = write_video(tmp_path / "v.avi", film(length=60), fps=30, lossless=True)
    image = opened(path, tmp_path, fps=fps).image
    expected = film(length=60)[list(rows)]
    assert np.abs(image[: len(expected)].astype(int) - expected).max() <= 3
    assert len(image) == (24 if fps == 12 else len(expected)), "30 to 12 per second keeps 2 of 5"


def test_npz_stored_and_compressed_with_ends_and_states(tmp_path):
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        save(tmp_path / name, images=ALL, episode_ends=ENDS, state=STATES)
        pictures = opened(tmp_path / name, tmp_path)
        assert np.array_equal(pictures.image, ALL) and pictures.trajectories and pictures.end.tolist() == ENDS.tolist()
        assert np.array_equal(pictures.state, STATES)


@pytest.mark.parametrize("form", ["episodes", "index", "terminals", "timeouts", "loose", "npy", "fortran", "fortran_zip"])
def test_npz_forms(tmp_path, form):
    path = tmp_path / "data.npz"
    last = np.isin(np.arange(18) + 1, ENDS)
    if form == "episodes":
        np.savez_compressed(path, observations=np.stack(FILMS), states=STATES.reshape(E, T, 2))
    elif form == "index":
        np.savez(path, image=ALL, episode_index=np.repeat([4, 2, 7], T))
    elif form == "terminals":
        np.savez(path, image=ALL, terminals=last.astype(np.float32), timeouts=np.zeros(18, bool))
    elif form == "timeouts":
        np.savez(path, image=ALL, timeouts=np.append(last[:-1], False))
    elif form == "loose":
        np.savez(path, pixels=ALL, states=STATES)
    elif form.startswith("fortran"):
        (np.savez_compressed if form.endswith("zip") else np.savez)(path, image=np.asfortranarray(ALL), episode_ends=ENDS)
    else:
        path = tmp_path / "data.npy"
        np.save(path, np.stack(FILMS))
    pictures = opened(path, tmp_path)
    assert np.array_equal(pictures.image, ALL)
    assert pictures.trajectories == (form != "loose")
    assert pictures.end.tolist() == (list(range(1, 19)) if form == "loose" else ENDS.tolist())
    assert np.array_equal(pictures.state, STATES if form in ("episodes", "loose") else np.zeros((18, 0)))


def test_compressed_archives_are_streamed(tmp_path, monkeypatch):
    from vision.sources import npz

    np.savez_compressed(tmp_path / "a.npz", images=np.concatenate([ALL] * 20))
    whole = []
    monkeypatch.setattr(npz, "_whole", lambda *a: whole.append(a))
    read = []
    monkeypatch.setattr(npz._Stream, "_begin", lambda self, begin=npz._Stream._begin: (read.append(1), begin(self)))
    pictures = opened(tmp_path / "a.npz", tmp_path)
    assert np.array_equal(pictures.image, np.concatenate([ALL] * 20)) and not whole and len(read) == 1


def test_hdf5_robomimic(tmp_path):
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        for e in (2, 0, 1):
            for n in (e, e + 10):
                group = file.create_group(f"data/demo_{n}")
                group["states"] = STATES[e * T : e * T + T]
                group["actions"] = np.zeros((T, 7))
                for key, shift in (("agentview_image", 0), ("wrist_image", 9)):
                    group[f"obs/{key}"] = FILMS[e] + np.uint8(shift)
                    group[f"next_obs/{key}"] = FILMS[e]
    with pytest.raises(ValueError, match=r"several columns of pictures: .*agentview_image.*wrist_image.*image_key=data/\*/obs/agent"):
        opened(tmp_path / "demo.hdf5", tmp_path)
    pictures = opened(tmp_path / "demo.hdf5", tmp_path, image_key="obs/agentview_image")
    assert np.array_equal(pictures.image, np.concatenate([ALL, ALL])), "demo_2 comes before demo_10"
    assert pictures.end.tolist() == list(range(6, 37, 6)) and np.array_equal(pictures.state, np.concatenate([STATES] * 2))
    with pytest.raises(ValueError, match="fits several columns"):
        opened(tmp_path / "demo.hdf5", tmp_path, image_key="agentview_image")


@pytest.mark.parametrize("form", ["groups", "datasets", "ends", "meta", "index", "loose", "episodes", "channels", "float"])
def test_hdf5_forms(tmp_path, form):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if form == "groups":
            for e in range(E):
                file[f"a/b/traj{e}/cam1/rgb"] = FILMS[e]
                file[f"a/b/traj{e}/state"] = STATES[e * T : e * T + T]
        elif form == "datasets":
            for e in range(E):
                file[f"episode_{e}"] = FILMS[e]
        elif form == "episodes":
            file["observations"], file["states"] = np.stack(FILMS), STATES.reshape(E, T, 2)
        else:
            file["x/image"] = ALL
            if form == "channels":
                del file["x/image"]
                file["x/image"] = ALL.transpose(0, 3, 1, 2)
            if form == "float":
                del file["x/image"]
                file["x/image"] = ALL.astype(np.float32) / 255
            if form in ("ends", "channels", "float"):
                file["x/episode_ends"] = ENDS
            if form == "meta":
                file["meta/episode_ends"] = ENDS
            if form == "index":
                file["episode_index"], file["state"] = np.repeat(range(E), T), STATES
    pictures = opened(tmp_path / "a.h5", tmp_path)
    assert np.array_equal(pictures.image, ALL)
    assert pictures.trajectories == (form != "loose")
    assert pictures.end.tolist() == (list(range(1, 19)) if form == "loose" else ENDS.tolist())
    assert np.array_equal(pictures.state, STATES if form in ("groups", "episodes", "index") else np.zeros((18, 0)))


def episodes() -> list[Episode]:
    zero = np.zeros((T, 0), np.float32)
    return [
        Episode(FILMS[e], zero, STATES[e * T : e * T + T], np.zeros((T - 1, 2), np.float32), 7 + e, e, "expert") for e in range(E)
    ]


def write_minari(path: Path) -> Path:
    with MinariWriter(path, "train") as writer:
        for episode in episodes():
            writer.append(episode)
        writer.close("imagoal/test-v0", {"split": "train", "kinds": ["mug"]})
    return path


@pytest.mark.parametrize("inner", ["", "data"])
def test_minari(tmp_path, inner):
    write_minari(tmp_path / "set" / inner)
    pictures = opened(tmp_path / "set", tmp_path)
    assert np.array_equal(pictures.image, ALL) and pictures.end.tolist() == ENDS.tolist() and pictures.trajectories
    assert np.array_equal(pictures.state, STATES) and pictures.scene.tolist() == [7, 8, 9]
    assert pictures.meta["split"] == "train" and pictures.source["kind"] == "minari"
    with pytest.raises(ValueError, match=r"no column wrist; its columns are image .*"):
        opened(tmp_path / "set", tmp_path, image_key="wrist")


def test_minari_damage(tmp_path):
    path = write_minari(tmp_path / "set")
    with h5py.File(path / "main_data.hdf5", "a") as file:
        del file["episode_1/observations/image"]
    with pytest.raises(ValueError, match=r"1 of 3 episodes cannot be used.*episode 1: KeyError"):
        opened(path, tmp_path)
    assert np.array_equal(opened(path, tmp_path, max_bad_share=0.4).image, np.concatenate([FILMS[0], FILMS[2]]))
    (path / "main_data.hdf5").write_bytes((path / "main_data.hdf5").read_bytes()[:2000])
    with pytest.raises(ValueError, match="cannot be read as a Minari dataset"):
        opened(path, tmp_path)


def write_columns(folder: Path) -> Path:
    with ColumnsWriter(folder, E * T, E, (SIZE, SIZE, 3), 0, 2, 2) as writer:
        for e in episodes():
            writer.append(e.image, e.proprio, e.action, e.state, e.scene)
        writer.close({"split": "held_out", "kinds": ["mug"]})
    return folder


@pytest.mark.parametrize("run", [True, False])
def test_collect_run_is_used_where_it_lies_or_resized(tmp_path, run):
    path = tmp_path / "run" if run else write_columns(tmp_path / "columns")
    if run:
        write_columns(path / "columns")
        (path / "config.yaml").write_text("job: collect\n")
    pictures = opened(path, tmp_path)
    assert np.array_equal(pictures.image, ALL) and not (tmp_path / "keep").exists()
    assert pictures.meta["split"] == "held_out" and pictures.scene.tolist() == [7, 8, 9] and pictures.trajectories
    small = opened(path, tmp_path, size=16)
    assert np.array_equal(small.image, [fit(frame, 16) for frame in ALL]) and (tmp_path / "keep" / "image.npy").is_file()
    assert np.array_equal(small.state, STATES) and small.scene.tolist() == [7, 8, 9] and small.meta["kinds"] == ["mug"]
    assert small.source != pictures.source
    with pytest.raises(ValueError, match="no frame rate"):
        opened(path, tmp_path, fps=3)
    with pytest.raises(ValueError, match="has no column wrist"):
        opened(path, tmp_path, image_key="wrist")


def png(frame: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(frame).save(held, "PNG")
    return held.getvalue()


def write_lerobot(root: Path, version: str, embedded: bool = False, cameras: tuple[str, ...] = ("observation.images.top",)) -> Path:
    """Three episodes of six frames, as LeRobot writes them; version 3 with all of them in one file."""
    (root / "meta").mkdir(parents=True)
    feature = {"dtype": "image" if embedded else "video", "shape": [SIZE, SIZE, 3]}
    features = {**dict.fromkeys(cameras, feature), "observation.state": {"dtype": "float32", "shape": [2]}}
    info = {"codebase_version": version, "fps": 10, "total_episodes": E, "chunks_size": 2, "features": features}
    (root / "meta/info.json").write_text(json.dumps(info))

    def table(numbers: list[int]) -> pa.Table:
        rows = np.concatenate([np.arange(e * T, e * T + T) for e in numbers])
        columns = {
            "observation.state": STATES[rows].tolist(), "episode_index": np.repeat(numbers, T),
            "frame_index": np.tile(np.arange(T), len(numbers)), "index": rows,
        }  # fmt: skip
        for i, camera in enumerate(cameras if embedded else ()):
            columns[camera] = [{"bytes": png(ALL[row] + np.uint8(i)), "path": f"{row}.png"} for row in rows]
        return pa.table(columns)

    if version.startswith("v2"):
        with open(root / "meta/episodes.jsonl", "w") as listing:
            for e in range(E):
                listing.write(json.dumps({"episode_index": e, "length": T, "tasks": []}) + "\n")
        for e in range(E):
            path = root / f"data/chunk-{e // 2:03d}/episode_{e:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table([e]), path)
            for camera in () if embedded else cameras:
                write_video(root / f"videos/chunk-{e // 2:03d}/{camera}/episode_{e:06d}.mp4", FILMS[e])
        return root
    for path in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        (root / path).parent.mkdir(parents=True)
    pq.write_table(table(list(range(E))), root / "data/chunk-000/file-000.parquet", row_group_size=7)
    listing = {"episode_index": range(E), "length": [T] * E, "data/chunk_index": [0] * E, "data/file_index": [0] * E}
    for camera in () if embedded else cameras:
        listing |= {f"videos/{camera}/{key}": [0] * E for key in ("chunk_index", "file_index")}
        listing[f"videos/{camera}/from_timestamp"] = [0.6 * e for e in range(E)]
        write_video(root / f"videos/{camera}/chunk-000/file-000.mp4", ALL)
    pq.write_table(pa.table({k: list(v) for k, v in listing.items()}), root / "meta/episodes/chunk-000/file-000.parquet")
    return root


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_lerobot(tmp_path, version, embedded):
    root = write_lerobot(tmp_path / "set", version, embedded)
    pictures = opened(root, tmp_path)
    assert np.array_equal(pictures.image, ALL) if embedded else close(pictures.image, ALL)
    assert pictures.end.tolist() == ENDS.tolist() and np.array_equal(pictures.state, STATES) and pictures.trajectories
    half = opened(root, tmp_path, fps=5)
    assert np.array_equal(half.image, pictures.image[::2]) and np.array_equal(half.state, STATES[::2])
    assert half.end.tolist() == [3, 6, 9]


def test_lerobot_seeks_to_episodes_within_a_long_video(tmp_path, monkeypatch):
    """Units of a version 3 file begin in the middle of its video; both ways of getting there read the same frames."""
    monkeypatch.setattr(base, "ROWS", T)
    root = write_lerobot(tmp_path / "set", "v3.0")
    assert len(find(root).open(base.Settings(SIZE)).units) == 3
    pictures = opened(root, tmp_path)
    assert close(pictures.image, ALL)
    monkeypatch.setattr(Video, "seek", lambda self, frame: frame == 0)
    counted = open_pictures(root, SIZE, tmp_path / "counted", workers=1)
    assert np.array_equal(counted.image, pictures.image)


def test_lerobot_cameras(tmp_path):
    root = write_lerobot(tmp_path / "set", "v2.1", True, ("observation.images.top", "observation.images.wrist"))
    with pytest.raises(ValueError, match=r"several columns .*top, observation.images.wrist; choose one with image_key="):
        opened(root, tmp_path)
    assert np.array_equal(opened(root, tmp_path, image_key="wrist").image, ALL + np.uint8(1))
    with pytest.raises(ValueError, match=r"no column observation.images.wrst; .*did you mean image_key=observation.images.wrist\?"):
        opened(root, tmp_path, image_key="observation.images.wrst")
    with pytest.raises(ValueError, match="holds no pictures"):
        opened(root, tmp_path, image_key="observation.state")


def test_lerobot_damage(tmp_path):
    root = write_lerobot(tmp_path / "set", "v2.1")
    (root / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ValueError, match=r"1 of 3 episodes cannot be used.*episode_000001.parquet cannot be read"):
        opened(root, tmp_path)
    assert close(opened(root, tmp_path, max_bad_share=0.4).image, np.concatenate([FILMS[0], FILMS[2]]))
    video = root / "videos/chunk-001/observation.images.top/episode_000002.mp4"
    write_video(video, FILMS[2][:4])
    with pytest.raises(ValueError, match=r"2 of 3 .*only 4 of its 6 frames can be decoded"):
        opened(root, tmp_path, max_bad_share=0.4)
    video.unlink()
    left = opened(root, tmp_path, max_bad_share=0.7)
    assert close(left.image, FILMS[0]) and "cannot be opened" in left.skipped[1][1]
    (root / "meta/info.json").write_text("{")
    with pytest.raises(ValueError, match=r"info.json cannot be read"):
        opened(root, tmp_path)
    three = write_lerobot(tmp_path / "three", "v3.0", True)
    (three / "data/chunk-000/file-000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="3 of 3 episodes"):
        opened(three, tmp_path)
    (three / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="list of episodes cannot be read"):
        opened(three, tmp_path)
    (three / "meta/info.json").write_text('{"codebase_version": "v7.0", "features": {"image": {"dtype": "video"}}}')
    with pytest.raises(ValueError, match=r"version v7.0 is not read"):
        opened(three, tmp_path)


# --- the converter ------------------------------------------------------------------------------------------------------

FEW_ROWS = 4


@pytest.fixture
def small_units(monkeypatch):
    """Units of four pictures, so that a little data is many units."""
    from vision.sources import images

    monkeypatch.setattr(images, "ROWS", FEW_ROWS)


def counted(monkeypatch) -> list[str]:
    """Names of the files decoded in this process from now on."""
    from vision.sources import images

    seen: list[str] = []
    monkeypatch.setattr(images, "read_image", lambda path, size: (seen.append(Path(path).name), read_image(path, size))[1])
    return seen


def test_whole_conversions_are_reused_and_others_are_not(tmp_path, monkeypatch):
    seen = counted(monkeypatch)
    folder = write_folder(tmp_path / "data", ALL)
    first = opened(folder, tmp_path)
    assert len(seen) == 18
    again = opened(folder, tmp_path, workers=3, max_bad_share=0.5)
    assert len(seen) == 18 and np.array_equal(first.image, again.image) and first.source == again.source
    moved = folder.rename(tmp_path / "elsewhere").rename(folder)
    assert len(opened(moved, tmp_path)) == 18 and len(seen) == 18
    assert len(opened(folder, tmp_path, size=16)) == 18 and len(seen) == 36, "another size is another conversion"
    opened(folder, tmp_path)
    assert len(seen) == 54
    Image.fromarray(ALL[0][::-1]).save(folder / "class0" / "0000.png")
    os.utime(folder / "class0" / "0000.png", ns=(1, 1))
    changed = opened(folder, tmp_path)
    assert len(seen) == 72 and np.array_equal(changed.image[0], ALL[0][::-1])
    assert np.array_equal(first.image[0], ALL[0]), "pictures opened earlier stay what they were"
    expected = np.array(changed.image)
    (tmp_path / "keep" / "image.npy").unlink()  # not overwritten: it is mapped
    (tmp_path / "keep" / "image.npy").write_bytes(b"damaged")
    assert np.array_equal(opened(folder, tmp_path).image, expected)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_conversion_goes_on(tmp_path, monkeypatch, small_units, interruption):
    folder = write_folder(tmp_path / "data", ALL)
    (folder / "class0" / "0002.png").write_text("broken")
    whole = open_pictures(folder, SIZE, tmp_path / "other", workers=1, max_bad_share=0.1)
    seen = counted(monkeypatch)

    def fails(self, path, append=convert.Growing.append_file):
        append(self, path)  # the last unit is written but not counted
        if len(seen) > 9:
            raise interruption

    with monkeypatch.context() as patched:
        patched.setattr(convert.Growing, "append_file", fails)
        with pytest.raises(type(interruption)) as caught:
            opened(folder, tmp_path, max_bad_share=0.1)
    assert caught.value is interruption and len(seen) == 12
    del seen[:]
    calls = []
    pictures = opened(folder, tmp_path, max_bad_share=0.1, progress=lambda *call: calls.append(call))
    assert calls[0] == (8, 18) and len(seen) == 10, "the two units that were whole are not decoded again"
    assert np.array_equal(pictures.image, whole.image) and pictures.skipped == whole.skipped
    for name in ("image.npy", "state.npy", "length.npy", "scene.npy"):
        assert (tmp_path / "keep" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_full_disk_in_a_worker_is_no_broken_picture(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "data", ALL)

    def full(self, frames, state=None):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(base.Part, "add", full)
    with pytest.raises(OSError, match="No space left"):
        opened(folder, tmp_path, max_bad_share=1.0)


def test_processes_make_the_same_and_resume_after_a_kill(tmp_path):
    """A process is killed with SIGKILL in the middle; what it had done is not decoded again."""
    frames = film(length=150, size=96)
    folder = tmp_path / "data"
    for i in range(600):  # five units
        file = folder / f"{i:05d}.png"
        file.parent.mkdir(exist_ok=True)
        if i < 150:
            Image.fromarray(frames[i]).save(file, compress_level=1)
        else:
            os.link(folder / f"{i % 150:05d}.png", file)
    script = (
        "import sys, time, vision.sources.convert as c\nfrom vision.pictures import open_pictures\nc.SECONDS = 0\n"
        "def slow(*done):\n print(*done, flush=True)\n time.sleep(0.3)\n"
        "if __name__ == '__main__':\n open_pictures(sys.argv[1], 32, sys.argv[2], workers=2, progress=slow)\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py"), str(folder), str(tmp_path / "keep")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    for line in process.stdout:
        if int(line.split()[0]) >= 256:
            break
    workers = [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    journal = json.loads((tmp_path / "keep" / "progress.json").read_text())
    assert 2 <= journal["units"] < 5 and not (tmp_path / "keep" / "pictures.json").exists()
    for _ in range(100):  # the workers see that their parent is gone
        if not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() for pid in workers):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("workers outlive their killed parent")
    first = folder / "00000.png"  # replaced by another of the same size and time: only decoding would tell
    stat, broken = first.stat(), bytes(first.stat().st_size)
    first.unlink()
    first.write_bytes(broken)
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    calls: list[tuple[int, int]] = []
    pictures = opened(folder, tmp_path, workers=2, progress=lambda *call: calls.append(call))
    assert calls[0] == (128 * journal["units"], 600) and not pictures.skipped
    expected = np.stack([fit_file(frame) for frame in frames])
    assert np.array_equal(pictures.image, expected[np.arange(600) % 150])


def fit_file(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.LANCZOS))


def test_a_worker_that_dies_is_named_and_its_work_done_by_the_next_call(tmp_path, small_units):
    folder = write_folder(tmp_path / "data", ALL)

    def kill(done: int, total: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(convert.WorkerDied, match=r"died: .*memory.*fewer workers"):
        opened(folder, tmp_path, workers=2, progress=kill)
    calls = []
    pictures = opened(folder, tmp_path, progress=lambda *call: calls.append(call))
    assert 4 <= calls[0][0] < 18 and np.array_equal(pictures.image, folder_order(ALL))


def test_an_interruption_ends_the_processes(tmp_path, small_units):
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(write_folder(tmp_path / "data", ALL), tmp_path, workers=2, progress=stop)
    assert not multiprocessing.active_children() and not (tmp_path / "keep" / "parts").exists()


def test_a_second_conversion_waits_for_the_first_and_uses_it(tmp_path, capsys):
    write_folder(tmp_path / "data", ALL)
    with convert.only_one(tmp_path / "keep"):
        thread = threading.Thread(target=opened, args=(tmp_path / "data", tmp_path))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and not (tmp_path / "keep" / convert.WHOLE).exists(), "it waits"
    thread.join(20)
    assert not thread.is_alive() and "waiting for it" in capsys.readouterr().err
    made = (tmp_path / "keep" / "image.npy").stat().st_mtime_ns
    opened(tmp_path / "data", tmp_path)
    assert (tmp_path / "keep" / "image.npy").stat().st_mtime_ns == made


def test_workers_need_no_torch():
    code = "import sys, vision.sources.convert, vision.sources as s; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.stdout.strip() == "False", result.stderr


# --- splits -------------------------------------------------------------------------------------------------------------


def made(lengths: list[int], trajectories: bool = True) -> Pictures:
    end = np.cumsum(lengths).astype(np.int64)
    n = int(end[-1])
    return Pictures(
        np.zeros((n, 8, 8, 3), np.uint8), end - np.array(lengths), end, np.zeros((n, 0), np.float32), trajectories, np.zeros_like(end)
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_split_by_episode(seed, share):
    rng = np.random.default_rng(seed)
    pictures = made(rng.integers(2, 9, 20).tolist())
    train, validation = split_rows(pictures, share, seed)
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(pictures)))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    of_row = np.repeat(np.arange(20), pictures.end - pictures.start)
    assert not set(of_row[train]) & set(of_row[validation]) and len(set(of_row[validation])) == round(20 * share)
    again = split_rows(pictures, share, seed)
    assert all(np.array_equal(a, b) for a, b in zip(again, (train, validation), strict=True))
    assert not np.array_equal(split_rows(pictures, share, seed + 100)[1], validation)


def test_scenes_are_not_divided():
    """Two trajectories of each of five scenes: both on one side."""
    start = np.arange(0, 40, 4)
    images = np.zeros((40, 8, 8, 3), np.uint8)
    scene = np.array([3, 1, 4, 1, 5, 9, 3, 4, 5, 9])
    pictures = Pictures(images, start, start + 4, np.zeros((40, 0), np.float32), True, scene)
    train, kept = split_rows(pictures, 0.4, 0)
    of_row = np.repeat(scene, 4)
    assert len(kept) == 16 and len(set(of_row[kept])) == 2 and not set(of_row[kept]) & set(of_row[train])


def test_empty_sides_of_a_split_are_refused():
    assert len(split_rows(made([4, 4, 4]), 0.1, 0)[1]) == 4, "at least one"
    with pytest.raises(ValueError, match=r"share=0 of 3 trajectories leaves nothing to validate with; use a share between 0.33"):
        split_rows(made([4, 4, 4]), 0.0, 0)
    with pytest.raises(ValueError, match="leaves nothing to learn from"):
        split_rows(made([4, 4, 4]), 0.9, 0)
    with pytest.raises(ValueError, match=r"of 1 trajectories leaves nothing .*at least two are needed"):
        split_rows(made([9]), 0.5, 0)
    with pytest.raises(ValueError, match="5 pictures"):
        split_rows(made([1] * 5, False), 0.0, 0)
    with pytest.raises(ValueError, match=r"share=1.5"):
        split_rows(made([1] * 5, False), 1.5, 0)


# --- bad input ----------------------------------------------------------------------------------------------------------


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist; give the path of a folder of pictures"):
        opened(tmp_path / "nowhere", tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ValueError, match=r"kind that is not known. Accepted are .*\.png.*\.mp4.*Minari.*\.h5.*\.npz.*LeRobot.*collect"):
        opened(tmp_path / "notes.txt", tmp_path)
    Image.fromarray(ALL[0]).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="give its folder"):
        opened(tmp_path / "one.png", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no pictures \(0 other files\)"):
        opened(tmp_path / "empty", tmp_path)
    (tmp_path / "empty" / "config.yaml").write_text("job: collect")
    with pytest.raises(ValueError, match="finish its imagoal collect"):
        opened(tmp_path / "empty", tmp_path)
    np.savez(tmp_path / "empty" / "a.npz", image=ALL)
    with pytest.raises(ValueError, match=r"1 files of arrays; give one of them, as .*a\.npz"):
        opened(tmp_path / "empty", tmp_path)
    write_video(tmp_path / "both" / "a.mp4", FILMS[0])
    Image.fromarray(ALL[0]).save(tmp_path / "both" / "a.png")
    with pytest.raises(ValueError, match="1 pictures and 1 videos"):
        opened(tmp_path / "both", tmp_path)
    shutil.rmtree(tmp_path / "both")
    write_video(tmp_path / "both" / "a.mp4", FILMS[0])
    with pytest.raises(ValueError, match="image_key=wrist: a video has no columns"):
        opened(tmp_path / "both", tmp_path, image_key="wrist")
    with pytest.raises(ValueError, match="image_size=0 must be positive"):
        open_pictures(tmp_path, 0, tmp_path / "keep")


def test_broken_pictures_are_counted(tmp_path, small_units):
    folder = write_folder(tmp_path / "data", ALL)
    for i in range(2):
        (folder / "class0" / f"x{i}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(ValueError, match=r"2 of 20 pictures cannot be used, more than the share of 0.05 .*class0/x0.jpg: .*max_bad_share"):
        opened(folder, tmp_path)
    pictures = opened(folder, tmp_path, max_bad_share=0.1)
    assert np.array_equal(pictures.image, folder_order(ALL))
    assert [what for what, _ in pictures.skipped] == ["class0/x0.jpg", "class0/x1.jpg"]
    with pytest.raises(ValueError, match="2 of 20"):
        opened(folder, tmp_path)  # of a conversion that is whole, too
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "a.png").write_text("nothing")
    with pytest.raises(ValueError, match=r"holds no pictures that can be used \(1 were looked at: a.png"):
        opened(folder, tmp_path, max_bad_share=1.0)


def test_broken_videos_are_counted(tmp_path):
    folder = tmp_path / "data"
    for e in range(3):
        write_video(folder / f"{e}.mp4", FILMS[e])
    whole = write_video(folder / "00.avi", film(length=80), lossless=True).read_bytes()
    (folder / "00.avi").write_bytes(whole[: len(whole) // 3])
    cut = (folder / "1.mp4").read_bytes()
    (folder / "1.mp4").write_bytes(cut[: len(cut) // 2])
    write_video(folder / "still.mp4", FILMS[0][:1])
    pictures = opened(folder, tmp_path, max_bad_share=0.6)
    with pytest.raises(ValueError, match=r"3 of 5 videos cannot be used"):
        opened(folder, tmp_path, max_bad_share=0.5)
    with pytest.raises(ValueError, match=r"1 of 5 videos cannot be used"):  # stops as soon as it is too much
        open_pictures(folder, SIZE, tmp_path / "other", workers=1)
    why = dict(pictures.skipped)
    assert sorted(why) == ["00.avi", "1.mp4", "still.mp4"]
    assert "cannot be opened" in why["1.mp4"] and "truncated" in why["00.avi"] and "nothing follows" in why["still.mp4"]
    assert close(pictures.image, np.concatenate([FILMS[0], FILMS[2]])) and pictures.end.tolist() == [6, 12]


def test_episodes_of_one_frame_are_counted(tmp_path):
    np.savez(tmp_path / "a.npz", image=ALL, episode_ends=[6, 7, 18], state=STATES)
    with pytest.raises(ValueError, match=r"1 of 3 episodes .*one frame: nothing follows its first"):
        opened(tmp_path / "a.npz", tmp_path)
    pictures = opened(tmp_path / "a.npz", tmp_path, max_bad_share=0.5)
    assert np.array_equal(pictures.image, np.delete(ALL, 6, 0)) and np.array_equal(pictures.state, np.delete(STATES, 6, 0))
    assert pictures.end.tolist() == [6, 17]


def test_broken_hdf5(tmp_path, monkeypatch):
    from vision.sources import arrays

    monkeypatch.setattr(arrays, "BLOCK_BYTES", 2 * ALL[0].nbytes)  # so that an episode breaks after some was read
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as HDF5"):
        opened(path, tmp_path)
    with h5py.File(path, "w") as file:
        for e in range(E):
            file.create_dataset(f"demo_{e}/image", data=FILMS[e], chunks=(2, SIZE, SIZE, 3), compression="gzip")
        place = file["demo_1/image"].id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    data[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"1 of 3 episodes cannot be used.*demo_1/image: OSError"):
        opened(path, tmp_path)
    assert np.array_equal(opened(path, tmp_path, max_bad_share=0.4).image, np.concatenate([FILMS[0], FILMS[2]]))
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=ALL, chunks=(2, SIZE, SIZE, 3), compression="gzip")
        place = file["image"].id.get_chunk_info(4)
    data = bytearray(path.read_bytes())
    data[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(data)
    pictures = opened(path, tmp_path, max_bad_share=0.2)
    assert np.array_equal(pictures.image, np.delete(ALL, [8, 9], 0)) and len(pictures.skipped) == 2
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cannot be read as HDF5"):
        opened(path, tmp_path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(ValueError, match="holds no arrays"):
        opened(path, tmp_path)


def test_hdf5_episodes_may_differ_in_channels_and_size(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["ep_0/image"] = FILMS[0]
        file["ep_1/image"] = FILMS[1][..., :1]
        file["ep_2/image"] = np.concatenate([FILMS[2], np.zeros((T, SIZE, SIZE, 1), np.uint8)], -1)
        file["ep_3/image"] = film(3, size=64)
        file["ep_4/image"] = np.zeros((T, 5))
    pictures = opened(tmp_path / "a.h5", tmp_path, max_bad_share=0.2)
    grey = np.repeat(FILMS[1][..., :1], 3, -1)
    white, shrunk = np.full_like(FILMS[2], 255), np.stack([fit(frame, SIZE) for frame in film(3, size=64)])
    assert np.array_equal(pictures.image, np.concatenate([FILMS[0], grey, white, shrunk]))
    assert pictures.skipped == [("ep_4/image", "(6, 5) float64 is no array of pictures")]


def test_broken_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, image=np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cannot be read as a NumPy file"):
        opened(path, tmp_path)
    data[20000:20100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="image is damaged behind picture"):
        opened(path, tmp_path)
    np.save(tmp_path / "a.npy", ALL)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        opened(tmp_path / "a.npy", tmp_path)
    np.savez(path, image=np.array([{"an": "object"}]))
    with pytest.raises(ValueError, match="no arrays of numbers"):
        opened(path, tmp_path)


def test_columns_that_are_missing_or_do_not_fit(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, left=ALL, right=ALL, action=np.zeros((18, 4)))
    with pytest.raises(ValueError, match=r"several columns of pictures: left, right; choose one with image_key=left"):
        opened(path, tmp_path)
    with pytest.raises(ValueError, match=r"no column rihgt; its columns are left \(18, 32, 32, 3\) uint8, .*mean image_key=right\?"):
        opened(path, tmp_path, image_key="rihgt")
    with pytest.raises(ValueError, match=r"action \(18, 4\) float64 holds no pictures"):
        opened(path, tmp_path, image_key="action")
    assert len(opened(path, tmp_path, image_key="right")) == 18
    np.savez(path, wrist=ALL[::-1], image=ALL)
    assert np.array_equal(opened(path, tmp_path).image, ALL), "of several, a well-known name is taken"
    np.savez(path, action=np.zeros((18, 4)))
    with pytest.raises(ValueError, match=r"has no column of pictures .*its columns are action"):
        opened(path, tmp_path)
    np.savez(path, image=ALL[:0])
    with pytest.raises(ValueError, match="holds no pictures that can be used"):
        opened(path, tmp_path)
    np.savez(path, image=ALL, episode_ends=[6, 12])
    with pytest.raises(ValueError, match=r"episode_ends must rise .* 18 pictures there are; its last value is 12"):
        opened(path, tmp_path)
    np.savez(path, image=ALL, terminals=np.zeros(5))
    with pytest.raises(ValueError, match="terminals has 5 values beside 18 pictures"):
        opened(path, tmp_path)
    with pytest.raises(ValueError, match="fps=5: a NumPy file has no frame rate"):
        opened(path, tmp_path, fps=5)


def test_floats_outside_of_one_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", image=ALL.astype(np.float32))
    with pytest.raises(ValueError, match=r"column image: pictures of type float32 hold values from .* must lie in \[0, 1\]"):
        opened(tmp_path / "a.npz", tmp_path)
    nan = ALL.astype(np.float32) / 255
    nan[3, 2, 1] = np.nan
    np.savez(tmp_path / "a.npz", image=nan)
    with pytest.raises(ValueError, match="nan"):
        opened(tmp_path / "a.npz", tmp_path)


def test_large_pictures_are_read_few_at_a_time(tmp_path, monkeypatch):
    from vision.sources import arrays

    monkeypatch.setattr(arrays, "BLOCK_BYTES", 5 * ALL[0].nbytes)
    sizes = []
    monkeypatch.setattr(base.Part, "add", lambda self, frames, *rest, add=base.Part.add: (sizes.append(len(frames)), add(self, frames, *rest))[1])
    np.savez(tmp_path / "a.npz", image=ALL, episode_ends=ENDS)
    assert np.array_equal(opened(tmp_path / "a.npz", tmp_path).image, ALL) and sizes == [5, 1] * 3


def test_every_type_of_pixel():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    rgb = np.repeat(grey[..., None], 3, -1)
    assert np.array_equal(rgb8(grey), rgb) and np.array_equal(rgb8(grey[..., None]), rgb)
    assert np.array_equal(rgb8(grey[:, None]), rgb), "channels first"
    assert np.array_equal(rgb8(rgb.transpose(0, 3, 1, 2)), rgb)
    assert np.array_equal(rgb8(grey.astype(np.uint16) * 257), rgb) and np.array_equal(rgb8(grey.astype(np.int64)), rgb)
    assert np.array_equal(rgb8(grey / 255), rgb) and np.array_equal(rgb8((grey / 255).astype(np.float16)), rgb)
    assert np.array_equal(rgb8(grey > 99), np.where(rgb > 99, 255, 0))
    alpha = np.concatenate([np.zeros((1, 16, 16, 3), np.uint8), grey[..., None]], -1)
    assert np.array_equal(rgb8(alpha), 255 - rgb), "black fades to white"
    for wrong in (grey.astype(int) + 1, grey.astype(int) - 1, grey[..., None].repeat(2, -1), grey.astype(complex)):
        with pytest.raises(ValueError, match="pictures"):
            rgb8(wrong)


def test_fit_takes_the_centre_square():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    assert (fit(wide, 20) == 200).all() and (fit(wide, 7) == 200).all() and (fit(wide.transpose(1, 0, 2), 31) == 200).all()
    assert fit(wide, 20).shape == (20, 20, 3) and fit(wide, 31).shape == (31, 31, 3)
    checks = np.indices((32, 32)).sum(0)[..., None].repeat(3, -1).astype(np.uint8) % 2 * 255
    assert np.abs(fit(checks, 8).astype(int) - 127.5).max() < 2, "shrinking averages"
