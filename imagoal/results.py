"""docs/results.md from benchmarks/results/*.json: `make docs`. Every number there was written by a program; this file only sets them in tables."""

import json
import sys
from pathlib import Path
from typing import Any

from imagoal.disk import write_atomic
from imagoal.errors import UserError

HEADER = "# Results\n\nWritten by `make docs` from the files in `benchmarks/results/`; do not edit. Intervals are 95%.\n"
WIDE = 6  # so many variants are columns, whatever the number of metrics
NEEDED = ("experiment", "command", "commit", "machine", "seeds", "wall_clock_s", "variants")


def page(folder: Path) -> str:
    """The whole page for a folder of result files. Raises UserError for a file that does not have design.md's form."""
    files = sorted(folder.glob("*.json"))
    sections = [section(read_result_file(path), path) for path in files]
    return "\n".join([HEADER, *(sections or ["Nothing measured yet.\n"])])


def read_result_file(path: Path) -> dict[str, Any]:
    """One result file. Raises UserError when it is not JSON or lacks a part of the form."""
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); run its experiment again.") from error
    missing = [name for name in NEEDED if name not in result]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; run its experiment again.")
    return result


def section(result: dict[str, Any], path: Path) -> str:
    """One experiment: how it was made, then a table of metrics and variants, the more numerous of which are its rows, and its figures."""
    variants: dict[str, dict[str, Any]] = result["variants"]
    metrics = list(dict.fromkeys(metric for values in variants.values() for metric in values))
    seeds = result["seeds"]
    lines = [f"## {result['experiment']}\n"]
    lines.append(
        f"`{result['command']}` at commit `{str(result['commit'])[:10]}` on {result['machine']}; "
        f"{len(seeds)} seed{'s' * (len(seeds) != 1)}, {duration(result['wall_clock_s'])}.\n"
    )
    units = {m: next(values[m].get("unit", "") for values in variants.values() if m in values) for m in metrics}
    if len(variants) > max(WIDE, len(metrics)):
        lines.append(f"| variant | {' | '.join(f'{m}, {units[m]}' if units[m] else m for m in metrics)} |")
        lines.append(f"| --- |{' ---: |' * len(metrics)}")
        lines += [f"| {name} | {' | '.join(cell(values[m]) if m in values else '' for m in metrics)} |" for name, values in variants.items()]
    else:
        lines.append(f"| metric | unit | {' | '.join(variants)} |")
        lines.append(f"| --- | --- |{' ---: |' * len(variants)}")
        for m in metrics:
            cells = [cell(values[m]) if m in values else "" for values in variants.values()]
            lines.append(f"| {m} | {units[m]} | {' | '.join(cells)} |")
    for picture in [path.with_suffix(".png"), *sorted(path.parent.glob(f"{path.stem}_*.png"))]:
        if picture.is_file():
            lines.append(f"\n![{picture.stem.replace('_', ' ')}](../benchmarks/results/{picture.name})")
    return "\n".join(lines) + "\n"


def cell(value: dict[str, Any]) -> str:
    """`0.90 [0.86, 0.93]`; without an interval, the mean alone."""
    mean, interval = value.get("mean"), value.get("ci95")
    if mean is None:
        return ""
    text = short(mean)
    return f"{text} [{short(interval[0])}, {short(interval[1])}]" if interval and None not in interval else text


def short(number: float) -> str:
    """Three significant digits, thousands separated."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def duration(seconds: float) -> str:
    """`1 h 30 min`, `12 min`, `45 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def main() -> int:
    """Write docs/results.md of the repository this is run in."""
    try:
        path = write_atomic(Path("docs/results.md"), page(Path("benchmarks/results")).encode())
    except UserError as error:
        print(f"imagoal: {error}", file=sys.stderr)
        return 2
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
