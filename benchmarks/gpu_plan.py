"""A plan at PTP's size on a GPU: `python -m benchmarks.gpu_plan --out FILE.json [--device cuda] [--quick]`.

Seconds per plan of 1 and of 16 problems in float32, in float32 with TF32 products and in bf16; as it is (`eager`), with the fastest convolutions looked for
(`tuned`), and these captured in a CUDA graph (`graph`). A round's number is a median over calls, and the ways take turns within a round. Written in the form of the experiments'
result files, a round standing where they have a seed. Beside the times: what the GPU finds with the CPU's noise, the peak of memory, and the kernels that took longest.
"""

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bench import summary
from imagoal.jobs.experiment import commit
from planning.generator import SubgoalCVAE, SubgoalCVAEConfig
from planning.levels import draw_levels, plan_levels, search_levels
from planning.planner import Noise, Plan, PlannerConfig, SubgoalPlanner

LATENT, SAMPLES = 720, 1024
ROUNDS = 3
CALLS = {1: 20, 16: 7}  # in a round, so that there are at least 20 of each
PRECISIONS = ("fp32", "tf32", "bf16")

Call = Callable[[], object]


class PaperNetworks(nn.Module):
    """A U-Net over a 12 x 12 grid of 5, and a value of two hidden layers of 256; random, and so that codes do matter."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = SubgoalCVAE(SubgoalCVAEConfig())
        nn.init.normal_(self.generator.decoder.out.weight, std=0.1)
        self.value = nn.Sequential(nn.Linear(2 * LATENT, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
        self.eval()

    def worth(self, a: Tensor, b: Tensor) -> Tensor:
        """V(a, b)."""
        values: Tensor = self.value(torch.cat([a, b], 1)).squeeze(1).float()
        return values

    def planners(self, samples: int = SAMPLES, precision: str = "32") -> list[SubgoalPlanner]:
        """Three levels of two subgoals each; a draw and five refinements."""
        settings = PlannerConfig(subgoals=2, samples=samples, precision=precision)
        return [SubgoalPlanner(self.generator.generate, self.worth, settings, begin=self.generator.begin) for _ in range(3)]


def allow(precision: str) -> str:
    """Set what float32 products are made of, and return the planner's precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    return "bf16" if precision == "bf16" else "32"


def captured(planners: Sequence[SubgoalPlanner], z: Tensor, goal: Tensor) -> Callable[[], Plan]:
    """`plan_levels(planners, z, goal)` with the search in a CUDA graph: noise is drawn into the graph's own, and the finest level's plans are the graph's."""
    torch.backends.cudnn.benchmark = True
    noise = draw_levels(planners, z)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated and chosen once must not be captured
        for _ in range(3):
            search_levels(planners, z, goal, noise)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = search_levels(planners, z, goal, noise)

    def plan() -> Plan:
        for static, drawn in zip(noise, draw_levels(planners, z), strict=True):
            for into, new in zip(static, drawn, strict=True):
                into.copy_(new)
        graph.replay()
        for planner, plan in zip(planners, found, strict=True):
            planner.accept(plan, remember=False)
        return found[-1]

    return plan


def tuned(search: bool, call: Call) -> Call:
    """A call during which cuDNN does or does not look for its fastest convolutions."""

    def run() -> object:
        torch.backends.cudnn.benchmark = search
        return call()

    return run


def ways(networks: PaperNetworks, device: torch.device, problems: int, samples: int, errors: dict[str, str]) -> dict[str, tuple[str, Call]]:
    """variant -> (precision, a call that plans); ways that fail are left out and said in `errors`."""
    z, goal = torch.randn(problems, LATENT, device=device), torch.randn(problems, LATENT, device=device)
    out: dict[str, tuple[str, Call]] = {}

    def add(variant: str, precision: str, make: Callable[[], Call]) -> None:
        try:
            call = make()
            for _ in range(3):
                call()
            out[variant] = (precision, call)
        except Exception as error:  # whatever it is: the other ways are still measured
            errors[f"{variant}.problems_{problems}"] = f"{type(error).__name__}: {error}"[:2000]

    for precision in PRECISIONS:
        planners = networks.planners(samples, allow(precision))
        eager = lambda planners=planners: plan_levels(planners, z, goal)  # noqa: E731
        add(f"{precision}.eager", precision, lambda eager=eager: tuned(False, eager))
        if device.type == "cuda":
            add(f"{precision}.tuned", precision, lambda eager=eager: tuned(True, eager))
            add(f"{precision}.graph", precision, lambda planners=planners: tuned(True, captured(planners, z, goal)))
    torch.backends.cudnn.benchmark = False
    return out


def seconds(call: Call, calls: int, device: torch.device) -> float:
    """Of one call, the median."""
    taken = []
    for _ in range(calls):
        settle(device)
        before = time.perf_counter()
        call()
        settle(device)
        taken.append(time.perf_counter() - before)
    return statistics.median(taken)


def settle(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def agreement(networks: PaperNetworks, device: torch.device, samples: int) -> dict[str, dict[str, float]]:
    """Precision -> how far costs, subgoals and the first costs of all candidates are from the CPU's in float32, with the same noise; relative, but for subgoals, whose share that is alike is told."""
    host = PaperNetworks()
    host.load_state_dict({k: v.cpu() for k, v in networks.state_dict().items()})
    z, goal = torch.randn(2, 1, LATENT).unbind()
    reference = host.planners(samples)
    noise = draw_levels(reference, z)
    want = search_levels(reference, z, goal, noise)
    costs = reference[0].cost(z, goal, noise[0].first)
    moved = [Noise(*(x.to(device) for x in n)) for n in noise]
    out = {}
    for precision in PRECISIONS:
        planners = networks.planners(samples, allow(precision))
        found = search_levels(planners, z.to(device), goal.to(device), moved)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            first = planners[0].cost(z.to(device), goal.to(device), moved[0].first).cpu()
        errors = [((a.cost.cpu() - b.cost) / b.cost).abs().max() for a, b in zip(found, want, strict=True)]
        alike = torch.isclose(found[-1].subgoals.cpu(), want[-1].subgoals, atol=1e-2).float().mean()
        out[precision] = {"plan_cost": float(max(errors)), "candidate_cost": float(((first - costs) / costs).abs().max()), "subgoals_alike": float(alike)}
    return out


def waits(networks: PaperNetworks, device: torch.device, samples: int) -> list[str]:
    """Where a search waits for the GPU, which it should not."""
    z, goal = torch.randn(2, 1, LATENT, device=device).unbind()
    said = []
    for precision in PRECISIONS:
        planners = networks.planners(samples, allow(precision))
        noise = draw_levels(planners, z)
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search_levels(planners, z, goal, noise)
        torch.cuda.set_sync_debug_mode("default")
        said += [f"{precision}: {w.filename}:{w.lineno}: {w.message}" for w in caught]
    return sorted(set(said))


def kernels(call: Call, device: torch.device, count: int = 15) -> dict[str, Any]:
    """The longest of one call, in milliseconds of the device, with how many of each; and all together."""
    activities = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        settle(device)
    on_device = device.type == "cuda"
    spent = [(e.key[:120], (e.self_device_time_total if on_device else e.self_cpu_time_total) / 1e3, e.count) for e in profile.key_averages()]
    spent = sorted((s for s in spent if s[1] > 0), key=lambda s: -s[1])
    return {
        "ms": round(sum(ms for _, ms, _ in spent), 3),
        "launches": sum(n for _, _, n in spent),
        "longest": {name: {"ms": round(ms, 3), "count": n} for name, ms, n in spent[:count]},
    }


def attempt(name: str, errors: dict[str, str], call: Callable[[], Any]) -> Any:
    """What a call returns; None, and its error written down, if it fails."""
    try:
        return call()
    except Exception as error:  # whatever it is: the rest is still measured
        errors[name] = f"{type(error).__name__}: {error}"[:2000]
        return None


def machine(device: torch.device) -> str:
    """Device and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.processor() or 'CPU'}, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_plan", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="one round of one call with 32 samples, to see that everything runs")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    options = parser.parse_args(arguments)
    device, samples = torch.device(options.device), 32 if options.quick else SAMPLES
    rounds = 1 if options.quick else ROUNDS
    begun, errors, variants, details = time.time(), {}, {}, {}  # type: ignore[var-annotated]
    torch.manual_seed(0)
    networks = PaperNetworks().to(device)

    def write() -> None:
        """After every part, so that what was measured is not lost."""
        result = {
            "experiment": "gpu_plan", "command": f"python -m benchmarks.gpu_plan --device {device}{' --quick' * options.quick}", "commit": commit(),
            "machine": machine(device), "seeds": list(range(rounds)), "wall_clock_s": round(time.time() - begun, 1), "variants": variants, "details": {**details, "errors": errors},
        }  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")

    for problems, calls in CALLS.items():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        per_round: dict[str, list[float]] = {}
        every = ways(networks, device, problems, samples, errors)
        for _ in range(rounds):
            for variant, (precision, call) in every.items():
                allow(precision)
                per_round.setdefault(variant, []).append(seconds(call, 1 if options.quick else calls, device) / problems)
        for variant, numbers in per_round.items():
            variants.setdefault(variant, {})[f"gpu_plan.seconds_per_plan.problems_{problems}"] = summary({"unit": "s", "per_seed": numbers})
            print(f"{variant:12} {problems:3} problems: {1e3 * statistics.fmean(numbers):9.2f} ms per plan", flush=True)
        if device.type == "cuda":
            details[f"peak_gib.problems_{problems}"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
            details["waits"] = attempt("waits", errors, lambda: waits(networks, device, samples))
        for variant, (precision, call) in every.items():
            if problems == 1 and not variant.endswith("graph"):
                allow(precision)
                details[f"kernels.{variant}"] = attempt(f"kernels.{variant}", errors, lambda call=call: kernels(call, device))
        del every
        write()
    details["agreement"] = attempt("agreement", errors, lambda: agreement(networks, device, samples))
    print(json.dumps({k: v for k, v in details.items() if not k.startswith("kernels")} | {"errors": errors}, indent=1))
    write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
