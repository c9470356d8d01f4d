"""`imagoal compare RUN RUN ...`: trained models in one table and on one page, on the same pictures."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from imagoal.compose import command
from imagoal.compose import load as compose
from imagoal.config import CompareConfig, TrainConfig
from imagoal.errors import UserError
from imagoal.judging import Judged, can_sample, choose, pictures_at, thin
from imagoal.loading import load_model, open_pictures, pick_device, split
from imagoal.model_page import NUMBERS, rebuilt, scene_columns
from imagoal.report import Report
from imagoal.run import RunFolder, read_result
from vision.pictures import Pictures
from vision.protocols import LatentModel


class Candidate(NamedTuple):
    """One trained model and the pictures it was judged on."""

    name: str
    config: TrainConfig
    result: dict[str, Any]
    model: LatentModel
    pictures: Pictures
    judged: Judged

    @property
    def judged_on(self) -> tuple[Any, ...]:
        """What must be equal for two models to have been judged on the same pictures."""
        c = self.config
        return (self.pictures.source, c.clip, c.seed, c.validation)


def main(config: CompareConfig) -> None:
    """Leaves comparison.json, report.html and result.json."""
    if len(config.runs) < 2:
        raise UserError(f"compare: give at least two runs of imagoal train, not {len(config.runs)}: imagoal compare runs/a runs/b")
    began = time.monotonic()
    candidates = [open_candidate(run, config.device) for run in config.runs]
    run = RunFolder("compare", config)
    if run.done:
        print(f"compare: already done, see {run.path}")
        return
    names = [c.name for c in candidates]
    if len(set(names)) < len(names):  # runs of the same name in different folders
        candidates = [c._replace(name=str(Path(run))) for c, run in zip(candidates, config.runs, strict=True)]
        names = [c.name for c in candidates]
    table = {c.name: {k: c.result[k] for k in NUMBERS if isinstance(c.result.get(k), float)} for c in candidates}
    page = Report("Latent models compared", ", ".join(f"`{name}`" for name in names))
    base = candidates[0]
    same = [c for c in candidates if c.judged_on == base.judged_on]
    if others := [c.name for c in candidates if c.judged_on != base.judged_on]:
        said = f"Judged on other pictures than {names[0]}, and therefore in the table only: {', '.join(others)} (other data, image_size, clip, seed or validation)."
        print(f"compare: {said}")
        page.text(said)
    present = [key for key in NUMBERS if any(key in row for row in table.values())]
    header = ["model", *(f"{NUMBERS[k][0]}{', ' + NUMBERS[k][1] if NUMBERS[k][1] else ''}" for k in present), "seconds"]
    rows = [[c.name, *(table[c.name].get(k) for k in present), c.result.get("seconds")] for c in candidates]
    page.section("Numbers", "On trajectories (or pictures) kept from training.").table(rows, header)
    page.table([[NUMBERS[k][0], NUMBERS[k][2]] for k in present], ["number", "what it says"])
    shown = thin(base.judged.rows, config.episodes)
    grid = [list(pictures_at(base.pictures, shown)), *(list(rebuilt(c.model, c.pictures, shown)) for c in same)]
    page.section("Reconstructions").grid(grid, row_labels=["picture", *(c.name for c in same)])
    if base.pictures.trajectories:
        episodes = thin(base.judged.episodes, config.episodes)
        grid, labels = [list(pictures_at(base.pictures, base.pictures.start[episodes]))], ["seen"]
        for c in same:
            if can_sample(c.model):
                grid += scene_columns(c.model, c.pictures, episodes, config.seed, draws=2)[1:]
                labels += [c.name, ""]
        page.section("Imagined", "Under the first picture of each trajectory, two samples of each model.").grid(grid, row_labels=labels)
    page.section("The command").command(command("compare", config))
    page.save(run.path / "report.html")
    (run.path / "comparison.json").write_text(json.dumps(table, indent=1) + "\n")
    say(header, rows)
    run.finish({"models": len(candidates), "seconds": round(time.monotonic() - began, 1)})


def open_candidate(run: str, device: str) -> Candidate:
    """A finished train run, its model and its pictures. Raises UserError for a run that is no train, or is not finished."""
    model = load_model(run, pick_device(device))
    settings: TrainConfig = compose("train", [f"run={run}", "resume=true"])
    pictures = open_pictures(settings, model.config.image_size)  # type: ignore[attr-defined]
    train, kept = split(pictures, settings)
    return Candidate(Path(run).name, settings, read_result(run), model, pictures, choose(pictures, train, kept))


def say(header: list[str], rows: list[list[Any]]) -> None:
    """The table for a person at a terminal: a column for each model, since there are more numbers than models."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for row in ([header[0]], *rows):
        table.add_column(str(row[0]), justify="left" if row[0] == header[0] else "right", overflow="fold")
    for i, name in enumerate(header[1:], start=1):
        cells = (row[i] for row in rows)
        table.add_row(name, *("" if cell is None else f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console().print(table)
