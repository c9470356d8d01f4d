"""Pictures: all kinds of files become RGB squares; to floats and back."""

import numpy as np
import pytest
import torch
from PIL import Image

from vision.images import to_float, to_uint8
from vision.sources.pixels import read_image

RNG = np.random.default_rng(0)


def photo(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth colours, so that JPEG and resizing change little."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y / height, 255 * x / width, np.full_like(y, 90.0)], -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Seven good pictures of all sorts, nested."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.fromarray(photo()).save(tmp_path / "a.JPG", quality=95)
    Image.fromarray(photo(60, 40)).save(tmp_path / "b.png")
    Image.fromarray(photo()).save(tmp_path / "deep" / "c.webp", lossless=True)
    Image.fromarray(photo()).save(tmp_path / "deep" / "er" / "d.bmp")
    Image.fromarray(photo()[..., 0]).save(tmp_path / "e_grey.png")
    Image.fromarray((photo()[..., 0].astype(np.uint16)) * 257).save(tmp_path / "f_grey16.png")
    Image.fromarray(photo()).quantize(64).save(tmp_path / "g_palette.png")
    return tmp_path


def test_every_mode_and_size_becomes_rgb(folder):
    by_name = {path.name: read_image(path, 16).astype(int) for path in folder.rglob("[a-g]*.*")}
    assert len(by_name) == 7 and all(image.shape == (16, 16, 3) for image in by_name.values())
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


def test_float_and_back():
    images = torch.from_numpy(RNG.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    x = to_float(images)
    assert x.shape == (3, 3, 8, 8) and x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_uint8(x), images)
    assert to_uint8(torch.tensor([-1.0, 2.0, 0.5]).view(1, 3, 1, 1)).flatten().tolist() == [0, 255, 128]
