"""Speeds of this machine: `python -m benchmarks.bench [--quick] [--peers] [--only TEXT] [--threads N] [--rounds N] [--out FILE]`.

Every case is measured once a round, the cases of a round one after another, so that a slow moment of the machine falls on
one round of all and not on all rounds of one. A round's number is a median over calls; where two ways are compared, their
ratio is taken within each round. Written in the form of the experiments' result files, a round standing where they have a
seed, to benchmarks/results/bench.json; with --peers, beside other libraries, to peers.json.
"""

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "bench.json"
SECONDS, QUICK_SECONDS = 0.7, 0.01  # of one case in one round


def measure(rounds: int, seconds: float, quick: bool, peers: bool = False, only: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """variant -> metric -> {unit, per_seed (one number a round), mean, ci95}."""
    module = importlib.import_module("benchmarks.peers" if peers else "benchmarks.cases")
    every = [case for case in module.cases(quick) if only in case.metric]
    if not every:
        raise SystemExit(f"bench: no metric has {only!r} in its name; see benchmarks/results/bench.json for those there are")
    values: dict[str, dict[str, dict[str, Any]]] = {}
    for number in range(rounds):
        print(f"bench: round {number + 1} of {rounds}, {len(every)} cases", file=sys.stderr)
        for case in every:
            entry = values.setdefault(case.variant, {}).setdefault(case.metric, {"unit": case.unit, "per_seed": []})
            entry["per_seed"].append(case.measure(seconds))
    for ratio in module.RATIOS:
        if any(ratio.of not in values.get(variant, {}) for variant in (ratio.fast, ratio.slow)):
            continue
        fast, slow = (values[variant][ratio.of]["per_seed"] for variant in (ratio.fast, ratio.slow))
        per_round = [f / s for f, s in zip(fast, slow, strict=True)]
        values[ratio.fast][ratio.metric] = {"unit": "ratio", "per_seed": per_round}
    return {variant: {metric: summary(entry) for metric, entry in kept.items()} for variant, kept in values.items()}


def summary(entry: dict[str, Any]) -> dict[str, Any]:
    """With the mean over rounds and its 95% interval (Student's t, cut at zero), to five significant digits."""
    from imagoal.stats import t_interval

    def digits(value: float) -> float:
        return float(f"{value:.5g}")

    per_seed = entry["per_seed"]
    low, high = t_interval(per_seed)
    mean = sum(per_seed) / len(per_seed)
    interval = [max(0.0, digits(float(low))), digits(float(high))]
    return {"unit": entry["unit"], "per_seed": [digits(v) for v in per_seed], "mean": digits(mean), "ci95": interval}


def machine(threads: int) -> str:
    """Cores, instruction sets, GPU and threads."""
    from imagoal.doctor import cpu, gpu

    graphics = gpu().value
    return f"{next(cpu()).value}, {'no GPU' if graphics.startswith('none') else graphics}, {threads} thread{'s' * (threads > 1)}"


def show(result: dict[str, Any]) -> None:
    """The table, one row per metric and variant."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['machine']}; {len(result['seeds'])} rounds, {result['wall_clock_s']:.0f} s", title_justify="left")
    table.add_column("metric")
    table.add_column("variant")
    for name in ("mean", "lowest", "highest"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    metrics = dict.fromkeys(metric for values in result["variants"].values() for metric in values)
    for metric in metrics:
        for variant, values in result["variants"].items():
            if metric in values:
                v = values[metric]
                numbers = (f"{n:,.0f}" if n >= 1000 else f"{n:.3g}" for n in (v["mean"], min(v["per_seed"]), max(v["per_seed"])))
                table.add_row(metric, variant, *numbers, v["unit"])
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs; writes only to --out")
    parser.add_argument("--peers", action="store_true", help="our agents and hindsight sampling beside other libraries', those of benchmarks/peers.txt that are installed")
    parser.add_argument("--only", default="", help="measure only what has this in its metric's name; goes to --out, benchmarks/results/bench_TEXT.json unless given")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: as many as there are cores)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--out", type=Path, help=f"file to write (default: {RESULT.relative_to(ROOT)})")
    options = parser.parse_args(arguments)
    if options.threads < 0 or options.rounds < 1:
        parser.error("need threads >= 0 and rounds >= 1")
    import torch

    from imagoal.disk import write_atomic
    from imagoal.doctor import usable_cores
    from imagoal.jobs.experiment import commit
    from imagoal.memory import flush_tiny_numbers, keep_freed_memory

    if arguments is None:
        keep_freed_memory()  # as the command line does
        flush_tiny_numbers()

    begun = time.time()
    threads = options.threads or usable_cores()
    before = torch.get_num_threads()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5 * usable_cores():
        busy = f"bench: this machine is busy (load {load:.1f} on {usable_cores()} cores): threads that wait for each other"
        print(f"{busy} can be a hundred times slower. Stop the rest, or use --threads 1.", file=sys.stderr)
    torch.set_num_threads(threads)
    try:
        rounds, seconds = (1, QUICK_SECONDS) if options.quick else (options.rounds, SECONDS)
        variants = measure(rounds, seconds, options.quick, options.peers, options.only)
    finally:
        torch.set_num_threads(before)
    result = {
        "experiment": ("peers" if options.peers else "bench") + (f"_{options.only}" if options.only else ""),
        "command": " ".join(["python -m benchmarks.bench", *(sys.argv[1:] if arguments is None else arguments)]),
        "commit": commit(),
        "machine": machine(threads),
        "seeds": list(range(rounds)),
        "wall_clock_s": round(time.time() - begun, 1),
        "variants": variants,
    }
    show(result)
    out = options.out or (None if options.quick else RESULT.with_stem(str(result["experiment"])))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, (json.dumps(result, indent=1) + "\n").encode())
        print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
