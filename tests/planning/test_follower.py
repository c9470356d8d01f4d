"""Algorithm 8's switching, with sequences made by hand."""

import pytest
import torch

from planning.follower import FollowerConfig, SubgoalFollower

PLAN = torch.tensor([[[1.0], [2.0], [3.0]]])  # one episode, three subgoals on a line


def run(plan, seen, epsilon=0.25, max_steps=3):
    follower = SubgoalFollower(plan, FollowerConfig(epsilon, max_steps))
    goals = [follower.goal()[:, 0].tolist()]
    for z in seen:
        follower.observe(torch.tensor(z).reshape(-1, 1))
        goals.append(follower.goal()[:, 0].tolist())
    return goals


def test_goes_on_when_the_current_subgoal_is_reached():
    assert run(PLAN, [[0.5], [0.9], [2.1], [3.0]]) == [[1], [1], [2], [3], [3]]


def test_goes_on_after_max_steps_and_counts_anew():
    assert run(PLAN, [[0.0]] * 8) == [[1]] * 3 + [[2]] * 3 + [[3]] * 3


def test_one_subgoal_per_step_even_when_the_next_is_reached_too():
    plan = torch.tensor([[[1.0], [1.1], [3.0]]])
    assert run(plan, [[1.0], [1.0], [1.0]]) == [[1], pytest.approx([1.1]), [3], [3]]


def test_reaching_a_later_subgoal_does_not_skip_the_current():
    assert run(PLAN, [[3.0], [3.0]]) == [[1], [1], [1]]


def test_the_goal_is_kept_after_it_is_reached_and_after_any_time():
    follower = SubgoalFollower(PLAN, FollowerConfig(0.25, 2))
    for _ in range(50):
        follower.observe(torch.tensor([[3.0]]))
    assert follower.goal().item() == 3.0 and follower.index.item() == 2


def test_episodes_of_a_batch_switch_on_their_own():
    plan = PLAN.expand(3, 3, 1)
    goals = run(plan, [[1.0, 0.0, 1.0], [2.0, 0.0, 0.0], [3.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    assert goals == [[1, 1, 1], [2, 1, 2], [3, 1, 2], [3, 2, 2], [3, 2, 3]]


def test_a_single_subgoal_never_switches_and_nonsense_is_refused():
    assert run(PLAN[:, :1], [[1.0], [1.0], [1.0], [1.0]]) == [[1]] * 5
    with pytest.raises(ValueError, match="at least one subgoal"):
        SubgoalFollower(PLAN[:, :0], FollowerConfig())


def test_the_boundary_is_strict_and_any_distance_will_do():
    follower = SubgoalFollower(PLAN, FollowerConfig(0.5, 99), distance=lambda z, goal: (z - goal).abs().sum(-1))
    assert not follower.observe(torch.tensor([[1.5]])).any()
    assert follower.observe(torch.tensor([[1.4]])).all()


def test_it_knows_what_was_aimed_at_in_every_step():
    follower = SubgoalFollower(PLAN, FollowerConfig(0.25, 10))
    for z in ([[0.9]], [[1.0]], [[2.0]], [[2.0]]):
        follower.observe(torch.tensor(z))
    assert torch.cat(follower.followed).tolist() == [0, 1, 1, 2]
