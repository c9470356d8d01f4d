"""Data of any kind as pictures: what is at a path is found out by looking, then converted (`vision.sources.convert`)."""

from pathlib import Path

from vision.sources import columns, hdf5, images, lerobot, npz, pixels, video
from vision.sources.base import Found, files_below

ACCEPTED = (
    f"a folder of pictures ({', '.join(sorted(pixels.SUFFIXES))}), a video or a folder of videos "
    f"({', '.join(sorted(video.SUFFIXES))}), a Minari dataset, an HDF5 file ({', '.join(sorted(hdf5.SUFFIXES))}), "
    f"a NumPy file ({', '.join(sorted(npz.SUFFIXES))}), a LeRobot dataset (meta/info.json), an imagoal collect run"
)


def find(path: Path) -> Found:
    """What kind of data is at `path`.

    Raises:
        ValueError: if there is nothing, nothing that is known, or two kinds at once.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; give the path of {ACCEPTED}")
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in video.SUFFIXES:
            return video.find(path, [path])
        if suffix in hdf5.SUFFIXES:
            return hdf5.find(path)
        if suffix in npz.SUFFIXES:
            return npz.find(path)
        hint = f"; a single picture is no data, give its folder {path.parent}" if suffix in pixels.SUFFIXES else ""
        raise ValueError(f"{path} is a file of a kind that is not known{hint}. Accepted are {ACCEPTED}")
    if (folder := columns.folder_of(path)) is not None:
        return columns.find(path, folder)
    if (path / lerobot.INFO).is_file():
        return lerobot.find(path, files_below(path))
    if any((folder / name).is_file() for folder in (path, path / "data") for name in ("metadata.json", "main_data.hdf5")):
        from vision.sources import minari_dataset  # Minari takes a while to import

        if (folder := minari_dataset.folder_of(path)) is not None:
            return minari_dataset.find(path, folder)
    files = files_below(path)
    pictures = [file for file in files if file.suffix.lower() in pixels.SUFFIXES]
    films = [file for file in files if file.suffix.lower() in video.SUFFIXES]
    if pictures and films:
        raise ValueError(
            f"{path} holds {len(pictures)} pictures and {len(films)} videos; pictures are loose and videos are trajectories, "
            "so put them into two folders and give one"
        )
    if pictures:
        return images.find(path, pictures)
    if films:
        return video.find(path, films)
    arrays = [file for file in files if file.suffix.lower() in hdf5.SUFFIXES | npz.SUFFIXES]
    if arrays:
        raise ValueError(f"{path} holds no pictures but {len(arrays)} files of arrays; give one of them, as {arrays[0]}")
    if (path / "config.yaml").is_file():
        raise ValueError(f"{path} is a run folder without columns: finish its imagoal collect first (resume=true)")
    raise ValueError(f"{path} holds no pictures ({len(files)} other files). Accepted are {ACCEPTED}")
