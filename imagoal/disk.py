"""Writing so that a kill or a full disk at any moment leaves the old file or the new one, whole."""

import contextlib
import os
from pathlib import Path


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, content: bytes) -> Path:
    """Replace a file in one move: readers, and a kill, see the old content or the new, never a part."""
    begun = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        write_synced(begun, content)
        os.replace(begun, path)
    except BaseException:
        with contextlib.suppress(OSError):
            begun.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return path


def sync_folder(path: Path) -> None:
    """Make renames inside a folder last."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
