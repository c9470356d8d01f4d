"""A run folder is everything a job leaves behind, and what it continues from after being killed at any moment.

    FOLDER/config.yaml             the job and every value it ran with
    FOLDER/metrics.csv             one row per logged step
    FOLDER/checkpoints/NAME.json   which checkpoint NAME stands for; replaced in one move
    FOLDER/checkpoints/NAME-7/     tensors.safetensors and state.json, complete and on disk before anything points at them
    FOLDER/films/, report.html     what a person looks at
    FOLDER/result.json             the summary; its presence says the job is done

A checkpoint is written beside the old ones, synced, renamed, and only then pointed at; the two last ones are kept. So a kill or a full
disk at any point leaves the last good one, and rows of metrics written after it are dropped on resuming.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from imagoal.compose import to_plain
from imagoal.config import JobConfig
from imagoal.disk import sync_folder, write_atomic, write_synced
from imagoal.errors import UserError
from imagoal.metrics import Metrics, plain_numbers, read_metrics

if TYPE_CHECKING:
    import numpy as np
    import torch

    Generators = Mapping[str, np.random.Generator | torch.Generator]
    Tensors = dict[str, torch.Tensor]

KEEP = 2  # checkpoints of one name


class Checkpoint(NamedTuple):
    """What was saved: named tensors, and plain values that JSON can hold."""

    tensors: "Tensors"
    state: dict[str, Any]

    def part(self, name: str) -> "Tensors":
        """The tensors saved as NAME.KEY, by their keys."""
        return {key.removeprefix(f"{name}."): tensor for key, tensor in self.tensors.items() if key.startswith(f"{name}.")}


class RunFolder:
    """The folder of one run. `RunFolder(job, config)` creates `config.run`, or reopens it with `config.resume`.

    Attributes: path, job, resumed (whether it existed), films (folder).
    """

    def __init__(self, job: str, config: JobConfig) -> None:
        """Raises UserError when the folder is in use without resume=true, belongs to another job, or holds another configuration."""
        self.job, self.path = job, Path(config.run).expanduser()
        values = {"job": job, **to_plain(config)}
        self.resumed = config.resume and (self.path / "config.yaml").is_file()
        if self.resumed:
            self._compare(values, type(config))
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            again = f"imagoal {job} run={config.run} resume=true"
            raise UserError(f"{self.path} is not empty. Continue that run with: {again}; or choose another run=FOLDER.")
        self.checkpoints, self.films = self.path / "checkpoints", self.path / "films"
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.films.mkdir(exist_ok=True)
        except (PermissionError, NotADirectoryError) as error:
            raise UserError(f"cannot write run folder {self.path}: {error.strerror}. Choose another run=FOLDER.") from error
        if not self.resumed:
            write_atomic(self.path / "config.yaml", yaml.safe_dump(values, sort_keys=False).encode())
        for leftover in [*self.checkpoints.glob(".tmp-*"), *self.path.glob(".*.tmp-*"), *self.checkpoints.glob(".*.tmp-*")]:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self.metrics = Metrics(self.path / "metrics.csv", keep=max((p["rows"] for p in self._pointers()), default=0))
        print(f"{job}: {'continuing in' if self.resumed else 'run folder'} {self.path}", file=sys.stderr)

    def _compare(self, values: dict[str, Any], config: type[JobConfig]) -> None:
        """Refuse to resume with another configuration, naming the first key that differs."""
        old = yaml.safe_load((self.path / "config.yaml").read_text())
        if old.get("job") != self.job:
            raise UserError(f"{self.path} holds a {old.get('job')} run, not a {self.job} run. Choose another run=FOLDER.")
        free = {name for name, field in config.__dataclass_fields__.items() if field.metadata.get("free")}
        for name, was, now in differences(old, values):
            if name.split(".")[0] not in free:
                raise UserError(
                    f"cannot resume {self.path} with {name}={now}: it was started with {name}={was}. "
                    f"Leave {name} out, or start a new run in another run=FOLDER."
                )

    # -- metrics ---------------------------------------------------------------------------------------------------

    def log(self, step: int, **values: Any) -> None:
        """Append a row to metrics.csv (numbers or 0-d tensors; new names become new columns). Dotted names: `**{"a.b": 1}`."""
        self.metrics.append(step, values)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def checkpoint(self, name: str, tensors: "Tensors", state: dict[str, Any], rng: "Generators | None" = None) -> Path:
        """Save under `name` so that a kill or a full disk at any moment leaves the last complete checkpoint.

        tensors: any devices and layouts; state: values JSON can hold; rng: generators to save, restored by `load_checkpoint`.
        Raises OSError (ENOSPC on a full disk) after removing what it had begun; the older checkpoint still stands.
        """
        from safetensors.torch import save

        old = self._pointer(name) or {"number": 0, "kept": []}
        number = old["number"] + 1
        folder, begun = self.checkpoints / f"{name}-{number}", self.checkpoints / f".tmp-{name}-{os.getpid()}"
        generators = {key: rng_state(generator) for key, generator in (rng or {}).items()}
        text = json.dumps({"state": state, "rng": generators})
        try:
            self.metrics.sync()
            shutil.rmtree(begun, ignore_errors=True)
            begun.mkdir()
            write_synced(begun / "tensors.safetensors", save({k: t.detach().cpu().contiguous() for k, t in tensors.items()}))
            write_synced(begun / "state.json", text.encode())
            sync_folder(begun)
            shutil.rmtree(folder, ignore_errors=True)  # finished by a process killed before it could point at it
            begun.rename(folder)
            sync_folder(self.checkpoints)
            kept = [folder.name, *old["kept"]][:KEEP]
            pointer = {"number": number, "kept": kept, "rows": self.metrics.rows}
            write_atomic(self.checkpoints / f"{name}.json", json.dumps(pointer).encode())
        except BaseException:
            with contextlib.suppress(OSError):
                shutil.rmtree(begun, ignore_errors=True)
                if (self._pointer(name) or {"number": 0})["number"] != number:
                    shutil.rmtree(folder, ignore_errors=True)
            raise
        for stale in self.checkpoints.glob(f"{name}-*"):
            if stale.name not in kept and stale.name.removeprefix(f"{name}-").isdigit():
                shutil.rmtree(stale, ignore_errors=True)
        return folder

    def load_checkpoint(self, name: str, rng: "Generators | None" = None) -> Checkpoint | None:
        """The last good checkpoint of `name` (tensors on the CPU), or None where there is none; sets the generators in `rng` in place.

        Where the newest one cannot be read the one before is used, and said so. Raises UserError when none can be read.
        """
        pointer = self._pointer(name)
        if pointer is None:
            return None
        problem = ""
        for kept in pointer["kept"]:
            try:
                found, generators = read_checkpoint(self.checkpoints / kept)
            except UserError as error:
                problem = str(error)
                print(f"{self.job}: {problem} Trying the one before.", file=sys.stderr)
                continue
            for key, generator in (rng or {}).items():
                restore_rng(generator, generators[key])
            return found
        raise UserError(f"no readable checkpoint '{name}' in {self.path}: {problem} Start again in another run=FOLDER.")

    def _pointer(self, name: str) -> dict[str, Any] | None:
        path = self.checkpoints / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def _pointers(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.checkpoints.glob("[!.]*.json")]

    # -- the end ---------------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether the job finished."""
        return (self.path / "result.json").is_file()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write result.json, which marks the run as done, and say where everything is."""
        self.metrics.sync()
        write_atomic(self.path / "result.json", json.dumps(plain_numbers(summary), indent=1).encode())
        print(f"{self.job}: done, see {self.path}", file=sys.stderr)

    def result(self) -> dict[str, Any] | None:
        """The summary of a finished run."""
        return read_result(self.path) if self.done else None


# -- reading another job's run ------------------------------------------------------------------------------------------


def read_config(run: str | Path, job: str = "") -> dict[str, Any]:
    """The config.yaml of a run folder as plain values. Raises UserError when `run` is no run folder, or not of `job`."""
    path = Path(run).expanduser() / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run} is not a run folder (it has no config.yaml). Name a folder that imagoal {job or 'JOB'} wrote.")
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    if job and values.get("job") != job:
        raise UserError(f"{run} is the run of a {values.get('job')}; this needs the run of a {job}.")
    return values


def read_result(run: str | Path) -> dict[str, Any]:
    """The result.json of a finished run. Raises UserError when it is not finished."""
    path = Path(run).expanduser() / "result.json"
    if not path.is_file():
        job = read_config(run).get("job")
        raise UserError(f"{run} is not finished. Finish it with: imagoal {job} run={run} resume=true")
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def read_checkpoint(folder: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """One checkpoint's folder -> (tensors and state, generators' states). Raises UserError when it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load((folder / "tensors.safetensors").read_bytes())
        values = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot read checkpoint {folder}: {error}.") from error
    return Checkpoint(tensors, values["state"]), values["rng"]


def latest_checkpoint(run: str | Path, name: str) -> Checkpoint:
    """The last checkpoint NAME of another job's run. Raises UserError when there is none, or it cannot be read."""
    pointer = Path(run).expanduser() / "checkpoints" / f"{name}.json"
    if not pointer.is_file():
        job = read_config(run).get("job")
        raise UserError(f"{run} is not finished. Finish it with: imagoal {job} run={run} resume=true")
    return read_checkpoint(pointer.parent / json.loads(pointer.read_text())["kept"][0])[0]


# -- helpers ------------------------------------------------------------------------------------------------------------


def rng_state(generator: "np.random.Generator | torch.Generator") -> Any:
    """A generator's state as values JSON can hold."""
    if hasattr(generator, "bit_generator"):
        return generator.bit_generator.state
    return bytes(generator.get_state().tolist()).hex()


def restore_rng(generator: "np.random.Generator | torch.Generator", state: Any) -> None:
    """Put a generator back to a state from `rng_state`, in place."""
    if hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    else:
        import torch

        generator.set_state(torch.tensor(list(bytes.fromhex(state)), dtype=torch.uint8))


def use_threads(threads: int) -> None:
    """Give torch this many threads (0: leave it as it is), whether or not it is loaded yet."""
    if threads > 0:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)


def differences(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted key, old, new) wherever two trees of plain values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(n for n in new if n not in old)]
        return [d for n in names for d in differences(old.get(n), new.get(n), f"{key}.{n}" if key else n)]
    return [] if old == new else [(key, old, new)]


__all__ = ["Checkpoint", "RunFolder", "read_checkpoint", "read_config", "read_metrics", "read_result", "use_threads"]
