"""Small figures of what models draw, for the documentation."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from imagoal.figures import figure_png
from imagoal.judging import Judged, can_sample, pictures_at, sampled, thin
from imagoal.model_page import rebuilt, scene_columns
from vision.pictures import Pictures
from vision.protocols import LatentModel

Named = tuple[str, LatentModel, Pictures, Judged]


def columns_figure(models: Sequence[Named], seed: int, scenes: int = 8, draws: int = 2) -> bytes:
    """On top the first pictures of scenes, below them `draws` samples of every model in each scene. All models share the pictures."""
    _, _, pictures, judged = models[0]
    episodes = thin(judged.episodes, scenes)
    rows = [("seen", list(pictures_at(pictures, pictures.start[episodes])))]
    for name, model, own, _ in models:
        lines = scene_columns(model, own, episodes, seed, draws)[1:]
        rows += [(name if i == 0 else "", line) for i, line in enumerate(lines)]
    return picture_rows(rows)


def rebuilt_figure(models: Sequence[Named], seed: int, shown: int = 10) -> bytes:
    """Pictures kept from training, below them what every model makes of them, and of loose pictures samples."""
    _, _, pictures, judged = models[0]
    chosen = thin(judged.rows, shown)
    rows = [("picture", list(pictures_at(pictures, chosen)))]
    for name, model, own, _ in models:
        rows.append((f"{name}: rebuilt", list(rebuilt(model, own, chosen))))
    for name, model, own, _ in models:
        if can_sample(model) and not own.trajectories:
            rows.append((f"{name}: samples", list(sampled(model, len(chosen), None, seed))))
    return picture_rows(rows)


def picture_rows(rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> bytes:
    """Labelled rows of pictures (H, W, 3) uint8 as one PNG."""
    columns = max(len(line) for _, line in rows)
    drawing = Figure(figsize=(1.9 + 0.72 * columns, 0.74 * len(rows)))
    every = drawing.subplots(len(rows), columns, squeeze=False)
    drawing.subplots_adjust(left=1.9 / (1.9 + 0.72 * columns), right=0.995, top=0.995, bottom=0.005, wspace=0.03, hspace=0.03)
    for axes_row, (name, line) in zip(every, rows, strict=True):
        for axes in axes_row:
            axes.axis("off")
        for axes, picture in zip(axes_row, line, strict=False):
            axes.imshow(picture, interpolation="nearest")
        axes_row[0].text(-0.12, 0.5, name, transform=axes_row[0].transAxes, ha="right", va="center", fontsize=8)
    return figure_png(drawing, dpi=110)
