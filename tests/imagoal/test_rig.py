"""Practice from nothing: it learns, goes on exactly where it was killed, keeps scenes and stored latents consistent, refuses what cannot be."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from job_cases import kill_after_checkpoint, refusal, run_job, same_outcome

import imagoal.self_practice as practice
from envs.worlds import make_world
from imagoal.compose import load as load_config
from imagoal.exploration import explore, fit_model
from imagoal.jobs.rig import misfit
from imagoal.run import RunFolder, read_result
from imagoal.stages import stage
from vision.encoding import encode_dataset

TINY = ("threads=1", "explore_episodes=8", "explore_horizon=6", "parallel=2", "horizon=6", "evaluation_episodes=3", "imagined=4", "batch_size=32")
SEEING = ("vision_steps=8", "vision_batch_size=16", "vision.hidden=32", "vision.channels=4")


def test_the_oracle_solves_the_reacher(tmp_path):
    result = stage("rig", tmp_path / "run", "world=reacher", "sight=state", "threads=1", "steps=2000", "evaluate_every=500", "explore_episodes=20", "explore_horizon=50",
                   "evaluation_episodes=30", "agent.hidden=[64,64]")  # fmt: skip
    assert result["success"] >= 0.8 and result["final_distance"] < 0.25 * result["start_distance"], result
    assert result["explored"] == 1000 and 1000 < result["solved_at"] <= 3000
    parts = {k for k in result if k.startswith("seconds.")}
    assert {"seconds.physics", "seconds.updates", "seconds.rendering", "seconds.encoding"} <= parts
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_killed_and_resumed_it_ends_as_the_uninterrupted_run(tmp_path):
    words = ["world=multicolor_pusher", "vision=ccvae_rig", *TINY, *SEEING, "steps=240", "evaluate_every=60", "checkpoint_every=12", "finetune_every=48", "finetune_steps=2"]
    out, code = run_job("rig", f"run={tmp_path / 'whole'}", *words)
    assert code == 0, out
    kill_after_checkpoint(tmp_path / "killed" / "checkpoints" / "rig.json", "rig", f"run={tmp_path / 'killed'}", *words)
    out, code = run_job("rig", f"run={tmp_path / 'killed'}", "resume=true")
    assert code == 0, out
    same_outcome(tmp_path / "whole", tmp_path / "killed")
    assert (tmp_path / "whole" / "model_practised" / "config.json").is_file()


def opened(tmp_path, *words):
    """A loop as `main` makes it, before its first round."""
    config = load_config("rig", [f"run={tmp_path / 'run'}", *TINY, *words])
    run = RunFolder("rig", config)
    world = make_world(config.world, config.parallel)
    seen = explore(config, run, world)
    model = fit_model(config, run, seen, torch.device("cpu")) if config.sight == "latent" else None
    return practice.open_loop(config, run, world, seen, model, torch.device("cpu"))


def test_fitted_goals_have_the_mean_and_covariance_of_what_was_explored(tmp_path):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(4000, 3, generator=generator) @ torch.tensor([[2.0, 0.5, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.0]]) + torch.tensor([1.0, -2.0, 5.0])
    drawn = practice.gaussian_draws(data, 20_000, generator)
    torch.testing.assert_close(drawn.mean(0), data.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(data.T), atol=0.15, rtol=0)
    loop = opened(tmp_path, "world=multicolor_pusher", "vision=ccvae_rig", *SEEING, "steps=60", "goal_source=fitted")
    c = loop.sight.context_dim
    assert torch.equal(loop.pool[0, :, -c:], loop.replay.codes[:1, -c:].expand(len(loop.pool[0]), -1))
    assert loop.pool[: loop.replay.next_episode, :, :-c].std() < 3 * loop.replay.codes[: len(loop.contexts), :-c].std()


def test_scenes_visited_twice_have_one_context(tmp_path):
    config = load_config("rig", [f"run={tmp_path / 'run'}", *TINY, "world=multicolor_pusher", "explore_visits=2"])
    seen = explore(config, RunFolder("rig", config), make_world(config.world, config.parallel))
    assert seen.scene.tolist() == [0, 1, 0, 1, 4, 5, 4, 5]  # rounds of two copies
    rows = seen.first
    np.testing.assert_array_equal(rows[seen.start], seen.start[seen.scene])
    colours = seen.state[:, -3:]
    np.testing.assert_array_equal(colours, colours[rows])
    assert len(np.unique(colours, axis=0)) == 4
    second = seen.start[[2, 3, 6, 7]]
    assert (np.linalg.norm(seen.state[second, 2:4] - seen.state[rows[second], 2:4], axis=1) > 1e-3).all(), "the puck was put elsewhere"


def test_every_goal_of_cc_rig_is_of_its_own_scene_and_no_stored_latent_is_stale(tmp_path):
    loop = opened(tmp_path, "world=multicolor_pusher", "vision=ccvae_rig", *SEEING, "steps=60", "finetune_every=12", "finetune_steps=3")
    c = loop.sight.context_dim
    assert c == 16
    for r in (1, 2):
        practice.attempt(loop, r, keep_images=False)

    def consistent():
        replay = loop.replay
        first = replay.start[: replay.used_rows].numpy().astype(np.int64)
        fresh = encode_dataset(loop.sight.model, loop.images[: replay.used_rows], first)
        np.testing.assert_allclose(replay.codes[: replay.used_rows].numpy(), fresh, atol=1e-4)
        batch = loop.sampler.sample(512, torch.Generator().manual_seed(0))
        torch.testing.assert_close(batch.goal[:, -c:], batch.obs[:, -c:], atol=1e-4, rtol=0)
        torch.testing.assert_close(batch.goal[:, -c:], batch.next_obs[:, -c:], atol=1e-4, rtol=0)
        assert batch.obs[:, -c:].unique(dim=0).shape[0] > 5, "several scenes"
        return replay.codes[: replay.used_rows].clone()

    before = consistent()
    practice.finetune(loop, 2)
    after = consistent()
    assert not torch.allclose(before, after, atol=1e-3), "the model moved"


def test_rewards_are_minus_the_distance_of_what_is_seen(tmp_path):
    loop = opened(tmp_path, "world=pusher", "sight=pixels", "goals.reward.kind=pixel", "steps=12", "agent.encoder=pixels")
    rollout, _, first = practice.attempt(loop, 1, keep_images=True)
    batch = loop.sampler.sample(16, torch.Generator().manual_seed(1))
    assert batch.obs.shape[1] == 3 * 48 * 48 and 0 <= float(batch.obs.min()) and float(batch.obs.max()) <= 1
    torch.testing.assert_close(batch.reward, -(batch.next_obs - batch.goal).square().mean(1))
    np.testing.assert_array_equal(loop.sight.pictures(rollout.codes[:, 0], None), first)


def test_goals_of_the_oracle_are_of_the_episodes_own_scene(tmp_path):
    loop = opened(tmp_path, "world=navigation", "sight=state", "steps=12")
    starts, _ = loop.world.sample([1, 2])
    stored = loop.sight.look(None, starts, None)
    goals = practice.draw_goals(loop, starts, stored, 5, torch.Generator().manual_seed(0))
    assert goals.shape == (2, 5, 2) and goals.abs().max() <= 1.1


def test_a_model_is_shared_and_kept_as_it_was(tmp_path):
    words = ("world=reacher", *TINY, *SEEING, "steps=24", "evaluate_every=24")
    stage("rig", tmp_path / "first", *words)
    (weights,) = (tmp_path / "first" / "model").glob("weights*.safetensors")
    before = weights.read_bytes()
    shared = stage("rig", tmp_path / "second", *words, f"model={tmp_path / 'first'}", "goals.reward.kind=log_prob")
    assert not (tmp_path / "second" / "model").exists() and not (tmp_path / "second" / "exploration").exists()
    assert weights.read_bytes() == before
    assert shared["model.psnr"] == read_result(tmp_path / "first")["model.psnr"]


def test_bad_input_is_one_line(tmp_path, capsys):
    cases = [
        (("world=pushr",), "pusher"),
        (("sight=state", "finetune_every=5"), "finetune_every"),
        (("sight=pixels", "goal_source=prior"), "latent"),
        (("goal_source=world",), "sight=state"),
        (("skew=-2",), "between -1 and 0"),
        (("vision=vqvae",), "flat"),
        (("sight=state", "agent.encoder=conv"), "grid"),
        ((f"model={tmp_path}",), "config.yaml"),
    ]
    for i, (words, expected) in enumerate(cases):
        world = [] if words[0].startswith("world") else ["world=reacher"]
        assert expected in refusal(capsys, "rig", *world, *words, f"run={tmp_path / str(i)}", *TINY, *SEEING[:2], "steps=12"), words


def test_latents_that_do_not_fit_the_world_are_said(tmp_path):
    def advice(*words):
        config = load_config("rig", [*words, f"run={tmp_path}"])
        return misfit(config, make_world(config.world, 1))

    assert "vision.latents=2 fits" in advice("world=reacher") and "vision.latents=6 fits" in advice("world=multi_pusher")
    assert advice("world=pusher") == advice("world=reacher", "vision.latents=2") == advice("world=reacher", "sight=state") == ""
    assert advice("world=reacher", "vision=ae") == "", "only encoders of keypoints fill every latent"


def test_skew_fit_prefers_what_is_rare(tmp_path):
    loop = opened(tmp_path, "world=reacher", *SEEING, "vision.latents=2", "steps=24", "goal_source=skew_fit", "finetune_every=12", "finetune_steps=1")
    assert loop.skew is not None
    rows = loop.skew.rows(4000, torch.Generator().manual_seed(0))
    assert 0 <= int(rows.min()) and int(rows.max()) < loop.replay.used_rows
    generator = torch.Generator().manual_seed(1)
    flat = practice.skewed(opened(tmp_path / "flat", "world=reacher", *SEEING, "vision.latents=2", "steps=24", "goal_source=skew_fit", "skew=0"), generator)
    torch.testing.assert_close(flat.weights, torch.full_like(flat.weights, 1 / len(flat.weights)))
    practice.attempt(loop, 1, keep_images=False)
    practice.finetune(loop, 1)
    assert loop.replay.episode_goal.isfinite().all()


def test_a_practised_agent_goes_to_goal_pictures_and_warns_of_strange_ones(tmp_path, capsys):
    run = tmp_path / "run"
    stage("rig", run, "world=reacher", *TINY, "explore_episodes=40", "vision_steps=150", "vision_batch_size=32", "vision.hidden=64", "vision.latents=2", "steps=24")
    world = make_world("reacher", 1)
    _, goals = world.sample([5])
    Image.fromarray(world.picture(goals)[0]).save(tmp_path / "own.png")
    other = make_world("navigation", 1)
    Image.fromarray(other.picture(other.sample([5])[1])[0]).save(tmp_path / "other.png")
    own = stage("evaluate", tmp_path / "own", f"policy={run}", f"goal={tmp_path / 'own.png'}", "episodes=2", "threads=1")
    assert not own["warned"] and "warning" not in capsys.readouterr().out
    strange = stage("evaluate", tmp_path / "strange", f"policy={run}", f"goal={tmp_path / 'other.png'}", "episodes=2", "threads=1")
    said = capsys.readouterr().out
    assert strange["warned"] and "unlike what the policy has seen" in said and "usual" in said
    judged = stage("evaluate", tmp_path / "judged", f"policy={run}", "episodes=3", "threads=1")
    assert 0 <= judged["success"] <= 1 and judged["final_distance"] > 0
