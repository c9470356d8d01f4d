"""Attempts that do again what was done before."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imagoal.repeats import SAME, History, Repeats, repeats

Z, T, P, A = 4, 3, 2, 2


class Base:
    def act(self, obs, goal, explore=False, generator=None):
        return torch.full((len(obs), A), 0.5)


def history_of(begun: list[list[float]], ended: list[list[float]]) -> History:
    history = History(Z, T, P, A, torch.device("cpu"))
    n = len(begun)
    marks = torch.arange(1.0, n + 1)[:, None, None]
    history.add(torch.eye(Z)[:2], torch.tensor(begun), torch.tensor(ended), marks.expand(n, T, P), marks.expand(n, T, A) / 10)
    return history


def demonstrations() -> Any:
    """Two, of two and four transitions: what is read of the robot is 100 * its number + step, and its action a hundredth of the step."""
    steps = np.r_[np.arange(3), np.arange(5)]
    place = (steps + np.repeat([100, 200], [3, 5]))[:, None].repeat(P, 1).astype(np.float32)
    return SimpleNamespace(start=np.array([0, 3]), end=np.array([3, 8]), proprio=place, action=(steps / 100)[:, None].repeat(A, 1).astype(np.float32))


def test_a_start_fits_where_it_looks_as_the_attempts_own_did_there():
    """The attempt changed the first number from 0 to 2 and nothing else: other numbers do not count, the first one must be nearer than 1."""
    history = history_of([[0.0, 7, 7, 7]], [[2.0, 7, 7, 7]])
    starts = torch.tensor([[0.0, 0, 0, 0], [2 * SAME - 0.01, 7, 7, 7], [2 * SAME + 0.01, 7, 7, 7], [2.0, 7, 7, 7]])
    assert history.fits(starts)[:, 0].tolist() == [True, True, False, False]
    assert not history_of([[1.0, 2, 3, 4]], [[1.0, 2, 3, 4]]).fits(starts).any()  # it changed nothing: there is nothing to do again


def test_rows_with_a_path_follow_it_and_the_others_act_as_they_would():
    told = []

    def follow(proprio, path, action):
        told.append((proprio.tolist(), path.tolist(), action.tolist()))
        return action

    proprio = torch.arange(2.0 * T * P).view(2, T, P)
    action = torch.full((2, T, A), -0.2)
    actor = Repeats(Base(), follow, torch.tensor([False, True]), proprio, action)
    obs, generator = torch.tensor([[9.0, 9, 9, 9, 1, 2], [9.0, 9, 9, 9, 3, 4]]), torch.Generator().manual_seed(0)
    acted = torch.stack([actor.act(obs, obs, generator=generator) for _ in range(T)], 1)
    assert bool((acted[0] == 0.5).all()) and acted[1].mean() == pytest.approx(-0.2, abs=0.15) and len(acted[1].unique()) == T * A  # it wobbles
    assert [x[1] for x in told] == proprio.transpose(0, 1).tolist() and all(x[0] == [[1, 2], [3, 4]] for x in told)
    assert told[0][2] == action[:, 0].tolist()


def test_repeats_are_of_demonstrations_until_something_fits_and_half_of_them_afterwards():
    begun, follow = torch.zeros(400, Z), lambda proprio, path, action: action
    empty = History(Z, T, P, A, torch.device("cpu"))
    alike = torch.tensor([0.1, 0.2]).expand(400, 2)
    found = repeats(Base(), follow, begun, alike, 0.75, empty, demonstrations(), torch.Generator().manual_seed(0))
    assert found.which.float().mean() == pytest.approx(0.75, abs=0.06)
    first = found.proprio[found.which][:, :, 0]
    assert {tuple(row) for row in first.tolist()} == {(100.0, 101.0, 101.0), (200.0, 201.0, 202.0)}  # one ends sooner, and stays where it is
    assert {tuple(row) for row in found.action[found.which][:, :, 0].tolist()} == {tuple(np.float32(x / 100) for x in row) for row in ((0, 1, 1), (0, 1, 2))}
    history = history_of([[0.0] * Z, [5.0] * Z], [[1.0, 0, 0, 0], [5.0, 6, 5, 5]])
    found = repeats(Base(), follow, begun, alike, 1.0, history, demonstrations(), torch.Generator().manual_seed(0))
    place = found.proprio[:, 0, 0]
    assert (place == 1).float().mean() == pytest.approx(0.5, abs=0.08) and not (place == 2).any()  # the other is from another start
    away = repeats(Base(), follow, begun + 50, alike, 1.0, history, demonstrations(), torch.Generator().manual_seed(0))
    assert bool((away.proprio[:, 0, 0] >= 100).all())  # nothing fits there


def test_what_a_goal_is_likest_is_done_again_half_of_the_time_and_the_next_half_as_often():
    """Four demonstrations of one transition each; of the goals half are likest the third, then the first, the others the other way round."""
    four: Any = SimpleNamespace(start=np.arange(4) * 2, end=np.arange(4) * 2 + 2, proprio=np.arange(8.0, dtype=np.float32)[:, None].repeat(P, 1), action=np.zeros((8, A), np.float32))
    alike = torch.tensor([[0.8, 0.2, 0.9, 0.1], [0.9, 0.2, 0.8, 0.1]]).repeat(2000, 1)
    found = repeats(Base(), lambda *x: x[2], torch.zeros(4000, Z), alike, 1.0, History(Z, T, P, A, torch.device("cpu")), four, torch.Generator().manual_seed(0))
    place = found.proprio[:, 0, 0].view(2000, 2) / 2
    for goal, order in enumerate(([2, 0, 1, 3], [0, 2, 1, 3])):
        shares = [float((place[:, goal] == number).float().mean()) for number in order]
        assert shares == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15], abs=0.03)


def test_what_no_demonstration_shows_is_done_as_an_attempt_did_it_or_as_the_policy_would():
    """The second goal is like no demonstration, the first like one of the two; in the second round an attempt fits."""
    alike = torch.tensor([[-torch.inf, 0.5], [-torch.inf, -torch.inf]]).repeat(200, 1)
    begun, generator = torch.zeros(400, Z), torch.Generator().manual_seed(0)
    found = repeats(Base(), lambda *x: x[2], begun, alike, 1.0, History(Z, T, P, A, torch.device("cpu")), demonstrations(), generator)
    assert found.which.tolist() == [True, False] * 200 and (found.proprio[::2, 0, 0] == 200).all()
    found = repeats(Base(), lambda *x: x[2], begun, alike, 1.0, history_of([[0.0] * Z], [[1.0, 0, 0, 0]]), demonstrations(), generator)
    assert found.which.all() and (found.proprio[1::2, 0, 0] == 1).all() and set(found.proprio[::2, 0, 0].tolist()) == {1.0, 200.0}


def test_what_is_repeated_is_of_every_kind_alike():
    """Thirty attempts did one thing and ten another, which goals show as often: they are repeated as often, not three times as often."""
    ended = [[1.0, 0, 0, 0]] * 30 + [[0.0, 1, 0, 0]] * 10
    history = history_of([[0.0] * Z] * 40, ended)
    found = repeats(Base(), lambda *x: x[2], torch.zeros(4000, Z), torch.zeros(4000, 2), 1.0, history, demonstrations(), torch.Generator().manual_seed(0))
    place = found.proprio[:, 0, 0]
    often, seldom = ((place <= 30).sum(), ((place > 30) & (place <= 40)).sum())
    assert float(often / seldom) == pytest.approx(1.0, abs=0.15)


def test_a_history_comes_back():
    history = history_of([[0.0] * Z], [[1.0] * Z])
    other = History(Z, T, P, A, torch.device("cpu"))
    other.load_state_dict({name: value.clone() for name, value in history.state_dict().items()})
    assert len(other) == 1 and all(torch.equal(a, b) for a, b in zip(history.state_dict().values(), other.state_dict().values(), strict=True))
