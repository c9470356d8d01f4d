"""`imagoal subgoals`: what proposes subgoals for a policy, learned from its prior data (and, for a practised policy, from what it practised)."""

import time

import numpy as np
import torch

from imagoal.compose import command
from imagoal.config import SubgoalsConfig
from imagoal.evaluation import seeded
from imagoal.figures import metric_chart
from imagoal.loading import encoded, load_policy, open_trajectories, pick_device, require_codes
from imagoal.report import Report
from imagoal.run import RunFolder, read_metrics
from imagoal.subgoals import PLANNED, Imagination, check_value, fit_generators, imagination, material, stamp
from vision.images import to_uint8

STARTS, DRAWS = 6, 8  # of the page


def main(config: SubgoalsConfig) -> None:
    """Train all levels, or continue; leaves their checkpoints, report.html and result.json."""
    check_value(config.policy)
    began, device = time.monotonic(), pick_device(config.device)
    policy = load_policy(config.policy, device)
    require_codes(policy.eyes, policy.pretrain["model"], PLANNED)
    run = RunFolder("subgoals", config)
    if run.done:
        print(f"subgoals: already done, see {run.path}")
        return
    columns = open_trajectories(policy.pretrain["data"])
    codes = encoded(policy.eyes.model, policy.pretrain["model"], columns)
    seen = material(policy, columns, codes)
    generators = fit_generators(run, config.planner, config.generator, policy, seen, config.steps, config.seed, device)
    run.checkpoint("stamp", {}, {"model": stamp(policy), "levels": len(generators), "scale": generators[0].config.latent_scale})  # type: ignore[union-attr]
    made = imagination(policy, config.planner, generators, seen, config.seed, device)
    result = {"levels": len(generators), "feasible_value": made.feasible, "seconds": round(time.monotonic() - began, 1)}
    report(config, run, made, columns.image, np.asarray(columns.start)).save(run.path / "report.html")
    run.finish(result)


@torch.no_grad()
def report(config: SubgoalsConfig, run: RunFolder, made: Imagination, images: np.ndarray, starts: np.ndarray) -> Report:
    """The page: what each level proposes from some starts, and the curves."""
    eyes = made.policy.eyes
    page = Report("Generators of subgoals", f"imagoal subgoals, method `{config.planner.method}`, policy `{config.policy}`, seed {config.seed}")
    rows = starts[np.linspace(0, len(starts) - 1, STARTS).astype(int)]
    pictures = np.asarray(images[rows])
    z = eyes.latents(eyes.codes(pictures)).clone()
    for i, planner in enumerate(made.planners):
        u = torch.randn(STARTS * DRAWS, planner.config.latent_dim, generator=seeded(config.seed, 31, device=z.device), device=z.device)
        drawn = planner.generate(z.repeat_interleave(DRAWS, 0), u)
        drawn = drawn if planner.quantize is None else planner.quantize(drawn)
        shown = to_uint8(eyes.model.decode(drawn)).cpu().numpy().reshape(STARTS, DRAWS, *pictures.shape[1:])
        page.section(f"Level {i}: {config.planner.levels[i]} steps on", "Left: a start of the data; then what may be seen so many steps later, drawn at random and decoded.")
        page.grid([[pictures[k], *shown[k]] for k in range(STARTS)])
    metrics = read_metrics(run.path)
    page.section("Learning curves")
    for name in [n for n in metrics if n.endswith((".reconstruction", ".kl"))]:
        if figure := metric_chart(metrics, {name: ""}, name.replace("_", " "), "step"):
            page.figure(figure)
    page.section("The command").command(command("subgoals", config))
    return page
