"""`imagoal evaluate`: how often a policy reaches pictures of true goals in a scene."""

import time

from imagoal.config import EvaluateConfig
from imagoal.errors import explained
from imagoal.evaluation import evaluate
from imagoal.jobs.practice import strip_of
from imagoal.loading import load_policy, pick_device
from imagoal.report import Report
from imagoal.run import RunFolder, read_config


def main(config: EvaluateConfig) -> None:
    """Evaluate; prints the rate with its interval and leaves report.html and result.json."""
    run = RunFolder("evaluate", config)
    if run.done:
        print(f"evaluate: already done, see {run.path}")
        return
    began = time.monotonic()
    policy = load_policy(config.policy, pick_device(config.device))
    env = read_config(policy.pretrain["data"])["env"]
    with explained("scene"):
        judged = evaluate(policy.agent, policy.eyes, config.scene, config.episodes, config.horizon, env["image_size"],
                          tuple(env["kinds"]), config.changes, keep_images=True)  # fmt: skip
    low, high = judged.interval
    page = Report(f"{config.scene}", f"`{config.policy}` at {config.episodes} true goals")
    page.numbers([("Success", f"{100 * judged.rate:.0f}%", f"95% interval {100 * low:.0f} to {100 * high:.0f}%")])
    page.section("Attempts", "Left to right: the start, the goal, the attempt.")
    rows = [strip_of(judged.rollouts[0], i, judged.goals[i]) for i in range(min(8, config.episodes))]
    page.grid(rows, row_labels=["reached" if s else "missed" for s in judged.success[: len(rows)]])
    page.section("The command").command(f"imagoal evaluate policy={config.policy} scene={config.scene} episodes={config.episodes}")
    page.save(run.path / "report.html")
    print(f"success {judged.rate:.3f} (95% interval {low:.3f} to {high:.3f}, {config.episodes} episodes)")
    run.finish({"success": judged.rate, "success_ci95": judged.interval, "episodes": config.episodes,
                "seconds": round(time.monotonic() - began, 1)})  # fmt: skip
