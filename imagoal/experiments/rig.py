"""RIG in worlds that always look alike (thesis ch. 2, figs. 3 to 6): against what else could be seen, and with parts of it taken away.

Every method starts with the same exploration, which counts as steps. The variants of RIG's rewards and goals share RIG's model as it was before practice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagoal.config import ExperimentConfig
from imagoal.experiments.curves import by_variant, curves, curves_figure, shared
from imagoal.stages import stages

STEPS = {"reacher": 6_000, "pusher": 25_000, "multi_pusher": 10_000}
SETTINGS: dict[str, tuple[str, ...]] = {
    "reacher": ("evaluate_every=500", "explore_episodes=100"),
    "pusher": ("evaluate_every=2500",),
    "multi_pusher": ("evaluate_every=2000", "explore_episodes=1700", "explore_horizon=5", "vision_steps=2000"),
}
ABLATION_STEPS = 10_000  # curves are compared at the same steps
METHODS: dict[str, tuple[str, ...]] = {  # fig. 3
    "rig": (),
    "oracle": ("sight=state",),
    "her_pixels": ("sight=pixels", "agent.encoder=pixels", "goals.reward.kind=pixel", "goals.reward.scale=50", "updates_per_step=0.25"),
    "autoencoder": ("vision=ae",),
    "spatial_autoencoder": ("vision=dsae",),
}
LATENTS = {"reacher": 2, "pusher": 4, "multi_pusher": 6}  # numbers of the flat models' latents
ABLATED = "pusher"
REWARDS: dict[str, tuple[str, ...]] = {  # fig. 4
    "reward_log_prob": ("goals.reward.kind=log_prob", "goals.reward.scale=0.001"),
    "reward_pixels": ("goals.reward.kind=pixel", "goals.reward.scale=50", "updates_per_step=0.25"),  # every batch is decoded
    "reward_sparse": ("goals.reward.kind=sparse",),
}
RELABELING: dict[str, tuple[str, ...]] = {  # fig. 5
    "relabel_none": ("goals.mixture.original=1", "goals.mixture.future=0", "goals.mixture.imagined=0"),
    "relabel_future": ("goals.mixture.original=0.2", "goals.mixture.future=0.8", "goals.mixture.imagined=0"),
    "relabel_imagined": ("goals.mixture.original=0.2", "goals.mixture.future=0", "goals.mixture.imagined=0.8"),
}
GOALS: dict[str, tuple[str, ...]] = {"goals_prior": ("goal_source=prior",)}  # for the fitted Gaussian
ABLATIONS = {**REWARDS, **RELABELING, **GOALS}
PAIRS = [*((world, name) for world in STEPS for name in METHODS), *((ABLATED, name) for name in ABLATIONS)]


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Every method in every world, then the ablations."""
    common = shared(config, seed)

    def words(world: str, more: tuple[str, ...], steps: int) -> list[str]:
        flat = [] if any(w.startswith(("sight=", "vision=dsae")) for w in more) else [f"vision.latents={LATENTS[world]}"]
        return [f"world={world}", f"steps={steps}", *SETTINGS[world], *common, *more, *flat]

    methods = [("rig", folder / f"{world}-{name}", words(world, more, STEPS[world])) for world in STEPS for name, more in METHODS.items()]
    found = stages(methods, config.workers)
    model = f"model={folder / f'{ABLATED}-rig'}"
    found += stages([("rig", folder / f"{ABLATED}-{name}", [*words(ABLATED, more, ABLATION_STEPS), model]) for name, more in ABLATIONS.items()], config.workers)
    return by_variant(dict(zip(PAIRS, found, strict=True)))


def extra(config: ExperimentConfig, folder: Path, seeds: Sequence[int], earlier: dict[str, Any]) -> dict[str, Any]:
    """The learning curves of every seed."""
    return {"curves": curves(folder, PAIRS, seeds, earlier)}


def figure(result: dict[str, Any]) -> bytes:
    """Figs. 3, 4 and 5 from these runs, and sources of goals."""
    panels = [(world.replace("_", " "), world, list(METHODS)) for world in STEPS]
    panels += [("pusher: rewards", ABLATED, ["rig", *REWARDS]), ("pusher: goals of relabeling", ABLATED, ["rig", *RELABELING]), ("pusher: where goals come from", ABLATED, ["rig", *GOALS])]
    return curves_figure(result, panels)
