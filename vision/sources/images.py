"""A folder of picture files, nested as it likes: loose pictures, in the order of their paths."""

from dataclasses import dataclass
from pathlib import Path

from vision.sources.base import ROWS, Found, Part, Settings, Source, Unit, names_of, refuse_fps, refuse_key
from vision.sources.pixels import UNREADABLE, read_image


@dataclass(frozen=True)
class Files(Unit):
    """Some files below a folder."""

    folder: str
    names: tuple[str, ...]

    @property
    def items(self) -> int:  # type: ignore[override]
        return len(self.names)

    def read(self, part: Part) -> None:
        for name in self.names:
            path = Path(self.folder, name)
            try:
                picture = read_image(path, part.image_size)
            except UNREADABLE as error:
                part.skip(name, f"{type(error).__name__}: {error}".replace(str(path), path.name))
                continue
            part.add(picture[None])


def find(path: Path, files: list[Path]) -> Found:
    """The picture files of a folder."""

    def source(settings: Settings) -> Source:
        refuse_fps(settings, "a folder of pictures")
        refuse_key(settings, "a folder of pictures")
        names = names_of(files, path)
        units = [Files(str(path), tuple(names[i : i + ROWS])) for i in range(0, len(names), ROWS)]
        return Source("pictures", units, trajectories=False)

    return Found("images", path, files, source)
