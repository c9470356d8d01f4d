"""Speeds, measured: `python -m benchmarks.bench`, and the result files of the experiments."""
