"""VAL at the desk (thesis ch. 9, figs. 44 and 48): practice in a held-out scene at goals from the affordance prior, beside goals from other models, from what was seen,
true ones, and no practice, with attempts that repeat and even practice, and without; CC-RIG, the earlier system, and more and less prior data, without; how good imagined
goals are; again in a second scene; and in a scene a seed in which nothing was ever tried.

Seed s has its own data and networks, and practises in the s-th held-out scene that has everything. The comparisons of goals share data, latent model, pretrained policy
and explorers: policies of few demonstrations, which leave room for practice and see through the model of all trajectories; explorers differ in their seed only. CC-RIG
clones the same demonstrations, but sees, is rewarded and imagines by its CC-VAE, whose flat latents an MLP reads; it explores alone, by its own noise, as do the policies of
more and less prior data, which see through models of just that.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.desk import DeskBatch
from envs.desk_tasks import TASKS, whole_scenes
from envs.families import FAMILIES, SceneSettings
from imagoal.affordances import Affordances, judge_samples, taught_probe
from imagoal.config import ExperimentConfig
from imagoal.evaluation import evaluate
from imagoal.judging import sampled
from imagoal.loading import load_model, load_policy, load_prior, pick_device
from imagoal.run import read_metrics
from imagoal.stages import Stage, remembered, stages

EYES = ("vision=vqvae_small", "vision.grid=12", "vision.stem=2", "vision.code_dim=5", "vision.foreground_weight=2", "vision.local=true", "vision.prior.copy=true", "vision.prior.attention=2")
GOAL_MODELS = {"vae_goals": "vae", "ccvae_goals": "ccvae", "bigan_goals": "bigan", "cbigan_goals": "cbigan"}  # variant -> vision
SOURCES = {"val": "affordance", **dict.fromkeys(GOAL_MODELS, "model"), "replay_goals": "replay", "oracle_goals": "oracle", "no_practice": "none"}
PLAIN = {f"{variant}_without_repeats": variant for variant, source in SOURCES.items() if source != "none"}  # variant -> the one that it is but for `WITHOUT`
WITHOUT = ("repeats=0", "even=false", "candidates=4")
EARLIER = "ccrig"  # the variant
ELSEWHERE = {"val_elsewhere": "val"}  # variant -> the one that it is, in each of other scenes
TRIED, OTHERS = 21, 1  # whole held-out scenes in which trials, or earlier comparisons, were made; how many of those beyond every seed practises in
EPISODES, SCENES = 450, 150
SIZES = {"val_quarter": 4, "val_half": 2, "val_whole": 1}  # variant -> the share of the prior data that it has is one in so many
IDLE = "no_practice_whole"  # the variant: the last of those without attempts
FEW, EXPLORERS = 150, (11, 12, 13)  # demonstrations, one of a scene; seeds of the policies that explore
PARALLEL, JUDGED_EVERY = 80, 4  # attempts at once; rounds of them after which practice from each size is judged, too
SAMPLED = 32  # imagined goals of each judged scene
JUDGED = 8  # held-out scenes in which imagined goals are judged
PROBE_SCENES, PROBE_STEPS = 1000, 3000  # the judge's own, and the same for all seeds
BARS = [(variant, f"success_{when}", f"{variant.replace('_', ' ')}: {when}") for variant in (*SOURCES, *PLAIN, *ELSEWHERE, EARLIER, *SIZES, IDLE) for when in ("before", "after")]
BARS += [(variant, f"{task}.success_{when}", f"{variant.replace('_', ' ')}, {task.replace('_', ' ')}: {when}") for variant in ("val", "val_elsewhere") for task in TASKS for when in ("before", "after")]


class Jobs:
    """The stages of one seed in the order of what they need, as lists for `stages`: of a list all can run at once."""

    def __init__(self, config: ExperimentConfig, folder: Path, seed: int) -> None:
        scenes = whole_scenes("held_out", TRIED + (seed + 1) * OTHERS)
        self.folder, (self.here, self.there) = folder, scenes[seed : seed + 2]
        self.others = scenes[-OTHERS:]
        self.common = [f"experiment={config.name}", f"seed={seed}", f"device={config.device}"]
        self.judged = f"evaluation_episodes={config.episodes}"
        team = ",".join(str(self.named("policy", f"-few-{k}")) for k in EXPLORERS)
        self.explored = [f"explorers=[{team}]", "noise=false"]  # all do what they find best: they differ
        self.shares = {"" if part == 1 else f"-{variant}": part for variant, part in SIZES.items()}

    def named(self, kind: str, ending: str = "") -> Path:
        """The folder of a stage: of the comparison itself, or with the ending -VARIANT of one variant."""
        return self.folder / f"{kind}{ending}"

    def collect(self) -> list[Stage]:
        """Prior data, less and whole, and the few."""
        parts = {e: (EPISODES // part, SCENES // part) for e, part in self.shares.items()} | {"-few": (FEW, FEW)}
        return [("collect", self.named("data", e), [*self.common, f"episodes={episodes}", f"scenes={scenes}", "workers=1"]) for e, (episodes, scenes) in parts.items()]

    def train(self) -> list[Stage]:
        """Latent models of each with their prior; and the other models of goals."""
        eyes: list[Stage] = [("train", self.named("model", e), [f"data={self.named('data', e)}", *EYES, *self.common]) for e in self.shares]
        return eyes + [("train", self.named("model", f"-{variant}"), [f"data={self.named('data')}", f"vision={vision}", *self.common]) for variant, vision in GOAL_MODELS.items()]

    def pretrain(self) -> list[Stage]:
        """A policy of each; and those of few demonstrations through the model of all: the one that learns, its explorers, and CC-RIG's."""
        out: list[Stage] = [("pretrain", self.named("policy", e), [f"data={self.named('data', e)}", f"model={self.named('model', e)}", *self.common]) for e in self.shares]
        few = [f"data={self.named('data', '-few')}", f"model={self.named('model')}", *self.common]
        out += [("pretrain", self.named("policy", "-few"), few), *(("pretrain", self.named("policy", f"-few-{k}"), [*few, f"seed={k}"]) for k in EXPLORERS)]
        return [*out, ("pretrain", self.named("policy", f"-{EARLIER}"), [few[0], f"model={self.named('model', '-ccvae_goals')}", *self.common, "agent.encoder=mlp"])]  # its latents are flat

    def practice(self) -> list[Stage]:
        """In the order of SOURCES, PLAIN and EARLIER."""
        jobs = [self._few(variant, variant, self.here) for variant in (*SOURCES, *PLAIN)]
        return [*jobs, self._practice(EARLIER, self.named("policy", f"-{EARLIER}"), self.here, "model", [*self._imagined_by("ccvae_goals"), *WITHOUT])]

    def more(self) -> list[Stage]:
        """In the order of SIZES, and IDLE; then what VAL has practised goes on in a second scene."""
        curve, endings = [f"evaluate_every={JUDGED_EVERY}", *WITHOUT], zip(SIZES, self.shares, strict=True)
        jobs = [self._practice(variant, self.named("policy", ending), self.here, "affordance", curve) for variant, ending in endings]
        jobs.append(self._practice(IDLE, self.named("policy"), self.here, "none", curve))
        return [*jobs, self._practice("again", self.named("practice-val"), self.there, "affordance", self.explored)]

    def elsewhere(self) -> list[Stage]:
        """In the order of ELSEWHERE, in each of the others."""
        return [self._few(f"{variant}-{i}", like, scene) for variant, like in ELSEWHERE.items() for i, scene in enumerate(self.others)]

    def _few(self, variant: str, like: str, scene: str) -> Stage:
        """Practice of the policy of few demonstrations, with its explorers; its goals are `like`'s, of SOURCES or PLAIN."""
        first, plain = (PLAIN[like], WITHOUT) if like in PLAIN else (like, ())
        words = [*self._imagined_by(first), *self.explored, *plain]
        return self._practice(variant, self.named("policy", "-few"), scene, SOURCES[first], words)

    def _imagined_by(self, variant: str) -> list[str]:
        return [f"goal_model={self.named('model', f'-{variant}')}"] if variant in GOAL_MODELS else []

    def _practice(self, variant: str, policy: Path, scene: str, source: str, more: list[str]) -> Stage:
        words = [f"policy={policy}", f"scene={scene}", f"goal_source={source}", f"parallel={PARALLEL}", *self.common, self.judged]
        return "practice", self.named(f"practice-{variant}"), words + more


def one_seed(config: ExperimentConfig, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Data, models and policies, then practice in every way."""
    jobs = Jobs(config, folder, seed)
    for prepared in (jobs.collect(), jobs.train(), jobs.pretrain()):
        stages(prepared, config.workers)
    found = dict(zip((*SOURCES, *PLAIN, EARLIER), stages(jobs.practice(), config.workers), strict=True))
    *more, again = stages(jobs.more(), config.workers)
    found |= zip((*SIZES, IDLE), more, strict=True)
    out = {variant: numbers(result) for variant, result in found.items()}
    for variant in (*SIZES, IDLE):
        out[variant] |= curve(folder / f"practice-{variant}")
    there = iter(stages(jobs.elsewhere(), config.workers))
    for variant in ELSEWHERE:
        out[variant] = over_scenes([numbers(next(there)) for _ in range(OTHERS)])
    kept = remembered(folder / "first_scene.json", lambda: judged_in(folder / "practice-again", jobs.here, config))
    out["second_scene"] = numbers(again) | {"first_scene.success_after_first": float(found["val"]["success_after"]), "first_scene.success_after_second": kept}
    for variant, quality in remembered(folder / "affordances.json", lambda: goal_numbers(affordances(folder, seed, config))).items():
        out.setdefault(variant, {}).update(quality)
    return out


def goal_numbers(found: dict[str, Affordances]) -> dict[str, dict[str, float]]:
    """How good each variant's goals are, as metrics."""
    return {
        variant: {"goals.coherent": q.coherent, "goals.affords": q.affords, "goals.kinds": q.kinds, **{f"goals.shows_{kind}": v for kind, v in q.shares.items()}}
        for variant, q in found.items()
    }


def numbers(result: dict[str, Any]) -> dict[str, float]:
    """Success before and after, of all and of each task; the number of attempts lost and the share practised; and what it cost."""
    kept = {k: float(v) for k, v in result.items() if "success" in k and not k.endswith("ci95")}
    return kept | {name: float(result[name]) for name in ("lost", "kept", "seconds")}


def over_scenes(found: list[dict[str, float]]) -> dict[str, float]:
    """Means over scenes; and success before and after in each, as `scene_I.success_WHEN`."""
    each = {f"scene_{i}.{name}": one[name] for i, one in enumerate(found) for name in ("success_before", "success_after")}
    return each | {name: sum(one[name] for one in found) / len(found) for name in found[0]}


def curve(run: Path) -> dict[str, float]:
    """Success after so many attempts, as `success_after_ATTEMPTS`, where a practice run was judged on its way."""
    metrics = read_metrics(run)
    judged = [(step, success) for step, success in zip(metrics["step"], metrics["success"], strict=True) if step and success is not None]
    return {f"success_after_{step:.0f}": success for step, success in judged[:-1]}  # the last one is `success_after`


def judged_in(run: Path, scene: str, config: ExperimentConfig) -> float:
    """Success of a practised policy in another scene than its own."""
    policy = load_policy(str(run), pick_device(config.device))
    horizon = int(policy.settings["horizon"]) or FAMILIES[policy.scenes.family].steps()
    return evaluate(policy.agent, policy.eyes, policy.scenes, scene, config.episodes, horizon).rate


def affordances(folder: Path, seed: int, config: ExperimentConfig) -> dict[str, Affordances]:
    """How good the goals are that each model imagines for held-out scenes; `true_goals` is what the probe says of experts' outcomes, each from its own start,
    `decoded_goals` of those through the VQ-VAE, `other_scene_goals` of those of another scene (nobody practises them)."""
    device = pick_device(config.device)
    size = SceneSettings().image_size
    probe = taught_probe(folder.parent / "probe.safetensors", PROBE_SCENES, size, PROBE_STEPS, device)
    names = [f"held_out/{n}" for n in range(JUDGED)]
    seen = []
    for name in names:
        world = DeskBatch(name, 0, size)
        starts, goals = world.sample(np.arange(seed * 1000, seed * 1000 + SAMPLED))
        seen.append([world.picture(states) for states in (world.starts([seed]), starts, goals)])
        world.close()
    first, begun, ended = (np.stack(pictures) for pictures in zip(*seen, strict=True))
    shown = first[:, 0]
    out = {"true_goals": judge_samples(probe, names, begun, ended), "other_scene_goals": judge_samples(probe, names, begun, np.roll(ended, 1, 0))}
    policy = load_policy(str(folder / "policy"), device)
    out["decoded_goals"] = judge_samples(probe, names, begun, np.stack([policy.eyes.pictures(policy.eyes.codes(goals)) for goals in ended]))
    load_prior(policy.pretrain["model"], policy.eyes).attach()
    models = {"val": policy.eyes.model, **{variant: load_model(str(folder / f"model-{variant}"), device) for variant in GOAL_MODELS}}
    with torch.no_grad():
        for variant, model in models.items():
            drawn = np.stack([sampled(model, SAMPLED, picture, seed + i) for i, picture in enumerate(shown)])
            out[variant] = judge_samples(probe, names, shown, drawn)
    return out
