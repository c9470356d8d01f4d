"""Learning from numbers: offline from a Minari dataset, then online in its environment; both learn, go on where they were killed, and refuse what cannot be."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from job_cases import kill_after_checkpoint, refusal, run_job, same_outcome

from envs.copies import Copies
from envs.offline import Episode, append_numbers, open_minari, read_numbers
from imagoal.online import with_pretraining
from imagoal.run import read_metrics, read_result
from imagoal.stages import stage

REACHER = "imagoal/VisualReacherState-v0"
TINY = ("threads=1", "agent=td3", "agent.hidden=[64,64]", "goals=states", "batch_size=128")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixty episodes of random actions in the reacher."""
    folder = tmp_path_factory.mktemp("offline") / "data"
    copies, rng = Copies(REACHER, 10), np.random.default_rng(0)
    episodes, _ = copies.run(lambda o, a, g: rng.uniform(-1, 1, (len(o), 2)), range(60), 30)
    append_numbers(folder, episodes, copies.first)
    return folder


@pytest.fixture(scope="module")
def policy(data, tmp_path_factory):
    """Pretrained on them, not for long."""
    folder = tmp_path_factory.mktemp("policy") / "run"
    stage("pretrain", folder, f"data={data}", *TINY, "updates=250", "evaluate_every=125", "evaluation_episodes=20")
    return folder


def own_reward(observation, action, after):
    """For `rewards=`: minus the next state's distance from a place."""
    return -np.linalg.norm(after[:, :2] - np.array([0.0, 0.6]), axis=1)


own_reward.__module__ = "offline_rewards"
sys.modules["offline_rewards"] = sys.modules[__name__]  # so that rewards=offline_rewards:own_reward finds it in this process


def test_offline_it_learns_and_online_it_goes_on_learning(data, policy, tmp_path):
    before = read_result(policy)
    assert before["transitions"] == 60 * 30 and before["episodes"] == 60 and -30 <= before["data_return"] < -20
    steps = [s for s, v in zip(*(read_metrics(policy)[k] for k in ("step", "return")), strict=True) if v is not None]
    assert steps == [0, 125, 250]
    kept = tmp_path / "kept"
    result = stage("practice", tmp_path / "online", f"policy={policy}", "online=true", "threads=1", "episodes=20", "parallel=10", "horizon=25", "updates_per_episode=25",
                   "batch_size=128", "evaluate_every=1", "evaluation_episodes=20", f"keep={kept}")  # fmt: skip
    assert result["success"] >= 0.9 and result["success"] > result["success_before"], (before, result)
    assert result["return"] > result["return_before"] == before["return"]  # the same episodes, the same policy
    assert result["steps"] == 20 * 25
    found = read_numbers(open_minari(kept))
    assert len(found.start) == 20 and found.transitions == 500 and open_minari(kept).env_spec.id == REACHER
    assert "Practice online" in (tmp_path / "online" / "report.html").read_text()
    drawn = with_pretraining(tmp_path / "online", str(policy))
    assert [s for s, v in zip(drawn["step"], drawn["return"], strict=True) if v is not None] == [-250, -125, 0, 0, 250, 500]
    judged = stage("evaluate", tmp_path / "evaluated", f"policy={tmp_path / 'online'}", "episodes=20", "threads=1")
    assert {k: judged[k] for k in ("return", "success", "reached")} == {k: result[k] for k in ("return", "success", "reached")}
    assert judged["return_ci95"][0] <= judged["return"] <= judged["return_ci95"][1] and judged["success_ci95"][0] < judged["success"]
    # practised data are data: pretraining on them, and practice of a practised policy
    stage("pretrain", tmp_path / "again", f"data={kept}", *TINY, "updates=1", "evaluation_episodes=1")
    more = stage("practice", tmp_path / "more", f"policy={tmp_path / 'online'}", "online=true", "threads=1", "episodes=2", "parallel=2", "horizon=3", "updates_per_episode=0",
                 "evaluation_episodes=20", "practised_share=-1")  # fmt: skip
    assert more["return_before"] == result["return"] == more["return"]


@pytest.mark.slow
def test_killed_and_resumed_practice_ends_as_the_uninterrupted_one(policy, tmp_path):
    words = [f"policy={policy}", "online=true", "threads=1", "episodes=40", "parallel=2", "horizon=20", "updates_per_episode=4", "batch_size=64", "evaluation_episodes=2",
             "practised_share=-1"]  # fmt: skip
    out, code = run_job("practice", f"run={tmp_path / 'whole'}", *words)
    assert code == 0, out
    kill_after_checkpoint(tmp_path / "killed" / "checkpoints" / "online.json", "practice", f"run={tmp_path / 'killed'}", *words)
    out, code = run_job("practice", f"run={tmp_path / 'killed'}", "resume=true")
    assert code == 0, out
    same_outcome(tmp_path / "whole", tmp_path / "killed")


def test_one_task_without_goals_and_without_data(tmp_path):
    """A fresh agent, then practice from nothing; what it did becomes data with rewards and terminals of their own."""
    stage("pretrain", tmp_path / "fresh", "env=InvertedPendulum-v5", "agent=sac", "updates=0", "threads=1", "evaluation_episodes=2")
    kept = tmp_path / "kept"
    stage("practice", tmp_path / "online", f"policy={tmp_path / 'fresh'}", "online=true", "threads=1", "episodes=8", "parallel=4", "updates_per_episode=2", "evaluation_episodes=2",
          f"keep={kept}", "batch_size=32", "practised_share=1")  # fmt: skip
    found = read_numbers(open_minari(kept))
    assert found.goal.shape == (8, 0) and found.terminal.all() and set(found.reward) == {0.0, 1.0}  # a fall is worth 0
    after = stage("pretrain", tmp_path / "after", f"data={kept}", "agent=awr", "updates=2", "threads=1", "batch_size=16", "evaluation_episodes=2", "reward_shift=-1")
    assert after["data_return"] == pytest.approx(-1.0) and "success" not in after


def test_clamped_values_of_other_rewards_are_refused_when_the_first_come(tmp_path, capsys):
    stage("pretrain", tmp_path / "fresh", "env=InvertedPendulum-v5", "agent=ddpg", "updates=0", "threads=1", "evaluation_episodes=1")
    said = refusal(capsys, "practice", f"policy={tmp_path / 'fresh'}", "online=true", "episodes=2", "parallel=2", "evaluation_episodes=1", f"run={tmp_path / 'online'}")
    assert "these lie between 0 and 1: add agent.target_clip=false" in said


def test_rewards_can_be_made_anew(data, tmp_path):
    result = stage("pretrain", tmp_path / "run", f"data={data}", *TINY, "goals=stored", "updates=1", "evaluation_episodes=1", "rewards=offline_rewards:own_reward", "reward_scale=2")
    found = read_numbers(open_minari(data))
    expected = [2 * -np.linalg.norm(e.observation[1:, :2] - [0.0, 0.6], axis=1).sum() for e in found.episodes()]
    assert result["data_return"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_refusals(data, policy, tmp_path, capsys):
    def says(*words):
        found = refusal(capsys, *words, f"run={tmp_path / 'refused'}")
        assert not (tmp_path / "refused").exists(), "a run folder was left by a refusal"
        return found

    assert "neither the folder of a Minari dataset nor the id" in says("pretrain", f"data={tmp_path / 'none'}")
    assert "pretrain needs data=" in says("pretrain")
    assert "updates=10000, but there is no data to learn from" in says("pretrain", "env=Pendulum-v1")
    assert "They are not of the same environment" in says("pretrain", f"data={data}", "env=Pendulum-v1")
    assert "did you mean" in says("pretrain", "env=Pendulums-v1", "updates=0").lower()
    assert "1800 transitions, fewer than one batch of 5000" in says("pretrain", f"data={data}", *TINY, "batch_size=5000")
    assert "add agent.target_clip=false" in says("pretrain", f"data={data}", "goals=states", "reward_shift=3", "goals=stored")
    assert "rewards=nothing:here" in says("pretrain", f"data={data}", "rewards=nothing:here")
    assert "env= and rewards= are for data of numbers" in says("pretrain", f"data={data}", "model=x", "env=y")
    assert "is a run folder; of a collect run it holds pictures" in says("pretrain", f"data={policy}")
    assert "it needs online=true" in says("practice", f"policy={policy}", "keep=x")
    assert "is there already and is no Minari dataset" in says("practice", f"policy={policy}", "online=true", f"keep={policy}")
    assert "of numbers, not of pictures; go on with it by" in says("practice", f"policy={policy}", "episodes=20")
    assert "practised_share=-0.5 must lie between 0 and 1" in says("practice", f"policy={policy}", "online=true", "practised_share=-0.5")
    for name in ("practised_share", "recall", "least_progress", "average_rate"):
        assert f"{name}=1.5: must be at most 1" in says("practice", f"policy={policy}", f"{name}=1.5")
    for words in ("explorers=[x]", "noise=false", "recall=0.5", "average_rate=0.1", "displacement=0.1", "least_change=0.5", "repeats=0.5", "even=true"):
        assert "are of attempts in a scene: leave them out with online=true" in says("practice", f"policy={policy}", "online=true", words)
    assert "give both, or neither" in says("practice", f"policy={policy}", "least_change=0.5")
    rows, none = np.zeros((3, 3), np.float32), np.zeros((3, 0), np.float32)
    episode = Episode(rows, none, none[0], np.zeros((2, 1), np.float32), np.array([0, np.nan], np.float32), False)
    append_numbers(tmp_path / "nan", [episode], Copies("Pendulum-v1", 1).first)
    assert "1 of its rewards are not finite" in says("pretrain", f"data={tmp_path / 'nan'}")
