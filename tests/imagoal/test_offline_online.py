"""The comparison of agents offline and online: its data, its sums, and one agent through it."""

import json

import numpy as np
import pytest
import torch

from envs.arm_models import PUSH
from envs.copies import Copies
from envs.experts import PuckPusher
from imagoal.compose import load
from imagoal.experiments import offline_online
from imagoal.jobs import experiment
from imagoal.stats import iqm, iqm_interval


def test_the_interquartile_mean_is_of_the_middle_half():
    assert iqm([[7, 0, 1, 2], [3, 4, 5, 6]]) == 3.5  # of 2, 3, 4 and 5
    assert iqm([1.0, 2.0, 6.0]) == 3.0  # a quarter of three is none
    assert iqm_interval(np.full((3, 4), 0.5)) == (0.5, 0.5)
    low, high = iqm_interval(np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert (low, high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="seeds, tasks"):
        iqm_interval([0.0, 1.0])


def test_the_scripted_pusher_succeeds():
    episodes, success = Copies(offline_online.PUSHER, 10).run(PuckPusher(PUSH, noise=0.1), range(20))
    assert success[:, 0].mean() >= 0.95
    assert np.mean([np.linalg.norm(e.achieved[-1, 2:4] - e.goal[2:4]) for e in episodes]) < 0.02


def test_before_is_the_last_evaluation_at_step_0_or_below():
    curve = {"steps": [[-8, -4, 0, 0, 5, 10]] * 2, "success": [[0, 0.1, 0.2, 0.3, 0.6, 0.8], [0, 0.1, 0.2, 0.5, 0.6, 1.0]]}
    every = {task: {"steps": curve["steps"], asked["metric"]: curve["success"]} for task, asked in offline_online.TASKS.items()}
    found = offline_online.aggregate(every)
    assert found["before"][0] == pytest.approx(0.4) and found["after"][0] == pytest.approx(0.9)
    assert found["before"][1:] == pytest.approx([0.3, 0.5])


@pytest.mark.slow
def test_one_agent_through_it(tmp_path, monkeypatch):
    """In the reacher, from random actions: BC with hindsight, and SAC from nothing."""

    def random_data(env: str, seed: int) -> list:
        rng = np.random.default_rng(seed)
        return Copies(env, 5).run(lambda o, a, g: rng.uniform(-1, 1, (len(o), 2)), range(20), 20)[0]

    task = {"env": "imagoal/VisualReacherState-v0", "goals": offline_online.DENSE, "horizon": 20, "metric": "success"}
    monkeypatch.setattr(offline_online, "TASKS", {"pushing": task})
    monkeypatch.setattr(offline_online, "DATA", {"pushing": random_data})
    monkeypatch.setattr(offline_online, "COMPARED", {"pushing": {"bc": ("agent=bc",), "sac_from_nothing": ("agent=sac",)}})
    monkeypatch.setattr(offline_online, "PAIRS", [("pushing", "bc"), ("pushing", "sac_from_nothing")])
    monkeypatch.setattr(offline_online, "SHORT", ("agent.hidden=16", "threads=1", "batch_size=32"))
    small = {"pretrain": {"updates": 20, "evaluate_every": 10}, "practice": {"episodes": 4, "parallel": 2, "updates_per_episode": 2, "evaluate_every": 1, "batch_size": 32, "threads": 1}}
    monkeypatch.setattr("imagoal.compose.read_experiment", lambda name: small)
    torch.manual_seed(0)
    experiment.main(load("experiment", ["offline_online", "seeds=2", "episodes=2", f"run={tmp_path / 'run'}", f"results={tmp_path}", "threads=1"]))
    result = json.loads((tmp_path / "offline_online.json").read_text())
    assert result["curves"]["bc"]["pushing"]["steps"] == [[-20, -10, 0, 0, 40, 80]] * 2
    assert result["curves"]["sac_from_nothing"]["pushing"]["steps"] == [[0, 0, 40, 80]] * 2
    assert {"pushing.success_before", "pushing.success_after", "pushing.success_stochastic_after", "pushing.steps"} <= set(result["variants"]["bc"])
    assert result["variants"]["data"]["pushing.transitions"]["per_seed"] == [400, 400] and set(result["iqm"]) == {"bc", "sac_from_nothing"}
    assert (tmp_path / "offline_online.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("task", "name"), offline_online.PAIRS)
def test_every_agent_knows_what_it_is_told(task, name):
    config = load("pretrain", ["data=-", *offline_online.told(task, name)])
    assert config.agent.hidden == 128 and config.horizon == offline_online.TASKS[task]["horizon"]
