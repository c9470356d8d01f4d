"""metrics.csv: what a run measured, a row per logged step, flushed as it goes."""

import contextlib
import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagoal.disk import write_atomic


class Metrics:
    """metrics.csv: a step and named numbers per row. Every row is flushed; a new name rewrites the file with one more column."""

    def __init__(self, path: Path, keep: int) -> None:
        """Keep the first `keep` rows of an existing file: those the last checkpoint knows of."""
        self.path, self.columns, self.rows = path, ["step"], 0
        with contextlib.suppress(FileNotFoundError):
            lines = list(csv.reader(io.StringIO(path.read_text())))
            self.columns, self.rows = (lines[0], min(keep, len(lines) - 1)) if lines else (["step"], 0)
            self._rewrite(lines[1 : 1 + self.rows])

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Add one row."""
        numbers = {"step": step, **{name: plain_numbers(value) for name, value in values.items()}}
        if new := [name for name in numbers if name not in self.columns]:
            lines = list(csv.reader(io.StringIO(self.path.read_text())))[1:] if self.rows else []
            self.columns = [*self.columns, *new]
            self._rewrite(lines)
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([numbers.get(name, "") for name in self.columns])
        with open(self.path, "a") as file:
            file.write(line.getvalue())
        self.rows += 1

    def _rewrite(self, lines: list[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *(row + [""] * (len(self.columns) - len(row)) for row in lines)])
        write_atomic(self.path, text.getvalue().encode())

    def sync(self) -> None:
        """Onto the disk, before a checkpoint claims these rows."""
        if self.path.exists():
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())


def read_metrics(run: str | Path) -> dict[str, list[float | None]]:
    """metrics.csv as columns; None where a row has no such value."""
    path = Path(run).expanduser() / "metrics.csv"
    if not path.is_file():
        return {"step": []}
    header, *lines = list(csv.reader(io.StringIO(path.read_text())))
    return {name: [float(row[i]) if row[i] else None for row in lines] for i, name in enumerate(header)}


def plain_numbers(value: Any) -> Any:
    """Tensors and NumPy values as Python numbers and lists, inside dicts and lists too."""
    if isinstance(value, Mapping):
        return {str(k): plain_numbers(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value
