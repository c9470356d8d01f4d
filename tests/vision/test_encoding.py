"""Data sets encoded once: the same numbers as the model's own, and never another model's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vision import save
from vision.ccvae import CCVAE, CCVAEConfig
from vision.encoding import encode_dataset, fingerprint, open_encoded, write_encoded
from vision.store import describe
from vision.vqvae import VQVAE, VQVAEConfig

CODES = VQVAEConfig(image_size=24, grid=6, codes=16, code_dim=4, hidden=16, residual_blocks=0)
FLAT = CCVAEConfig(image_size=24, latents=3, contexts=5, channels=4, hidden=16)


def pictures(n: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 24, 24, 3), dtype=np.uint8)


def test_every_picture_is_encoded_with_its_own_context():
    torch.manual_seed(0)
    images, model, first = pictures(), CCVAE(FLAT).eval(), np.repeat([0, 7, 13], [7, 6, 7])
    calls: list[tuple[int, int]] = []
    z = encode_dataset(model, images, first, batch_size=8, progress=lambda done, total: calls.append((done, total)))
    with torch.no_grad():
        expected = model.encode(torch.from_numpy(images), torch.from_numpy(images[first])).numpy()
    assert z.dtype == np.float32 and np.allclose(z, expected, atol=1e-5) and calls == [(8, 20), (16, 20), (20, 20)]
    with pytest.raises(ValueError, match="no trajectories"):
        encode_dataset(model, images)


def test_codes_are_int16_rows_of_cells():
    model = VQVAE(CODES).eval()
    codes = encode_dataset(model, pictures(), batch_size=6)
    assert codes.dtype == np.int16 and codes.shape == (20, 36)
    with torch.no_grad():
        assert (codes == model.codes(torch.from_numpy(pictures())).flatten(1).numpy()).all()


def test_latents_of_another_model_are_refused(tmp_path):
    torch.manual_seed(0)
    model, other = VQVAE(CODES).eval(), VQVAE(replace(CODES, codes=17)).eval()
    sha, stranger = (describe(save(m, tmp_path / name))["sha256"] for m, name in ((model, "model"), (other, "other")))
    written = write_encoded(tmp_path / "encoded", model, sha, pictures(), None, {"kind": "folder"})
    again = open_encoded(tmp_path / "encoded", tmp_path / "model")
    assert (again == written).all() and not again.flags.writeable
    with pytest.raises(ValueError, match="stale"):
        open_encoded(tmp_path / "encoded", tmp_path / "other")
    with pytest.raises(ValueError, match="no encoded pictures"):
        open_encoded(tmp_path / "model", tmp_path / "model")
    np.save(tmp_path / "encoded" / "codes.npy", np.zeros((3, 36), np.int16))
    with pytest.raises(ValueError, match="its stamp says"):
        open_encoded(tmp_path / "encoded", tmp_path / "model")
    assert fingerprint(sha, {"a": 1}) != fingerprint(stranger, {"a": 1}) != fingerprint(stranger, {"a": 2})


def test_a_failed_encoding_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no trajectories"):
        write_encoded(tmp_path / "encoded", CCVAE(FLAT).eval(), "0" * 64, pictures(), None, {})
    assert not list(tmp_path.iterdir())
