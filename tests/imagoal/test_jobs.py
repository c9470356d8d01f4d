"""The jobs end to end at a tiny size, and exact continuation after `kill -9` in pretraining and in practice."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from job_cases import kill_after_checkpoint, refusal, run_job, same_outcome

import envs  # noqa: F401
from agents.exploration import Team
from goals.replay import Replay
from imagoal.jobs.practice import attempt
from imagoal.loading import encoded, load_policy, open_trajectories, practised_before, trajectory_replay
from imagoal.run import latest_checkpoint, read_metrics, read_result
from imagoal.stages import stage
from imagoal.subgoals import material, practised_material
from vision import load

SMALL = ("experiment=demo", "threads=1")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A collect and a train run."""
    home = tmp_path_factory.mktemp("jobs")
    stage("collect", home / "data", *SMALL, "scenes=3", "episodes=12", "workers=1")
    stage("train", home / "model", f"data={home / 'data'}", *SMALL, "steps=12", "batch_size=32", "prior_steps=6", "prior_batch_size=16")
    return home


@pytest.fixture(scope="module")
def policy(home):
    words = [f"data={home / 'data'}", f"model={home / 'model'}", *SMALL, "updates=300", "checkpoint_every=20", "batch_size=64"]
    stage("pretrain", home / "policy", *words)
    return words


def test_pretraining_killed_and_resumed_ends_as_the_uninterrupted_run(home, policy):
    killed = home / "policy-killed"
    kill_after_checkpoint(killed / "checkpoints" / "pretrain.json", "pretrain", f"run={killed}", *policy)
    out, code = run_job("pretrain", f"run={killed}", "resume=true")
    assert code == 0, out
    same_outcome(home / "policy", killed)


def practice_words(home):
    return [f"policy={home / 'policy'}", *SMALL, "episodes=16", "parallel=4", "updates_per_episode=3", "evaluation_episodes=4", "evaluate_every=2"]


def test_practice_killed_and_resumed_ends_as_the_uninterrupted_run(home, policy):
    words, killed = practice_words(home), home / "practice-killed"
    out, code = run_job("practice", f"run={home / 'practice'}", *words)
    assert code == 0, out
    kill_after_checkpoint(killed / "checkpoints" / "practice.json", "practice", f"run={killed}", *words)
    out, code = run_job("practice", f"run={killed}", "resume=true")
    assert code == 0, out
    same_outcome(home / "practice", killed)
    assert (killed / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("agent", ["awr", "bcq"])
def test_agents_of_snippets_and_of_other_policies_pretrain_and_practise(home, agent):
    """One that learns from snippets, in whose mixed batches practice has its share, and one whose policy is made of several networks."""
    words = [f"agent={agent}", "agent.hidden=32", "threads=1", "batch_size=32"]
    found = stage("pretrain", home / agent, f"data={home / 'data'}", f"model={home / 'model'}", *words, "updates=6")
    assert found["updates"] == 6
    found = stage("practice", home / f"{agent}-practice", f"policy={home / agent}", "threads=1", "batch_size=32", "episodes=4", "parallel=2", "horizon=4",
                  "updates_per_episode=2", "evaluation_episodes=4", "evaluate_every=0")  # fmt: skip
    assert 0 <= found["success_after"] <= 1


def test_practice_in_a_second_scene_remembers_the_first(home, policy):
    words = [*SMALL, "episodes=8", "parallel=4", "updates_per_episode=2", "evaluation_episodes=2", "evaluate_every=0", "goal_source=other_scenes"]
    stage("practice", home / "first", f"policy={home / 'policy'}", *words)
    stage("practice", home / "second", f"policy={home / 'first'}", "scene=held_out/1", *words)
    device = torch.device("cpu")
    assert practised_before(load_policy(str(home / "policy"), device), device) == []
    (old,) = practised_before(load_policy(str(home / "first"), device), device)
    before = practised_before(load_policy(str(home / "second"), device), device)
    assert len(before) == 2 and torch.equal(before[0].codes, old.codes) and not torch.equal(before[1].codes, old.codes)
    columns = open_trajectories(str(home / "data"))
    found = load_policy(str(home / "second"), device)
    codes = encoded(found.eyes.model, found.pretrain["model"], columns)
    replay = trajectory_replay(columns, codes, found.eyes, device, before)
    assert replay.episodes == columns.episodes + 16 and len(replay) == len(columns) - columns.episodes + 16 * 25
    assert torch.equal(replay.codes[replay.episode_rows(columns.episodes)], old.codes[old.episode_rows(0)])
    assert torch.equal(replay.episode_goal[columns.episodes], old.episode_goal[0])


def test_practice_of_which_nothing_is_kept_goes_on_with_the_old_data(home, policy):
    words = [*SMALL, "episodes=8", "parallel=4", "updates_per_episode=2", "evaluation_episodes=2", "evaluate_every=0", "goal_source=other_scenes"]
    stage("practice", home / "nothing", f"policy={home / 'policy'}", "least_progress=1", *words)
    assert read_metrics(home / "nothing")["kept"][1:3] == [0.0, 0.0]
    stage("practice", home / "after_nothing", f"policy={home / 'nothing'}", "scene=held_out/1", *words)


@pytest.mark.parametrize("source", ["replay", "oracle", "other_scenes", "model"])
def test_goals_from_elsewhere(home, policy, source):
    words = ["threads=1", "batch_size=32", "episodes=8", "parallel=4", "horizon=4", "updates_per_episode=2", "evaluation_episodes=2", "evaluate_every=1"]
    if source == "model":
        stage("train", home / "ccvae", f"data={home / 'data'}", "vision=ccvae", "steps=3", "batch_size=16", "threads=1")
        words.append(f"goal_model={home / 'ccvae'}")
    found = stage("practice", home / f"goals-{source}", f"policy={home / 'policy'}", f"goal_source={source}", *words)
    assert 0 <= found["success_after"] <= 1 and found["attempts"] == 8
    page = (home / f"goals-{source}" / "report.html").read_text()
    assert "in thresholds of the reward" in page and "http-equiv" not in page


def test_the_page_grows_while_practice_goes_on(home, policy, monkeypatch):
    def stop(config, gym, r, device):
        if r == 3:
            raise KeyboardInterrupt
        return {}

    monkeypatch.setattr("imagoal.jobs.practice.updates", stop)
    run = home / "growing"
    with pytest.raises(KeyboardInterrupt):
        stage("practice", run, f"policy={home / 'policy'}", *SMALL, "episodes=16", "parallel=4", "evaluation_episodes=2", "evaluate_every=1", "goal_source=other_scenes")
    page = (run / "report.html").read_text()
    assert 'http-equiv="refresh" content="20"' in page and "round 2" in page and "After" not in page and "of 16, 25 steps each" in page


def test_goal_models_that_do_not_fit_are_refused(home, policy, capsys):
    words = ["practice", f"policy={home / 'policy'}", "threads=1", "episodes=4", "parallel=4", "evaluation_episodes=1"]
    assert "needs goal_model=" in refusal(capsys, *words, "goal_source=model", f"run={home / 'r1'}")
    assert "other sources need none" in refusal(capsys, *words, f"goal_model={home / 'model'}", f"run={home / 'r2'}")


def test_explorers_make_attempts_in_turn_with_the_policy(home, policy, capsys, monkeypatch):
    few = ("updates=2", "batch_size=16", "threads=1")
    stage("pretrain", home / "second", f"data={home / 'data'}", f"model={home / 'model'}", *few, "seed=1")
    acted: list[tuple[str, bool]] = []

    def note(name, act):
        return lambda obs, goal, explore, generator: acted.append((name, explore)) or act(obs, goal, explore, generator)

    def team(members):
        for name, member in zip(("policy", "second"), members, strict=True):
            monkeypatch.setattr(member, "act", note(name, member.act), raising=False)
        return Team(members)

    monkeypatch.setattr("imagoal.jobs.practice.Team", team)
    words = [f"policy={home / 'policy'}", *SMALL, "episodes=4", "parallel=4", "horizon=3", "updates_per_episode=2", "evaluation_episodes=2", "evaluate_every=0", "goal_source=other_scenes"]
    before = load_policy(str(home / "second"), torch.device("cpu")).agent.checkpoint()
    for noise in (False, True):
        acted.clear()
        stage("practice", home / f"explored-{noise}", *words, f"explorers=[{home / 'second'}]", f"noise={noise}")
        others = [(name, explore) for name, explore in acted if name == "second"]
        assert "explorers=" in (home / f"explored-{noise}" / "report.html").read_text()
        assert others == [("second", noise)] * 3 and ("policy", noise) in acted  # of every step of the attempts
    after = load_policy(str(home / "second"), torch.device("cpu")).agent.checkpoint()
    assert all(torch.equal(before[name], after[name]) for name in before)
    stage("train", home / "third-model", f"data={home / 'data'}", *SMALL, "steps=2", "batch_size=32", "prior_steps=0", "seed=2")
    stage("pretrain", home / "third", f"data={home / 'data'}", f"model={home / 'third-model'}", *few)
    said = refusal(capsys, "practice", *words, f"explorers=[{home / 'third'}]", f"run={home / 'unlike'}")
    assert "does not see as" in said and f"model={home / 'model'}" in said


def test_practice_that_repeats_and_is_even_resumes_exactly(home, policy):
    words = [*practice_words(home), "repeats=0.5", "even=true", "least_progress=0", "evaluate_every=0"]
    out, code = run_job("practice", f"run={home / 'repeating'}", *words)
    assert code == 0, out
    saved = latest_checkpoint(str(home / "repeating"), "practice")
    history, kept = saved.part("history"), [v for v in read_metrics(home / "repeating")["kept"] if v is not None]
    assert len(history["asked"]) == 16 and 0 < len(history["begun"]) == len(history["action"]) == round(4 * sum(kept)) < 16
    killed = home / "repeating-killed"
    kill_after_checkpoint(killed / "checkpoints" / "practice.json", "practice", f"run={killed}", *words)
    out, code = run_job("practice", f"run={killed}", "resume=true")
    assert code == 0, out
    same_outcome(home / "repeating", killed)


def test_the_average_of_weights_follows_as_slowly_as_practice_is_told(home, policy, capsys):
    words = ["episodes=2", "parallel=2", "horizon=2", "updates_per_episode=2", "evaluation_episodes=2", "evaluate_every=0", "goal_source=none", "threads=1"]
    few = (f"data={home / 'data'}", f"model={home / 'model'}", "agent=bc", "agent.hidden=32", "batch_size=16", "threads=1", "updates=4")
    stage("pretrain", home / "averaged", *few, "agent.average_rate=0.5")
    stage("pretrain", home / "not-averaged", *few)
    moved = {}
    for rate in (-1.0, 0.25):
        stage("practice", home / f"average-{rate}", f"policy={home / 'averaged'}", *words, f"average_rate={rate}")
        before, after = (load_policy(str(home / run), torch.device("cpu")).agent.checkpoint() for run in ("averaged", f"average-{rate}"))
        moved[rate] = {name: after[name] - before[name] for name in before}
    assert all(torch.equal(moved[-1.0][name], moved[0.25][name]) for name in moved[0.25] if ".policy." in name)  # what is learned is the same
    slow, fast = (sum(float(change.norm()) for name, change in moved[rate].items() if ".average." in name) for rate in (0.25, -1.0))
    assert 0 < slow < 0.8 * fast
    assert "agent.average_rate=0.005" in refusal(capsys, "practice", f"policy={home / 'not-averaged'}", *words, "average_rate=0.1", f"run={home / 'none'}")
    assert not (home / "none").exists()  # and nothing is in the way of the next try


def test_goals_that_were_seen_are_outcomes_of_this_scene_whether_or_not_they_are_practised(home, policy, monkeypatch):
    aimed = []

    def noted(config, gym, r, keep_images):
        begin, rollout, goal, aims = attempt(config, gym, r, keep_images)
        aimed.append((goal, rollout.codes[:, -1]))
        return begin, rollout, goal, aims

    monkeypatch.setattr("imagoal.jobs.practice.attempt", noted)
    words = [f"policy={home / 'policy'}", "goal_source=replay", "least_progress=1", "parallel=4", "horizon=3", "updates_per_episode=1", "batch_size=16", "evaluation_episodes=2", "evaluate_every=0", "threads=1"]
    stage("practice", home / "seen", *words, "episodes=12")
    seen = torch.cat([outcome for _, outcome in aimed])
    for r, (goal, _) in enumerate(aimed[1:], 1):
        assert all((seen[: 4 * r].long() == g.long()).all(1).any() for g in goal)
    first = encoded(load_policy(str(home / "policy"), torch.device("cpu")).eyes.model, str(home / "model"), open_trajectories(str(home / "data")))
    assert all((first.long() == g.long()).all(1).any() for g in aimed[0][0])  # nothing was seen here yet
    saved = latest_checkpoint(str(home / "seen"), "practice")
    assert torch.equal(saved.tensors["outcomes"].long(), seen.long()) and saved.part("replay")["counters"][2] < 12 * 3  # not all of it is practised
    kept = [v for v in read_metrics(home / "seen")["kept"] if v is not None]
    assert len(kept) == 3 and read_result(home / "seen")["kept"] == pytest.approx(sum(kept) / 3)
    page = (home / "seen" / "report.html").read_text()
    assert "least_progress=1" in page and "updates_per_episode=1" in page and "goals.mixture" not in page


def test_the_page_says_what_was_typed_and_not_what_it_stands_for(home, policy):
    words = [f"policy={home / 'policy'}", "episodes=2", "parallel=2", "evaluation_episodes=2", "batch_size=16", "threads=1", "goal_source=none", "evaluate_every=0"]
    stage("practice", home / "typed", *words)
    page = (home / "typed" / "report.html").read_text()
    assert "goal_source=none" in page and "horizon=" not in page and "updates_per_episode=" not in page


def test_plan_evaluate_and_report_run_on_a_practised_policy(home, policy):
    if not (home / "practice" / "result.json").is_file():
        stage("practice", home / "practice", *practice_words(home))
    plan = stage("plan", home / "plan", f"policy={home / 'practice'}", *SMALL, "episodes=2", "generator_steps=5", "horizon=6", "subgoal_steps=3")
    assert {"planned.success", "final_goal_only.success", "seconds_per_plan"} <= plan.keys()
    judged = stage("evaluate", home / "evaluate", f"policy={home / 'policy'}", "threads=1", "episodes=3", "horizon=5")
    assert 0 <= judged["success"] <= 1


def test_a_plan_from_picture_to_picture_needs_no_simulator(home, policy, monkeypatch, capsys):
    columns = open_trajectories(str(home / "data"))
    for name, row in (("start", 0), ("goal", 20)):
        Image.fromarray(np.array(columns.image[row])).save(home / f"{name}.png")
    monkeypatch.setattr("imagoal.jobs.plan.open_scene", lambda *_: pytest.fail("a scene was opened"))
    words = [f"policy={home / 'policy'}", *SMALL, "generator_steps=5", f"start={home / 'start.png'}"]
    plan = stage("plan", home / "drawn", *words, f"goal={home / 'goal.png'}")
    said = capsys.readouterr().out
    assert plan["plans"] == 1 and len(plan["segments"]) == 2 and not plan["warned"] and "planned.success" not in plan
    assert "cost" in said and "start -> subgoal 1: value" in said and "subgoal 1 -> goal: value" in said
    with Image.open(home / "drawn" / "plan.png") as drawing:
        assert drawing.format == "PNG" and drawing.size == (3 * 48, 48)  # start, subgoal, goal
    assert "start= is for planning from one picture to another" in refusal(capsys, "plan", *words, f"run={home / 'alone'}")


def test_a_plan_to_a_picture_of_another_world_warns_and_says_what_is_not_feasible(home, policy, capsys, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(home / "noise.png")
    Image.fromarray(np.array(open_trajectories(str(home / "data")).image[0])).save(home / "start.png")
    monkeypatch.setattr("imagoal.subgoals.FEASIBLE", 0.0)  # no value is as high as the highest of true pairs
    plan = stage("plan", home / "strange", f"policy={home / 'policy'}", *SMALL, "generator_steps=5", f"start={home / 'start.png'}", f"goal={home / 'noise.png'}")
    said = capsys.readouterr().out
    assert plan["warned"] and "this goal picture is unlike what the policy has seen" in said and "start picture is unlike" not in said
    assert not all(segment["feasible"] for segment in plan["segments"]) and "not feasible: true pairs have" in said


PTP = ("threads=1", "batch_size=32", "planner=small", "goals=ptp", "goal_source=oracle", "changes=2", "subgoal_steps=2", "horizon=8")


def test_practice_by_planned_subgoals_keeps_what_was_aimed_at_and_resumes_exactly(home, policy, capsys):
    made = stage("subgoals", home / "subgoals", f"policy={home / 'policy'}", "planner=small", "planner.levels=[20,8]", "steps=4", "threads=1")
    assert made["levels"] == 2 and (home / "subgoals" / "report.html").stat().st_size > 10_000
    words = [f"policy={home / 'policy'}", f"subgoals={home / 'subgoals'}", *PTP, "episodes=12", "parallel=4", "updates_per_episode=2", "evaluation_episodes=3", "evaluate_every=0"]
    stage("practice", home / "ptp", *words)
    opened = load_policy(str(home / "ptp"), torch.device("cpu"))
    (replay,) = practised_before(opened, torch.device("cpu"))
    assert replay.aims and replay.episodes == 12 and len(replay) == 12 * 8
    aims = replay.aim[replay.episode_rows(0)][:-1]  # two levels of two subgoals, each for two steps at most
    changes = (aims[1:] != aims[:-1]).any(1)
    assert 1 <= changes.sum() <= 3 and torch.equal(aims[-1], replay.episode_goal[0])
    killed = home / "ptp-killed"
    kill_after_checkpoint(killed / "checkpoints" / "practice.json", "practice", f"run={killed}", *words)
    out, code = run_job("practice", f"run={killed}", "resume=true")
    assert code == 0, out
    same_outcome(home / "ptp", killed)
    plan = stage("plan", home / "plan-given", f"policy={home / 'policy'}", f"subgoals={home / 'subgoals'}", "planner=small", "threads=1", "episodes=2", "horizon=6", "subgoal_steps=3")
    assert "planned.success" in plan and not (home / "plan-given" / "checkpoints" / "generator-0.json").exists()
    stage("train", home / "other", f"data={home / 'data'}", *SMALL, "steps=2", "batch_size=32", "prior_steps=0", "seed=1")
    stage("pretrain", home / "other-policy", f"data={home / 'data'}", f"model={home / 'other'}", "agent=td3_bc", "updates=2", "batch_size=16", "threads=1")
    assert "was trained on another latent model" in refusal(capsys, "plan", f"policy={home / 'other-policy'}", f"subgoals={home / 'subgoals'}", f"run={home / 'misfit'}")


def test_practice_by_plan_refuses_what_cannot_be(home, policy, capsys):
    words = ["practice", f"policy={home / 'policy'}", "threads=1", "episodes=4", "parallel=4", f"run={home / 'refused'}"]
    for more, said in (
        (["subgoals=x", "goal_source=none"], "leave one of them out"), (["subgoals=x", "horizon=20"], "shorter than one subgoal"), (["changes=7"], "task: changes must be between 1 and 2"),
        (["task=fly"], "task: task=fly"), (["subgoals=x", "online=true"], "leave it out with online=true"), (["planner.method=magic"], "method must be one of ptp, leap, gcp"),
        (["planner.levels=[]"], "levels must be numbers of steps"), (["planner.samples=0"], "must be at least 1"),
    ):  # fmt: skip
        assert said in refusal(capsys, *words, *more)
    assert not (home / "refused").exists()
    assert "is the run of a pretrain; this needs the run of a subgoals" in refusal(capsys, *words, f"subgoals={home / 'policy'}", "horizon=30")


def test_a_policy_without_a_value_is_refused_before_anything_is_learned_for_its_plans(home, policy, capsys):
    stage("pretrain", home / "cloned", f"data={home / 'data'}", f"model={home / 'model'}", "agent=bc", "threads=1", "batch_size=32", "updates=2")
    for words in (["subgoals"], ["plan"], ["practice", "subgoals=x"]):
        said = refusal(capsys, *words, f"policy={home / 'cloned'}", f"run={home / 'valueless'}")
        assert "(agent=bc)" in said and "agent=iql agent.temperature=0" in said
    assert not (home / "valueless").exists()


@pytest.mark.parametrize("method", ["leap", "gcp"])
def test_other_ways_to_subgoals_plan_as_well(home, policy, method):
    words = ("threads=1", "episodes=2", "horizon=8", "subgoal_steps=2", "generator_steps=4")
    found = stage("plan", home / method, f"policy={home / 'policy'}", "planner=small", f"planner.method={method}", "planner.subgoals=4", *words)
    assert np.isfinite(found["cost"]) and 0 <= found["feasible"] <= 1
    with Image.open(home / method / "plan.png") as drawing:
        assert drawing.size == (5 * 48, 2 * 48)  # start, three subgoals, goal; two plans


def test_a_horizon_shorter_than_a_subgoal_is_refused(home, policy, capsys):
    assert "shorter than one subgoal" in refusal(capsys, "plan", f"policy={home / 'policy'}", "horizon=5", f"run={home / 'brief'}")


def test_practice_says_that_its_reward_is_that_of_pretraining(home, policy, capsys):
    said = refusal(capsys, "practice", f"policy={home / 'policy'}", "goals.reward.quantile=0.3", f"run={home / 'other_reward'}")
    assert "goals.reward.quantile=0.3" in said and "reward of pretraining" in said and not (home / "other_reward").exists()


def test_a_planner_learns_from_whole_practised_episodes_however_their_length_was_given(home, policy):
    words = ("threads=1", "batch_size=32", "episodes=4", "parallel=2", "updates_per_episode=0", "evaluation_episodes=1", "evaluate_every=0")
    for name, more, length in (("default", (), 26), ("short", ("horizon=4",), 5)):
        stage("practice", home / name, f"policy={home / 'policy'}", *words, *more)
        opened = load_policy(str(home / name), torch.device("cpu"))
        kept = practised_material(opened)
        assert (kept.end - kept.start).tolist() == [length] * 4 and kept.start[0] == 0 and kept.end[-1] == len(kept.codes)
        codes = kept.codes.view(4, length, opened.eyes.cells)
        still = (codes[:, 1:] == codes[:, :-1]).float().mean()
        assert still > 0.5  # most of a picture stays as it was from one step to the next: rows are in their episodes' order


def test_a_planner_learns_from_practised_episodes_of_unequal_lengths(monkeypatch):
    """Of 3 and 2 rows, as they are where waiting was left out, beside prior data of four episodes."""
    replay = Replay(20, 2, 0, 1, lookup=lambda codes: codes.float())
    rows = torch.arange(100.0, 106)[:, None].expand(-1, 2).to(torch.int16)
    for first, last in ((0, 3), (3, 5)):
        replay.add_episode(rows[first:last], torch.zeros(last - first, 0), torch.zeros(last - first - 1, 1))
    monkeypatch.setattr("imagoal.subgoals.practised_before", lambda policy, device: [replay])
    policy = SimpleNamespace(settings={"job": "practice", "goal_source": "affordance"})
    columns = SimpleNamespace(start=np.array([0, 2, 4, 6]), end=np.array([2, 4, 6, 8]))
    found = material(policy, columns, torch.zeros(8, 2, dtype=torch.int16))
    assert found.start.tolist() == [0, 2, 4, 6, 8, 11, 8, 11] and found.end.tolist() == [2, 4, 6, 8, 11, 13, 11, 13], "practised twice, so that it is as often"
    assert torch.equal(found.codes[8:], rows[:5])


def test_a_goal_picture_of_another_size_is_refused(home, policy, tmp_path, capsys):
    Image.new("RGB", (50, 48)).save(tmp_path / "goal.png")
    assert "50x48" in refusal(capsys, "plan", f"policy={home / 'policy'}", f"goal={tmp_path / 'goal.png'}", f"run={tmp_path / 'plan'}")


def test_other_bad_input_is_one_line(home, policy, tmp_path, capsys):
    cases = [
        (("pretrain", "data=nowhere", f"model={home / 'model'}"), "nowhere"),
        (("pretrain", f"data={home / 'data'}", f"model={home / 'model'}", "batch_size=301"), "has 300 transitions, fewer than one batch of 301"),
        (("practice", f"policy={home / 'model'}"), "train"),
        (("train", f"data={tmp_path / 'missing'}"), "does not exist"),
        (("train", f"data={home / 'data'}", "image_size=50", "vision=vqvae"), "power of two"),
        (("evaluate", f"policy={home / 'policy'}", "scene=held-out/0"), "held_out"),
    ]
    for i, (words, expected) in enumerate(cases):
        assert expected in refusal(capsys, *words, f"run={tmp_path / str(i)}"), words


def test_a_folder_of_pictures_of_mixed_sizes_trains(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        Image.effect_noise((40 + 5 * i, 60), 60).convert("RGB").save(folder / f"{i}.{'png' if i % 2 else 'jpg'}")
    (folder / "broken.png").write_bytes((folder / "1.png").read_bytes()[:200])
    result = stage("train", tmp_path / "run", f"data={folder}", *SMALL, "steps=3", "batch_size=8", "prior_steps=2",
                   "prior_batch_size=4", "unreadable_share=0.2")  # fmt: skip
    assert result["pictures"] == 12 and result["skipped"] == 1
    assert load(tmp_path / "run" / "model").latent_dim == 6 * 6 * 4
