"""Folders of pictures: all kinds of files become RGB, broken ones are named, hopeless folders are refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from vision.images import read_folder, read_image, to_float, to_uint8

RNG = np.random.default_rng(0)


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth colours, so that JPEG and resizing change little."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y / height, 255 * x / width, np.full_like(y, 90.0)], -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Seven good pictures of all sorts, nested, beside files that are none."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.fromarray(photo()).save(tmp_path / "a.JPG", quality=95)
    Image.fromarray(photo(60, 40)).save(tmp_path / "b.png")
    Image.fromarray(photo()).save(tmp_path / "deep" / "c.webp", lossless=True)
    Image.fromarray(photo()).save(tmp_path / "deep" / "er" / "d.bmp")
    Image.fromarray(photo()[..., 0]).save(tmp_path / "e_grey.png")
    Image.fromarray((photo()[..., 0].astype(np.uint16)) * 257).save(tmp_path / "f_grey16.png")
    Image.fromarray(photo()).quantize(64).save(tmp_path / "g_palette.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._a.jpg").write_bytes(b"a leftover of another system")
    return tmp_path


def test_every_mode_and_size_becomes_rgb(folder):
    calls = []
    images, report = read_folder(folder, 16, progress=lambda done, total: calls.append((done, total)))
    assert images.shape == (7, 16, 16, 3) and images.dtype == np.uint8
    names = [p.name for p in report.files]
    assert names == ["a.JPG", "b.png", "c.webp", "d.bmp", "e_grey.png", "f_grey16.png", "g_palette.png"]
    assert report.bad == [] and report.ignored == 2 and report.bad_share == 0 and "7 images" in str(report)
    assert calls == [(i, 7) for i in range(1, 8)]
    by_name = dict(zip((p.name for p in report.files), images.astype(int), strict=True))
    assert np.abs(by_name["a.JPG"] - by_name["d.bmp"]).max() <= 8
    assert np.abs(by_name["e_grey.png"] - by_name["f_grey16.png"]).max() <= 1, "16-bit grey must be scaled, not clipped"
    assert np.abs(by_name["g_palette.png"] - by_name["d.bmp"]).mean() < 10
    assert by_name["e_grey.png"].std(-1).max() == 0


def test_centre_square_and_orientation(tmp_path):
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, 20:40] = 200  # the centre square
    Image.fromarray(picture).save(tmp_path / "wide.png")
    assert (read_image(tmp_path / "wide.png", 10) == 200).all()
    top = np.zeros((40, 40, 3), np.uint8)
    top[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise to be seen upright: what is stored at the top belongs to the right
    Image.fromarray(top).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "turned.jpg", 8)
    assert upright[:, :3].max() < 30 and upright[:, 5:].min() > 225


def test_transparency_goes_on_white(tmp_path):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:, :4] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    image = read_image(tmp_path / "rgba.png", 8)
    assert (image[:, 0] == (10, 20, 30)).all() and (image[:, 7] == 255).all()


def test_broken_files_are_named_and_counted(folder):
    Image.fromarray(RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(folder / "z.jpg")
    (folder / "truncated.jpg").write_bytes((folder / "z.jpg").read_bytes()[:3000])
    (folder / "z.jpg").unlink()
    (folder / "text.png").write_text("not a picture at all")
    (folder / "empty.webp").touch()
    with pytest.raises(ValueError, match=r"30% of 10 pictures are unreadable.*raise max_bad_share"):
        read_folder(folder, 16)
    images, report = read_folder(folder, 16, max_bad_share=0.3)
    assert len(images) == len(report.files) == 7
    assert sorted(path.name for path, _ in report.bad) == ["empty.webp", "text.png", "truncated.jpg"]
    assert "truncated" in dict((p.name, r) for p, r in report.bad)["truncated.jpg"]
    assert "3 unreadable" in str(report) and "text.png" in str(report)
    assert np.array_equal(images[0], read_image(report.files[0], 16)), "rows follow the files that were read"


def test_hopeless_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no pictures \(0 other files\)"):
        read_folder(tmp_path, 16)
    with pytest.raises(ValueError, match="does not exist"):
        read_folder(tmp_path / "nowhere", 16)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="100% of 1 pictures"):
        read_folder(tmp_path, 16, max_bad_share=1.0)


def test_float_and_back():
    images = torch.from_numpy(RNG.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    x = to_float(images)
    assert x.shape == (3, 3, 8, 8) and x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_uint8(x), images)
    assert to_uint8(torch.tensor([-1.0, 2.0, 0.5]).view(1, 3, 1, 1)).flatten().tolist() == [0, 255, 128]
