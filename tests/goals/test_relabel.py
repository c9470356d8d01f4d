"""Which goals a batch holds, how many of each, and the reward they imply."""

import pytest
import torch

from goals.batch import Batch, Snippet
from goals.lookup import CodebookLookup
from goals.relabel import KINDS, HindsightSampler, MixedSampler, Mixture
from goals.replay import Replay
from goals.rewards import DenseReward, SparseReward

MARK = {"original": 1000.0, "imagined": 2000.0}


def line_replay(goal: bool = True, offset: float = 0.0) -> Replay:
    """12 episodes of 9 rows; latent (100 * episode + time, scene); scenes 0 .. 2."""
    replay = Replay(500, 2, 1, 1)
    for e in range(12):
        states = torch.stack([offset + 100.0 * e + torch.arange(9), torch.full((9,), float(e % 3))], 1)
        mark = torch.tensor([MARK["original"] + e, 0.0]) if goal else None
        replay.add_episode(states, torch.zeros(9, 1), torch.rand(9, 1), goal=mark, scene=e % 3)
    return replay


def pool() -> torch.Tensor:
    """(3 scenes, 4, 2): latent (2000 + scene, scene)."""
    return torch.stack([torch.tensor([MARK["imagined"] + s, float(s)]).expand(4, 2) for s in range(3)])


@pytest.mark.parametrize("size", [1, 7, 64, 100])
@pytest.mark.parametrize("seed", range(20))
def test_counts_are_exact_and_sum_to_the_batch(size: int, seed: int) -> None:
    share = torch.rand(len(KINDS), generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    if not share.sum():
        return
    counts = Mixture(*share.tolist()).counts(size)
    assert sum(counts.values()) == size
    for kind, part in zip(KINDS, share / share.sum(), strict=True):
        assert abs(counts[kind] - size * part) < 1 + 1e-4


def test_each_kind_of_goal_comes_from_where_it_should() -> None:
    sampler = HindsightSampler(line_replay(), Mixture(0.1, 0.4, 0.2, 0.2, 0.1), SparseReward(0.5), pool())
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        batch = sampler.sample(100, g)
        episode, goal = batch.obs[:, 0] // 100, batch.goal[:, 0]
        original, future, following, random, imagined = (
            slice(*at) for at in ((0, 10), (10, 50), (50, 70), (70, 90), (90, 100))
        )
        assert torch.equal(goal[original], MARK["original"] + episode[original])
        assert torch.equal(goal[future] // 100, episode[future]) and (goal[future] > batch.obs[future, 0]).all()
        assert torch.equal(batch.goal[following], batch.next_obs[following, :2])
        assert torch.equal(batch.goal[random, 1], batch.obs[random, 1])  # the same scene
        assert torch.equal(goal[imagined], MARK["imagined"] + batch.obs[imagined, 1])
        assert (batch.reward[following] == 0).all() and (batch.discount == 1).all()
        distance = (batch.next_obs[:, :2] - batch.goal).norm(dim=1)
        assert torch.equal(batch.reward, (distance <= 0.5).float() - 1)  # judged on the next state
        assert torch.equal(batch.task.float(), batch.obs[:, 1]) and not batch.demo.any()
        assert all(column.is_contiguous() for column in batch)
        assert all(column.dtype == torch.float32 for name, column in zip(batch._fields, batch, strict=True) if name not in ("task", "demo"))


def test_random_goals_may_come_from_the_whole_buffer() -> None:
    sampler = HindsightSampler(line_replay(), Mixture(future=0.0, random=1.0, random_scope="buffer"), DenseReward())
    batch = sampler.sample(300, torch.Generator().manual_seed(0))
    assert not torch.equal(batch.goal[:, 1], batch.obs[:, 1])
    assert torch.allclose(batch.reward, -(batch.next_obs[:, :2] - batch.goal).norm(dim=1))


def test_done_on_reach_ends_the_return_where_the_goal_is_reached() -> None:
    sampler = HindsightSampler(line_replay(), Mixture(future=0.5, next=0.5), SparseReward(0.5), done_on_reach=True)
    batch = sampler.sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(batch.discount, -batch.reward) and 0 < batch.discount.mean() < 0.5
    with pytest.raises(ValueError, match="DenseReward has no notion of success"):
        HindsightSampler(line_replay(), Mixture(), DenseReward(), done_on_reach=True)


def test_what_a_mixture_lacks_is_said() -> None:
    g = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="12 of 12 episodes were stored without the goal"):
        HindsightSampler(line_replay(goal=False), Mixture(original=0.3), SparseReward(1.0)).sample(8, g)
    sampler = HindsightSampler(line_replay(), Mixture(imagined=0.3), SparseReward(1.0))
    with pytest.raises(ValueError, match="no pool of imagined goals"):
        sampler.sample(8, g)
    sampler.pool = pool()[:2]
    with pytest.raises(ValueError, match=r"rows 0 .. 2 of the pool of imagined goals, which has 2"):
        sampler.sample(8, g)
    sampler.pool = pool()
    sampler.sample(8, g)
    with pytest.raises(ValueError, match=r"expected \(S, K, 2\)"):
        sampler.pool = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="not all zero"):
        HindsightSampler(line_replay(), Mixture(future=0.0), SparseReward(1.0)).sample(8, g)
    for wrong in (Mixture(random_scope="house"), Mixture(future_discount=0.0)):
        with pytest.raises(ValueError, match="must"):
            HindsightSampler(line_replay(), wrong, SparseReward(1.0))


def test_a_replay_that_grows_is_checked_again() -> None:
    replay, g = line_replay(), torch.Generator().manual_seed(0)
    sampler = HindsightSampler(replay, Mixture(original=1.0), SparseReward(1.0))
    sampler.sample(8, g)
    replay.add_episode(torch.zeros(3, 2), torch.zeros(3, 1), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="1 of 13 episodes"):
        sampler.sample(8, g)


def test_the_same_generator_gives_the_same_batch_and_memory_is_reused() -> None:
    sampler = HindsightSampler(line_replay(), Mixture(0.2, 0.2, 0.2, 0.2, 0.2), SparseReward(1.0), pool())
    first = sampler.sample(50, torch.Generator().manual_seed(3))
    kept = first.clone()
    sampler.sample(50, torch.Generator().manual_seed(4))
    assert not torch.equal(first.obs, kept.obs)
    again = sampler.sample(50, torch.Generator().manual_seed(3))
    assert again.obs.data_ptr() == first.obs.data_ptr()
    assert all(torch.equal(a, b) for a, b in zip(again, kept, strict=True))


@pytest.mark.parametrize("coded", [False, True])
def test_batches_drawn_at_once_are_those_drawn_one_by_one(coded: bool, monkeypatch) -> None:
    """Of goals of every kind, with states stored as they are and as codes; the generator goes on from the same place."""
    g = torch.Generator().manual_seed(0)
    replay = Replay(300, 4, 2, 1, CodebookLookup(torch.randn(16, 3, generator=g)) if coded else None)
    for e in range(12):
        states = torch.randint(16, (9, 4), generator=g)
        replay.add_episode(states, torch.randn(9, 2, generator=g), torch.rand(9, 1, generator=g), goal=states[3], scene=e % 3)
    monkeypatch.setattr("goals.relabel.AHEAD", 3 * 25 * 4 * (2 * replay.obs_dim + replay.latent_dim + 1))
    mixture = Mixture(0.1, 0.3, 0.1, 0.2, 0.2, 0.1, future_discount=0.9)
    sampler = HindsightSampler(replay, mixture, SparseReward(2.0), torch.randint(16, (3, 5, 4), generator=g), done_on_reach=True)
    assert sampler.at_once(25) == 3 and sampler.at_once(100_000) == 1 and sampler.at_once(0) == 64
    for count in (1, 3, 7):
        one, many = (torch.Generator().manual_seed(count) for _ in range(2))
        drawn = 0
        for batch in sampler.draws(count, 25, 0, many):
            kept = batch.clone()
            assert isinstance(batch, Batch) and all(column.is_contiguous() for column in batch)
            expected = HindsightSampler(replay, mixture, SparseReward(2.0), sampler.pool, done_on_reach=True).sample(25, one)
            assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True))
            drawn += 1
        assert drawn == count and torch.equal(one.get_state(), many.get_state())
    assert [len(piece.valid) for piece in sampler.draws(3, 8, 2, g) if isinstance(piece, Snippet)] == [8, 8, 8]


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("width", [2, 14, 300])
def test_a_batch_is_what_plain_arithmetic_says(width: int, labels: int, monkeypatch) -> None:
    """Each transition by itself, from the same random numbers: states of few and of many numbers, episodes of one task and of several, one batch and three at once."""
    g = torch.Generator().manual_seed(width)
    replay = Replay(90, width, 2, 3)
    for e in range(12):  # more than the ring holds
        states = torch.randn(12, width, generator=g) * 0.3 + 3.0 * (e % 2)
        replay.add_episode(states, torch.randn(12, 2, generator=g), torch.rand(12, 3, generator=g), goal=states[7] + 0.01, scene=7 + e % labels, demo=labels == 3 and e % 4 == 1)
    epsilon = 0.4 * width**0.5  # between most states of one episode
    sampler = HindsightSampler(replay, Mixture(0.3, 0.5, 0.2), SparseReward(epsilon), done_on_reach=True)
    monkeypatch.setattr("goals.relabel.AHEAD", 3 * 40 * 4 * (2 * replay.obs_dim + replay.latent_dim + 3))
    assert not any(column.is_inference() for column in sampler.sample(40, g))
    numbers = torch.rand(3, 40, generator=torch.Generator().manual_seed(5), dtype=torch.float64).tolist()
    for batch, drawn in zip(sampler.draws(3, 40, 0, torch.Generator().manual_seed(5)), numbers, strict=True):
        assert isinstance(batch, Batch) and 0 < -batch.reward.mean() < 1
        for i, u in enumerate(drawn):
            row, left = _row(replay, u), u * len(replay) % 1
            slot, end = replay.slot(row[None]), int(replay.end[row])
            goal = replay.episode_goal[slot][0] if i < 12 else replay.codes[row + 1 + int(left * (end - 1 - row))] if i < 32 else replay.codes[row + 1]
            expected = Batch(
                replay.observation(row[None])[0], replay.action[row], torch.tensor(0.0), torch.tensor(1.0), replay.observation(row[None] + 1)[0],
                goal, replay.episode_scene[slot][0], replay.episode_demo[slot][0],
            )  # fmt: skip
            reached = float(torch.linalg.vector_norm(expected.next_obs[:width] - goal) <= epsilon)
            expected = expected._replace(reward=torch.tensor(reached - 1.0), discount=torch.tensor(1.0 - reached))
            for name, mine, plain in zip(Batch._fields, batch, expected, strict=True):
                assert torch.equal(mine[i], plain), (i, name)


def _row(replay: Replay, u: float) -> torch.Tensor:
    """The row of the transition that a number in [0, 1) chooses."""
    return replay.transition[(replay.first_transition + int(u * len(replay))) % replay.capacity].long()


def test_tasks_and_demonstrations_are_known_as_soon_as_they_differ() -> None:
    replay, g = Replay(40, 1, 0, 1), torch.Generator().manual_seed(0)
    sampler = HindsightSampler(replay, Mixture(), DenseReward())

    def add(place: float, scene: int, demo: bool) -> Batch:
        replay.add_episode(torch.full((10, 1), place), torch.zeros(10, 0), torch.zeros(10, 1), scene=scene, demo=demo)
        batch = sampler.sample(200, g)
        assert torch.equal(batch.task, torch.tensor([0, 5, 5, 6])[batch.obs[:, 0].long()])
        assert torch.equal(batch.demo, torch.tensor([False, False, True, True])[batch.obs[:, 0].long()])
        return batch

    assert add(1.0, 5, False).task.unique().tolist() == [5]
    assert add(2.0, 5, True).demo.unique().tolist() == [False, True]
    assert add(3.0, 6, True).task.unique().tolist() == [5, 6]
    for _ in range(4):  # the others drop out
        last = add(3.0, 6, True)
    assert last.task.unique().tolist() == [6] and last.demo.all()


@pytest.mark.parametrize(("share", "second"), [(0.0, 0), (0.6, 60), (1.0, 100)])
def test_two_replays_share_a_batch_exactly(share: float, second: int) -> None:
    offline = HindsightSampler(line_replay(), Mixture(), SparseReward(0.5))
    online = HindsightSampler(line_replay(offset=50_000.0), Mixture(0.3, 0.6, 0.1), SparseReward(0.5))
    batch = MixedSampler(offline, online, share).sample(100, torch.Generator().manual_seed(0))
    assert torch.equal(batch.obs[:, 0] >= 50_000, torch.arange(100) >= 100 - second)
    with pytest.raises(ValueError, match="share"):
        MixedSampler(offline, online, 1.5).sample(10, torch.Generator())


def test_similar_goals_are_how_others_ended_that_count_as_reached(monkeypatch) -> None:
    """Ends by scene; of 0.0 there are .3, .4 and .2 within .5, of 5.0 none, of the only one in its scene none."""
    ends = {0: [0.0, 0.3, 0.4, 5.0, 0.2, 0.45, -9.0], 1: [0.1]}
    replay = Replay(200, 1, 1, 1)
    for scene, places in ends.items():
        for place in places:
            replay.add_episode(torch.tensor([[50.0], [60.0], [place]]), torch.zeros(3, 1), torch.zeros(3, 1), scene=scene)
    sampler, g = HindsightSampler(replay, Mixture(future=0.0, similar=1.0), SparseReward(0.35)), torch.Generator().manual_seed(0)

    def drawn() -> dict[int, set[float]]:
        rows = torch.arange(len(replay) // 2 * 3)
        rows = rows[rows % 3 < 2].repeat(50)
        sampler._check()
        goals, slots = torch.empty(len(rows), 1), replay.slot(rows)
        sampler.write_goals(rows[None], torch.rand(1, len(rows), generator=g, dtype=torch.float64), goals)
        return {e: {round(float(v), 2) for v in goals[slots == e].unique()} for e in range(replay.episodes)}

    expected = {0: {0.3, 0.2, 0.0}, 1: {0.0, 0.4, 0.2, 0.45}, 2: {0.3, 0.2, 0.45, 0.4}, 3: {5.0}, 4: {0.0, 0.3, 0.4, 0.45}, 5: {0.3, 0.4, 0.2, 0.45}, 6: {-9.0}, 7: {0.1}}
    assert drawn() == expected, "the nearest four, its own end for those of them that are too far"
    replay.add_episode(torch.tensor([[50.0], [60.0], [0.15]]), torch.zeros(3, 1), torch.zeros(3, 1), scene=1)
    assert drawn()[7] == {0.15} and drawn()[8] == {0.1}, "known as soon as it is stored"
    monkeypatch.setattr("goals.similar.COMPARED", 3)  # of scene 0 its first, middle and last episode
    replay.version += 1
    assert drawn()[1] == {0.0, 0.3}
    batch = sampler.sample(64, g)
    assert ((batch.next_obs[:, 0] - batch.goal[:, 0]).abs() <= 0.35)[batch.reward == 0].all()
    with pytest.raises(ValueError, match="does not say when a goal is reached"):
        HindsightSampler(replay, Mixture(similar=0.5), DenseReward()).sample(4, g)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_scene", [True, False])
def test_relabeled_goals_keep_their_transitions_context(kind: str, by_scene: bool) -> None:
    """CC-RIG: a latent is (z_t, z_c) and z_c belongs to the episode, so a goal of any kind has its transition's z_c (sec. 3.4.2).

    `random` keeps it with random_scope=scene where a scene is one context, and not from the whole buffer.
    """
    g = torch.Generator().manual_seed(0)
    replay, contexts = Replay(300, 5, 1, 1), torch.randn(4 if by_scene else 40, 2, generator=g)

    def with_context(z: torch.Tensor, c: int) -> torch.Tensor:
        return torch.cat([z, contexts[c].expand(*z.shape[:-1], 2)], -1)

    for e in range(40):  # more than the ring holds
        rows, c = 5 + e % 9, e % len(contexts)
        replay.add_episode(with_context(torch.randn(rows, 3, generator=g), c), torch.zeros(rows, 1), torch.zeros(rows, 1),
                           goal=with_context(torch.randn(3, generator=g), c), scene=c)  # fmt: skip
    imagined = torch.stack([with_context(torch.randn(6, 3, generator=g), c) for c in range(len(contexts))])
    mixture = Mixture(**{name: float(name == kind) for name in KINDS})  # type: ignore[arg-type]
    sampler = HindsightSampler(replay, mixture, SparseReward(2.0) if kind == "similar" else DenseReward(), imagined)
    batch = sampler.sample(500, g)
    assert torch.equal(batch.goal[:, 3:], batch.obs[:, 3:5]) and torch.equal(batch.goal[:, 3:], batch.next_obs[:, 3:5])
    assert batch.goal[:, 3].unique().numel() > 3  # several contexts, each its own
    assert not torch.equal(batch.goal[:, :3], batch.obs[:, :3])
    if kind != "similar":  # the context costs nothing
        assert torch.allclose(batch.reward, -(batch.goal[:, :3] - batch.next_obs[:, :3]).norm(dim=1))
    if kind == "random":
        sampler.mixture.random_scope = "buffer"
        batch = sampler.sample(500, g)
        assert not torch.equal(batch.goal[:, 3:], batch.obs[:, 3:5])


def test_replaced_latents_are_what_a_sampler_then_draws() -> None:
    replay = line_replay()
    sampler = HindsightSampler(replay, Mixture(0.2, 0.3, 0.2, 0.2, 0.1), DenseReward(), pool())
    sampler.sample(50, torch.Generator().manual_seed(0))
    fresh = lambda old: 0.5 * old + 7  # noqa: E731
    replay.replace_latents(fresh(replay.codes[: replay.used_rows]), fresh(replay.episode_goal[replay.live_slots()]))
    sampler.pool = fresh(pool())
    plain = (
        HindsightSampler(line_replay(), sampler.mixture, DenseReward(), pool())
        .sample(50, torch.Generator().manual_seed(1))
        .clone()
    )
    batch = sampler.sample(50, torch.Generator().manual_seed(1))
    assert torch.equal(batch.goal, fresh(plain.goal)) and torch.equal(
        batch.next_obs[:, :2], fresh(plain.next_obs[:, :2])
    )
    assert torch.allclose(batch.reward, 0.5 * plain.reward, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 3, 50])
def test_snippets_are_transitions_in_a_row_and_stop_at_their_episodes_end(length: int) -> None:
    """The line's rows are numbered: each observation is one more than the last until the end, which is repeated."""
    replay = line_replay()
    sampler = HindsightSampler(replay, Mixture(future=1.0), SparseReward(0.5))
    b = sampler.snippets(300, length, torch.Generator().manual_seed(0))
    assert b.obs.shape[:2] == (300, length + 1) and b.action.shape[:2] == b.reward.shape == b.valid.shape == (300, length)
    assert bool(b.valid[:, 0].all())
    place = b.obs[..., 0]
    end = replay.end.long()
    row = {float(replay.codes[i, 0]): i for i in range(replay.used_rows)}
    for i in range(300):
        start = row[float(place[i, 0])]
        left = int(end[start]) - 1 - start
        assert int(b.valid[i].sum()) == min(left, length)
        steps = torch.arange(length + 1).clamp(max=left)
        assert torch.equal(place[i], replay.codes[start + steps, 0])
        here = torch.arange(length)[b.valid[i]]
        assert torch.equal(b.action[i, here], replay.action[start + here])
    reached = (b.obs[:, 1:, 0] - b.goal[:, None, 0]).abs() < 0.5
    assert torch.equal(b.reward, torch.where(reached, 0.0, -1.0) * b.valid)
    loose = b.first()
    assert torch.equal(loose.next_obs, b.obs[:, 1]) and torch.equal(loose.reward, b.reward[:, 0])


def test_draw_gives_what_an_agent_takes() -> None:
    g = torch.Generator().manual_seed(0)
    first, second = (HindsightSampler(line_replay(offset=offset), Mixture(), DenseReward()) for offset in (0.0, 1000.0))
    mixed = MixedSampler(first, second, 0.25)
    assert isinstance(first.draw(8, 0, g), Batch) and isinstance(mixed.draw(8, 0, g), Batch)
    found = mixed.draw(8, 2, g)
    assert isinstance(found, Snippet) and int((found.obs[:, 0, 0] >= 1000).sum()) == 2
    assert isinstance(first.draw(8, 3, g), Snippet)
    with pytest.raises(ValueError, match="at least 1 transition"):
        first.snippets(8, 0, g)


def rewarded(goals: bool) -> Replay:
    """Six episodes of four transitions, reward 10 * episode + time; the odd ones are demonstrations and end in a terminal; observations (episode, time)."""
    replay = Replay(100, 1 if goals else 0, 2, 1)
    for e in range(6):
        proprio = torch.stack([torch.full((5,), float(e)), torch.arange(5.0)], 1)
        codes = proprio[:, 1:] if goals else proprio[:, :0]
        goal = torch.full((1,), 100.0 + e) if goals else None
        replay.add_episode(codes, proprio, torch.rand(5, 1), goal=goal, scene=e % 2, reward=10.0 * e + torch.arange(4.0), terminal=bool(e % 2), demo=bool(e % 2))
    return replay


@pytest.mark.parametrize("goals", [False, True])
def test_stored_rewards_terminals_and_demonstrations_come_with_their_transitions(goals: bool) -> None:
    sampler = HindsightSampler(rewarded(goals), Mixture(original=1.0, future=0.0), None)
    batch = sampler.sample(500, torch.Generator().manual_seed(0))
    episode, time = batch.obs[:, -2], batch.obs[:, -1]
    assert batch.goal.shape == (500, int(goals)) and (not goals or torch.equal(batch.goal[:, 0], 100 + episode))
    assert torch.equal(batch.reward, 10 * episode + time)
    ends = (episode % 2 == 1) & (time == 3)
    assert torch.equal(batch.discount, 1 - ends.float()) and ends.any()
    assert torch.equal(batch.demo, episode % 2 == 1) and torch.equal(batch.task.float(), episode % 2)
    pieces = sampler.snippets(500, 3, torch.Generator().manual_seed(0))
    steps = pieces.obs[:, 0, -1:] + torch.arange(3)
    assert torch.equal(pieces.valid, steps < 4)
    assert torch.equal(pieces.reward, (10 * pieces.obs[:, :1, -2] + steps) * pieces.valid)
    odd = pieces.obs[:, :1, -2] % 2 == 1
    assert torch.equal(pieces.discount[pieces.valid], (1 - (odd & (steps == 3)).float())[pieces.valid])
    assert torch.equal(pieces.first().demo, odd[:, 0])


def test_stored_rewards_are_of_original_goals_only() -> None:
    with pytest.raises(ValueError, match=r"set mixture\.original to 1"):
        HindsightSampler(rewarded(True), Mixture(original=0.5, future=0.5), None)
    with pytest.raises(ValueError, match="stored rewards have no notion"):
        HindsightSampler(rewarded(True), Mixture(original=1.0, future=0.0), None, done_on_reach=True)


def test_rewards_of_an_episode_that_drops_out_leave_nothing_behind() -> None:
    replay = Replay(5, 0, 1, 1)
    replay.add_episode(torch.zeros(5, 0), torch.zeros(5, 1), torch.zeros(5, 1), reward=torch.full((4,), 7.0), terminal=True, demo=True)
    replay.add_episode(torch.zeros(5, 0), torch.zeros(5, 1), torch.zeros(5, 1))
    batch = HindsightSampler(replay, Mixture(), None).sample(50, torch.Generator().manual_seed(0))
    assert not batch.reward.any() and (batch.discount == 1).all() and not batch.demo.any()
    with pytest.raises(ValueError, match="not finite"):
        replay.add_episode(torch.zeros(3, 0), torch.zeros(3, 1), torch.zeros(3, 1), reward=torch.tensor([0.0, torch.nan]))


def test_original_goals_of_a_plan_are_those_of_each_transition() -> None:
    replay = Replay(60, 2, 0, 1, aims=True)
    states = torch.stack([torch.arange(9.0), torch.zeros(9)], 1)
    aims = torch.stack([100.0 + torch.arange(8.0), torch.zeros(8)], 1)
    for _ in range(10):  # more than the ring holds
        replay.add_episode(states, torch.zeros(9, 0), torch.zeros(9, 1), goal=aims)
    assert (replay.episode_goal[replay.live_slots()] == aims[-1]).all()
    replay = Replay.restored(replay.state_dict())
    batch = HindsightSampler(replay, Mixture(original=0.5, future=0.5), SparseReward(0.5)).sample(64, torch.Generator().manual_seed(0))
    assert torch.equal(batch.goal[:32, 0], batch.obs[:32, 0] + 100)
    assert (batch.goal[32:, 0] > batch.obs[32:, 0]).all() and (batch.goal[32:, 0] < 9).all()  # hindsight looks to the end of the whole episode
    replay.add_episode(states, torch.zeros(9, 0), torch.zeros(9, 1), goal=aims[0])  # one goal for all of it will do
    assert (replay.aim[replay.episode_rows(10)][:-1] == aims[0]).all()
    with pytest.raises(ValueError, match="goal of an episode has shape"):
        Replay(60, 2, 0, 1).add_episode(states, torch.zeros(9, 0), torch.zeros(9, 1), goal=aims)
