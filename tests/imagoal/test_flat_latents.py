"""Policies on flat latents (VAE, CC-VAE): what is stored is the model's own, each of its trajectory's context, from data to practice."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from job_cases import refusal

from envs.families import open_scene
from goals.relabel import HindsightSampler, Mixture
from goals.rewards import SparseReward
from imagoal.compose import load
from imagoal.goal_sources import Outcomes, goal_source
from imagoal.jobs import practice
from imagoal.jobs.practice import beginning
from imagoal.loading import encoded, load_policy, open_trajectories, trajectory_replay
from imagoal.run import latest_checkpoint
from imagoal.sight import Eyes
from imagoal.stages import stage
from vision.ccvae import CCVAEConfig
from vision.store import build

CPU = torch.device("cpu")
SMALL = ("threads=1", "batch_size=32")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Tabletop trajectories, a CC-VAE of them, and a policy that sees through it."""
    home = tmp_path_factory.mktemp("flat")
    stage("collect", home / "data", "threads=1", "scenes=3", "episodes=9", "workers=1", "horizon=10")
    stage("train", home / "model", f"data={home / 'data'}", *SMALL, "vision=ccvae", "vision.latents=3", "vision.contexts=5", "vision.hidden=32", "steps=8")
    stage("pretrain", home / "policy", f"data={home / 'data'}", f"model={home / 'model'}", *SMALL, "agent=bc", "agent.hidden=32", "updates=4")
    return home


def pictures(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 48, 48, 3), dtype=np.uint8)


def test_eyes_of_a_model_without_codes_store_its_latents():
    model = build(CCVAEConfig(latents=3, contexts=5, hidden=32))
    eyes, seen, first = Eyes(model), pictures(4, 0), pictures(4, 1)
    with torch.no_grad():
        z = model.encode(torch.from_numpy(seen), torch.from_numpy(first))
        drawn = model.decode(z, torch.from_numpy(first))
    stored = eyes.look(seen, np.zeros((4, 1)), first)
    assert eyes.lookup is None and eyes.cells == eyes.latent_dim == 8
    assert torch.equal(stored, z) and torch.equal(eyes.latents(stored), z)
    assert np.abs(eyes.pictures(stored, first).astype(float) / 255 - drawn.permute(0, 2, 3, 1).numpy()).max() < 1 / 255
    with pytest.raises(ValueError, match="context"):
        eyes.codes(seen)


def test_prior_data_attempts_and_goals_have_their_own_contexts(home, monkeypatch):
    policy = load_policy(str(home / "policy"), CPU)
    columns, model = open_trajectories(str(home / "data")), policy.eyes.model
    stored = encoded(model, str(home / "model"), columns)
    row, start = int(columns.start[4]) + 3, int(columns.start[4])
    with torch.no_grad():
        z = model.encode(*(torch.from_numpy(np.array(columns.image[i : i + 1])) for i in (row, start)))
    assert torch.allclose(stored[row], z[0], atol=1e-5)
    world = open_scene("held_out/0", 2, policy.scenes)
    begin = beginning(policy, world, np.array([5, 6]), None, 0)
    words = [f"policy={home / 'policy'}", f"run={home / 'x'}", *SMALL]
    oracle = goal_source(load("practice", [*words, "goal_source=oracle"]), policy, world, stored, Outcomes(8, torch.float32, CPU), None, None)
    starts, goals = world.sample(begin.seeds)
    begin = beginning(policy, world, begin.seeds, starts, 0)
    shown, first = (torch.from_numpy(world.picture(states)) for states in (goals, starts))
    with torch.no_grad():
        assert torch.equal(oracle(begin, torch.Generator()), model.encode(shown, first))
        assert torch.equal(begin.latents, model.encode(first, first)) and not torch.equal(model.encode(shown, first), model.encode(shown, shown))
        monkeypatch.setattr(practice, "gone_home", lambda world, starts, homing: shown.numpy())
        homed = beginning(policy, world, begin.seeds, starts, homing=3)  # its context is what it looked like before the robot left
        assert torch.equal(homed.latents, model.encode(shown, first)) and np.array_equal(homed.first, first.numpy()) and np.array_equal(homed.pictures, shown.numpy())
    world.close()
    trajectories = trajectory_replay(columns, stored, policy.eyes, CPU)
    batch = HindsightSampler(trajectories, Mixture(future=0.0, random=1.0), SparseReward(1.0)).sample(64, torch.Generator().manual_seed(0))
    assert torch.allclose(batch.goal[:, 3:], batch.obs[:, 3:8], atol=1e-5) and not torch.allclose(batch.goal[:, :3], batch.obs[:, :3], atol=1e-3)


@pytest.mark.parametrize("source", ["model", "replay", "other_scenes", "oracle"])
def test_it_practises_at_goals_of_every_source_but_the_prior(home, source):
    more = [f"goal_model={home / 'model'}"] if source == "model" else []
    found = stage("practice", home / f"practice-{source}", f"policy={home / 'policy'}", *SMALL, "episodes=4", "parallel=2", "horizon=3", "updates_per_episode=2", "evaluation_episodes=2",
                  "evaluate_every=0", f"goal_source={source}", *more)  # fmt: skip
    assert 0 <= found["success_after"] <= 1 and (home / f"practice-{source}" / "report.html").is_file()
    replay = latest_checkpoint(str(home / f"practice-{source}"), "practice").part("replay")
    kept = replay["codes"][: 4 * 4]
    assert kept.dtype == torch.float32 and kept.isfinite().all() and (kept.std(0) > 0).any()
    contexts = kept.unflatten(0, (4, 4))[..., 3:]
    assert torch.allclose(contexts, contexts[:, :1].expand_as(contexts), atol=1e-5)  # z_c is an episode's
    aimed = replay["episode_goal"][:4, 3:]
    assert torch.allclose(aimed, contexts[:, 0], atol=1e-5)  # and its goal's


def test_what_needs_codes_says_so(home, capsys):
    said = refusal(capsys, "practice", f"policy={home / 'policy'}", "episodes=2", "parallel=2", f"run={home / 'no-prior'}")
    assert "CCVAE" in said and "goal_source=model" in said and "vision=vqvae" in said and not (home / "no-prior").exists()
    words = (f"data={home / 'data'}", f"model={home / 'model'}", *SMALL, "updates=2")
    said = refusal(capsys, "pretrain", *words, "agent=bc", "agent.encoder=conv", f"run={home / 'no-grid'}")
    assert "grid" in said and "mlp" in said
    said = refusal(capsys, "pretrain", *words, "goals.reward.kind=changed_cells", f"run={home / 'no-cells'}")
    assert "goals.reward" in said and "grid" in said
    stage("pretrain", home / "valued", *words, "agent=iql", "agent.hidden=32")
    said = refusal(capsys, "subgoals", f"policy={home / 'valued'}", f"run={home / 'no-subgoals'}")
    assert "CCVAE" in said and "codes" in said and not (home / "no-subgoals").exists()
    assert "CCVAE" in refusal(capsys, "plan", f"policy={home / 'valued'}", "episodes=2", f"run={home / 'no-plan'}")
