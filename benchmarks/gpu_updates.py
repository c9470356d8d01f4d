"""Updates a second on a GPU, eager and as CUDA graphs: `python -m benchmarks.gpu_updates --out FILE.json`. IQL and AWAC at the sizes of benchmarks/peers.py.

    eager         drawing a batch (hindsight, codes decoded by lookup) and updating, kernel by kernel
    eager_alone   updating on a batch that is there
    graph         drawing a batch kernel by kernel, updating as a graph (`agents.graphed`), the batch copied to it
    graph_alone   updating as a graph on a batch that is there
    graph_whole   drawing and updating as one graph

FILE has the form of the experiments' result files, a way in a precision being a variant and a round, of which a number is the median of five stretches, a "seed"; the ways
take turns within a round. `details` holds what went wrong, as text. It is written after every number. `difference` is the largest of any parameter between 50
updates by graphs and 50 eager ones on the same batches. `--device cpu --quick` tries everything but the graphs.
"""

import argparse
import itertools
import json
import statistics
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from agents.graphed import WARM_UP, GraphedUpdate, record, recordable, uncounted
from benchmarks.bench import summary
from benchmarks.peers import SIZES, our_agent, our_sampler
from imagoal.disk import write_atomic
from imagoal.jobs.experiment import commit
from imagoal.learning import learn

AGENTS = ("iql", "awac")
PRECISIONS = ("32", "bf16")
CHECKED = 50  # updates that are compared


class Results:
    """Numbers by name, one of each round, on disk after each; of what failed in a round `details` as text, and no number."""

    def __init__(self, path: Path, machine: str) -> None:
        self.path, self.machine, self.values, self.details, self.began = path, machine, dict[str, list[float]](), dict[str, str](), time.time()

    def add(self, name: str, round: int, measure: Callable[[], float]) -> None:
        """Measure, and keep what it says; or why it could not."""
        try:
            found = measure()
            self.values.setdefault(name, []).append(found)
            print(f"{name}: {found}", flush=True)
        except Exception as error:  # the others are still worth having
            traceback.print_exc()
            self.details[f"{name}.round_{round}"] = f"{type(error).__name__}: {error}"
        write_atomic(self.path, (json.dumps(self.as_result(commit()), indent=1) + "\n").encode())

    def as_result(self, commit: str) -> dict[str, Any]:
        """Numbers by name, gpu.AGENT.WAY.WHAT.batch_SIZE.PRECISION, in design.md's form."""
        variants: dict[str, dict[str, Any]] = {}
        for name, rounds in self.values.items():
            if any(failed.startswith(f"{name}.round_") for failed in self.details):
                continue
            _, agent, way, what, size, precision = name.split(".")
            variants.setdefault(f"{way}.{precision}", {})[f"gpu.{agent}.{what}.{size}"] = summary({"unit": "updates/s" if what == "updates_per_s" else "", "per_seed": rounds}) | ({} if len(rounds) > 1 else {"ci95": None})
        return {
            "experiment": "gpu_updates", "command": "python -m benchmarks.gpu_updates", "commit": commit, "machine": self.machine, "seeds": list(range(max(map(len, self.values.values()), default=0))),
            "wall_clock_s": round(time.time() - self.began, 1), "variants": variants, "details": self.details,
        }  # fmt: skip


class Case:
    """One agent with batches of one size in one precision."""

    def __init__(self, name: str, size: int, precision: str, device: str) -> None:
        torch.manual_seed(0)
        self.name, self.size, self.precision, self.device = name, size, precision, device
        self.sampler, self.generator = our_sampler("images", device), torch.Generator(device).manual_seed(0)
        self.agent = our_agent(name, device)

    def mixed(self) -> torch.autocast:
        """As `imagoal.learning.learn` has it."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)

    def draw(self) -> Any:
        """A batch."""
        return self.sampler.draw(self.size, self.agent.length, self.generator)

    def eager(self) -> Callable[[], object]:
        """As every loop does it."""
        return lambda: learn(self.agent, self.sampler, 1, self.size, self.generator, self.precision)

    def alone(self, update: Any) -> Callable[[], object]:
        """On one batch."""
        batch = self.draw().clone()

        def step() -> None:
            with self.mixed():
                update(batch)

        return step

    def graph(self) -> Callable[[], object]:
        """The update as a graph."""
        update = GraphedUpdate(self.agent)

        def step() -> None:
            with self.mixed():
                update(self.draw())

        return step

    def whole(self) -> Callable[[], object]:
        """All in one graph. The agent's noise goes on from where it was instead of being seeded anew in every step."""
        agent, stream = self.agent, torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), self.mixed():
            for _ in range(WARM_UP):
                agent.update(self.draw())
        torch.cuda.current_stream().wait_stream(stream)
        noise = agent.seed_noise(agent.step + 1, agent.noise_seed.device)
        with self.mixed(), recordable(agent):
            replay, _ = record(lambda: uncounted(agent, self.draw()), [noise, self.generator], stream)
        return replay

    def difference(self) -> float:
        """Of parameters after as many updates by graphs and eager ones."""
        other = Case(self.name, self.size, self.precision, self.device)
        other.agent.restore(self.agent.checkpoint())
        update = GraphedUpdate(other.agent)
        for _ in range(CHECKED):
            batch = self.draw()
            with self.mixed():
                self.agent.update(batch)
                update(batch)
        if not update.recorded:
            raise RuntimeError("nothing was recorded")
        return max(float((a - b).abs().max()) for a, b in zip(self.agent.parameters(), other.agent.parameters(), strict=True))


def rate(step: Callable[[], object], seconds: float, device: str) -> float:
    """Steps a second: the median of five stretches, which together take about so many seconds, after a warm-up."""

    def stretch(n: int) -> float:
        began = time.perf_counter()
        for _ in range(n):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / n

    stretch(5)
    n = max(1, round(seconds / 5 / stretch(5)))
    return 1.0 / statistics.median(stretch(n) for _ in range(5))


WAYS: dict[str, Callable[[Case], Callable[[], object]]] = {
    "eager": Case.eager,
    "eager_alone": lambda case: case.alone(case.agent.update),
    "graph": Case.graph,
    "graph_alone": lambda case: case.alone(GraphedUpdate(case.agent)),
    "graph_whole": Case.whole,
}


def measured(make: Callable[[Case], Callable[[], object]], case: Callable[[], Case], seconds: float) -> float:
    """Updates a second of a fresh agent in one of the ways."""
    fresh = case()
    return rate(make(fresh), seconds, fresh.device)


def differing(case: Callable[[], Case]) -> float:
    """See `Case.difference`."""
    return case().difference()


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    device, seconds = args.device, 0.05 if args.quick else 0.6
    machine = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    results = Results(args.out, f"{machine}, torch {torch.__version__}")
    cases = [(name, size, precision) for name in AGENTS for size in (SIZES[:1] if args.quick else SIZES) for precision in PRECISIONS]
    for i, (way, make) in itertools.product(range(args.rounds), WAYS.items()):  # eager ones first
        if device == "cpu" and way.startswith("graph"):
            continue
        if i and any(".graph" in failed for failed in results.details):  # which can break what follows in the same process
            break
        for name, size, precision in cases:
            case = partial(Case, name, size, precision, device)
            results.add(f"gpu.{name}.{way}.updates_per_s.batch_{size}.{precision}", i, partial(measured, make, case, seconds))
            if way == "graph" and i == 0:
                results.add(f"gpu.{name}.graph.difference.batch_{size}.{precision}", i, partial(differing, case))


if __name__ == "__main__":
    main()
