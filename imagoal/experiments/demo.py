"""Practice at imagined goals, at goals of other scenes, and none; then the two-stage task with the planner and without."""

from pathlib import Path

from imagoal.config import ExperimentConfig
from imagoal.stages import pipeline, practise, two_stage

SOURCES = {"affordance": "affordance", "other_scene_goals": "other_scenes", "no_practice": "none"}  # variant -> goal_source
BARS = [
    *((variant, f"success_{when}", f"{variant.replace('_', ' ')}: {when}") for variant in SOURCES for when in ("before", "after")),
    *((variant, "two_stage.success", f"two-stage, {variant.replace('_', ' ')}") for variant in ("planned", "final_goal_only")),
]


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Seed s collects, trains and pretrains anew, and practises in the s-th held-out scene."""
    scene, n = f"held_out/{seed}", config.episodes
    stages = pipeline(folder, "demo", seed, n, scene, config.device, config.threads)
    out = {}
    for variant, source in SOURCES.items():
        result = practise(folder, source, "demo", seed, n, scene, config.device, config.threads)
        out[variant] = {name: float(result[name]) for name in ("success_before", "success_after", "practice_gain")}
    out["affordance"] |= {f"{name}.seconds": float(r["seconds"]) for name, r in stages.items()}
    plan = two_stage(folder, "demo", seed, n, scene, config.device, config.threads)
    for variant in ("planned", "final_goal_only"):
        out[variant] = {"two_stage.success": float(plan[f"{variant}.success"])}
    return out
