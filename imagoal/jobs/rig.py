"""`imagoal rig`: from nothing to reaching goal pictures, by goals it sets itself (RIG, thesis ch. 2, Algorithm 1; with a CC-VAE CC-RIG,
ch. 3, Algorithm 2).

Explore at random, fit the latent model to what was seen, then round after round: imagine a goal for each attempt, try it, store latents,
relabel, update; from time to time fine-tune the model on everything seen and encode that anew. Rewards are latent distances. Ground truth
is read only by evaluations, whose results never reach the agent; and by the oracle, sight=state, which is no learner from pictures.
"""

import time
from typing import Any

import numpy as np

from envs.worlds import World, make_world
from imagoal import model_page
from imagoal.compose import command
from imagoal.config import RigConfig
from imagoal.errors import UserError, explained
from imagoal.exploration import explore, fit_model
from imagoal.figures import metric_chart
from imagoal.films import save_film
from imagoal.judging import Judged, choose, judge
from imagoal.loading import pick_device
from imagoal.practice_page import strip_of
from imagoal.progress import progress
from imagoal.report import Report
from imagoal.run import RunFolder, read_config, read_metrics
from imagoal.self_practice import Loop, attempt, count_rounds, finetune, open_loop, restore, tensors, update
from imagoal.sight import Eyes
from imagoal.trials import Trial, evaluate, image_size
from vision import save
from vision.pictures import Pictures, split_rows

SOLVED = 0.8  # share of goals reached that counts as a world solved
SHOWN = 6  # attempts in the report


def main(config: RigConfig) -> None:
    """Explore, see, practise, or continue; leaves RUN/exploration, RUN/model, the checkpoint `rig`, films, report.html and result.json."""
    device = pick_device(config.device)
    with explained("world"):
        world = make_world(config.world, config.parallel, image_size(config))
    check(config)
    run = RunFolder("rig", config)
    if run.done:
        print(f"rig: already done, see {run.path}")
        return
    if advice := misfit(config, world):
        print(advice)
    began = time.monotonic()
    seen = explore(config, run, world)
    model, judged, result = None, None, {}
    if config.sight == "latent":
        model = fit_model(config, run, seen, device)
        judged = choose(seen, *split_rows(seen, 0.1, config.seed))
        result = {f"model.{name}": value for name, value in judge(model, seen, judged, config.seed).items()}
    loop = open_loop(config, run, world, seen, model, device)
    shown = practise(loop, run)
    last = evaluate(loop, config.evaluation_episodes, keep_images=True)
    result |= {**last.numbers, "explored": loop.explored, **solved(read_metrics(run.path), loop.explored)}
    if config.world == "multi_pusher":
        for objects in (0, 1, 2):
            result |= {f"objects_{objects}.{k}": v for k, v in evaluate(loop, config.evaluation_episodes, objects=objects).numbers.items()}
    result |= {f"seconds.{part}": round(seconds, 1) for part, seconds in loop.clock.seconds.items()}
    if config.finetune_every and isinstance(loop.sight, Eyes):
        save(loop.sight.model, run.path / "model_practised", {"world": config.world})
    result["seconds"] = round(time.monotonic() - began, 1)
    report(config, run, loop, seen, judged, shown, last, result).save(run.path / "report.html")
    run.finish(result)


def misfit(config: RigConfig, world: World) -> str:
    """Advice where the latents are not as many as the numbers that move: too few cannot hold them, and of more an encoder of keypoints fills
    all, so that most of what a Gaussian imagines could not be seen. Empty where they fit."""
    latents, moving = getattr(config.vision, "latents", 0), world.family.moving
    if config.sight != "latent" or config.model or getattr(config.vision, "encoder", "") != "keypoints" or latents == moving:
        return ""
    return f"rig: the model has {latents} latents, and in {config.world} {moving} numbers move; vision.latents={moving} fits it (docs/rig.md)"


def check(config: RigConfig) -> None:
    """Refuse settings that cannot go together, before there is a run folder."""
    if config.sight != "latent" and config.finetune_every:
        raise UserError(f"finetune_every={config.finetune_every}: with sight={config.sight} there is no latent model. Leave it out.")
    if config.sight != "latent" and config.goal_source in ("prior", "fitted", "skew_fit"):
        raise UserError(f"goal_source={config.goal_source} needs a latent model: use sight=latent, or goal_source=replay.")
    if config.sight == "latent" and hasattr(config.vision, "grid"):
        raise UserError("vision: rig learns from flat latents, and this model's are grids of codes. Use vision=vae_rig, ccvae_rig, ae or dsae.")
    if config.goal_source == "world" and config.sight != "state":
        raise UserError("goal_source=world draws goals from the simulator's own state: for the oracle, sight=state, only.")
    if not -1 <= config.skew <= 0:
        raise UserError(f"skew={config.skew:g} must lie between -1 and 0.")
    if config.model:
        other = read_config(config.model, "rig")
        if (other["world"], other["sight"]) != (config.world, "latent"):
            raise UserError(f"model: {config.model} is of world={other['world']} sight={other['sight']}; this run is of world={config.world}.")


def practise(loop: Loop, run: RunFolder) -> dict[str, Any]:
    """All rounds from the last checkpoint on; returns the attempts kept for the report.

    Round r draws its starts, goals, noise and batches from generators seeded by (seed, r), so a run killed repeats its rounds exactly.
    """
    config, replay, saved, begin = loop.config, loop.replay, run.load_checkpoint("rig"), 0
    rounds, size = count_rounds(config, loop.horizon), loop.round_steps
    if saved:
        restore(loop, saved)
        begin, loop.clock.seconds = int(saved.state["round"]), dict(saved.state["seconds"])
    else:
        run.log(0, **evaluate(loop, config.evaluation_episodes).numbers, explored=loop.explored)
    shown: dict[str, Any] = {}
    with progress("practise", rounds * size, begin * size) as bar:
        for r in range(begin + 1, rounds + 1):
            done = r * size
            rollout, goal, first = attempt(loop, r, keep_images=r in (1, rounds // 2, rounds))
            if r in (1, rounds // 2, rounds):
                shown[f"round {r}"] = (rollout, loop.sight.pictures(goal[:SHOWN], None if first is None else first[:SHOWN]))
            with loop.clock("updates"):
                values: dict[str, Any] = dict(update(loop, r))
            if config.finetune_every and passes(done, size, config.finetune_every) and r < rounds:
                with loop.clock("fine-tuning"):
                    finetune(loop, r)
            last = r == rounds
            if last or passes(done, size, config.evaluate_every):
                values |= evaluate(loop, config.evaluation_episodes).numbers
                run.log(done, **values, explored=loop.explored)
            bar.advance(size, **({"distance": values["final_distance"]} if "final_distance" in values else {}))
            if passes(done, size, config.checkpoint_every) or last:
                if loop.images is not None:
                    loop.images.flush()
                run.checkpoint("rig", tensors(loop), {"round": r, "seconds": loop.clock.seconds, "rows": replay.used_rows})
    return shown


def passes(done: int, size: int, every: int) -> bool:
    """Whether a multiple of `every` lies in the last `size` steps."""
    return done // every > (done - size) // every


def solved(metrics: dict[str, Any], explored: int) -> dict[str, int]:
    """`solved_at`: steps, exploration counted, after which an evaluation first found the world solved."""
    for step, success in zip(metrics["step"], metrics["success"], strict=True):
        if success is not None and success >= SOLVED:
            return {"solved_at": int(step) + explored}
    return {}


def report(
    config: RigConfig, run: RunFolder, loop: Loop, seen: Pictures, judged: Judged | None, shown: dict[str, Any], last: Trial, result: dict[str, Any]
) -> Report:
    """The page: how near it comes, what it imagined and tried, what the model sees, where the time went."""
    kind = type(loop.sight.model).__name__ if isinstance(loop.sight, Eyes) else config.sight
    page = Report(f"Goals of its own in {config.world}", f"sees {kind}, {result['explored']} steps of exploration and {config.steps} of practice, seed {config.seed}")
    page.numbers([
        ("Final distance", f"{100 * result['final_distance']:.1f} cm", f"{100 * result['start_distance']:.1f} cm at the start; {config.evaluation_episodes} true goals"),
        ("Success", f"{100 * result['success']:.0f}%", "of true goals, judged by the simulator"),
        ("Time", f"{result['seconds']:.0f} s", "this session"),
    ])  # fmt: skip
    metrics = read_metrics(run.path)
    if curve := metric_chart(metrics, {"final_distance": "", "start_distance": "at the start"}, "Final distance to goal", "steps of practice", "m"):
        page.figure(curve)
    if curve := metric_chart(metrics, {"success": ""}, "True goals reached", "steps of practice", "share"):
        page.figure(curve)
    page.section("Imagined and tried", "Left to right: the start, the goal that was imagined (decoded), and the attempt at it.")
    for name, (rollout, goals) in shown.items():
        if goals is not None:
            page.grid([strip_of(rollout, i, goals[i]) for i in range(min(3, len(goals)))], caption=name)
    page.section("True goals", "Left to right: the start, the goal, the attempt.")
    rows = [strip_of(last.rollout, i, last.goals[i]) for i in range(min(SHOWN, len(last.goals)))]
    page.grid(rows, row_labels=["reached" if s else "missed" for s in last.success[: len(rows)]])
    assert last.rollout.images is not None
    save_film(run.films / "true-goals.gif", film_of(last), upscale=2)
    if isinstance(loop.sight, Eyes) and judged is not None:
        model_page.reconstructions(page, loop.sight.model, seen, judged)
        model_page.samples(page, loop.sight.model, seen, judged, config.seed)
        model_page.traversals(page, loop.sight.model, seen, judged)
        model_page.distances(page, loop.sight.model, seen, judged)
    spent = loop.clock.seconds
    total = sum(spent.values()) or 1.0
    page.section("Where the time went").table([[k, v, 100 * v / total] for k, v in spent.items()], ["part of practice", "seconds", "percent"])
    page.section("The command", "Every setting is in `config.yaml` in the run folder.").command(command("rig", config))
    return page


def film_of(trial: Trial, most: int = 4) -> np.ndarray:
    """Frames (T, H, W, 3): goals above, attempts below."""
    assert trial.rollout.images is not None
    shown = trial.rollout.images[:most]
    goals = np.concatenate(list(trial.goals[:most]), 1)
    return np.stack([np.concatenate([goals, np.concatenate(list(frame), 1)], 0) for frame in shown.transpose(1, 0, 2, 3, 4)])
