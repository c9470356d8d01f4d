"""The comparisons that `imagoal experiment NAME` runs over seeds, a module each.

A module has `one_seed(config, folder, seed)` -> {variant: {metric: number}}, every stage of it a run folder below `folder`, so that what
was cut off goes on; and `BARS`, the (variant, metric, label) rows of its figure.
"""

EXPERIMENTS = {"demo": "imagoal.experiments.demo", "resume": "imagoal.experiments.resume"}
