"""The comparisons that `imagoal experiment NAME` runs over seeds, a module each.

A module has `one_seed(config, folder, seed)` -> {variant: {metric: number}}, every stage of it a run folder below `folder`, so that what
was cut off goes on; and `BARS`, the (variant, metric, label) rows of its figure, or `figure(result)` that draws another; `pictures(config, folder)` ->
{name: PNG} may add figures of what was seen, and `extra(config, folder)` entries of the result file, as learning curves.
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
}
