"""Our own columns (of a collect run), at another size than they have. At their own size they are used as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.columns import open_columns
from vision.sources.base import BLOCK, Found, Part, Settings, Source, Unit, choose_column, grouped, refuse_fps

META = "columns.json"


@dataclass(frozen=True)
class ColumnEpisodes(Unit):
    """Some episodes of a folder of columns."""

    folder: str
    episodes: tuple[tuple[int, int, int, int], ...]
    """number, first row, row after the last, scene."""

    @property
    def items(self) -> int:  # type: ignore[override]
        return len(self.episodes)

    def read(self, part: Part) -> None:
        image, state = (np.load(Path(self.folder, f"{name}.npy"), mmap_mode="r") for name in ("image", "state"))
        for number, start, end, scene in self.episodes:
            for a in range(start, end, BLOCK):
                part.add(image[a : min(a + BLOCK, end)], state[a : min(a + BLOCK, end)])
            part.end(f"episode {number}", scene)


def folder_of(path: Path) -> Path | None:
    """The folder of columns that `path` is or that a collect run at `path` holds."""
    return next((folder for folder in (path, path / "columns") if (folder / META).is_file()), None)


def check(settings: Settings, folder: Path) -> None:
    """Raises ValueError for settings that columns do not have."""
    refuse_fps(settings, "a collect run")
    choose_column(["image"], {"image": "", "state": "", "proprio": ""}, settings.image_key, folder.name)


def _source(folder: Path, settings: Settings) -> Source:
    check(settings, folder)
    columns = open_columns(folder)
    rows: Sequence[tuple[int, int, int, int]] = [
        (e, int(a), int(b), int(s)) for e, (a, b, s) in enumerate(zip(columns.start, columns.end, columns.scene, strict=True))
    ]
    units = [ColumnEpisodes(str(folder), tuple(rows[cut])) for cut in grouped([b - a for _, a, b, _ in rows])]
    return Source("episodes", units, True, columns.state.shape[1], meta=dict(columns.meta))


def find(path: Path, folder: Path) -> Found:
    """The columns at or below `path`."""
    files = [*sorted(folder.glob("*.npy")), folder / META]
    return Found("columns", path, files, lambda settings: _source(folder, settings))
