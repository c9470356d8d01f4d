"""The comparisons that `imagoal experiment NAME` runs over seeds, a module each.

A module has `one_seed(config, folder, seed)` -> {variant: {metric: number}}, every stage of it a run folder below `folder`, so that what
was cut off goes on; and `BARS`, the (variant, metric, label) rows of its figure, or `figure(result)` that draws another; `pictures(config, folder)` ->
{name: PNG} may add figures of what was seen (by seed 0), `summary(seeds)` entries of the result file made of variant -> metric -> one number per seed, and
`extra(config, folder, seeds, earlier)` entries made of the runs of `seeds`, as learning curves, beside those of an earlier result file.
"""

EXPERIMENTS = {
    "demo": "imagoal.experiments.demo",
    "resume": "imagoal.experiments.resume",
    "see": "imagoal.experiments.see",
    "rig": "imagoal.experiments.rig",
    "cc_rig": "imagoal.experiments.cc_rig",
    "real": "imagoal.experiments.real",
    "umaze": "imagoal.experiments.umaze",
    "offline_online": "imagoal.experiments.offline_online",
    "locomotion": "imagoal.experiments.locomotion",
    "val": "imagoal.experiments.val",
    "gate": "imagoal.experiments.gate",
    "ptp": "imagoal.experiments.ptp",
}
