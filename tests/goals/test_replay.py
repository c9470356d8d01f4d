"""The replay's invariants, over randomised histories of episodes of random lengths in rings of random size."""

import pytest
import torch

from goals.lookup import CodebookLookup, PictureLookup
from goals.relabel import HindsightSampler, Mixture, future_rows
from goals.replay import Replay
from goals.rewards import DenseReward


def serial_episode(replay: Replay, number: int, rows: int, **kwargs: object) -> None:
    """An episode whose latents are (episode number, time)."""
    states = torch.stack([torch.full((rows,), float(number)), torch.arange(rows).float()], 1)
    replay.add_episode(states, states[:, :1] * 10, torch.ones(rows, 1), **kwargs)  # type: ignore[arg-type]


def history(seed: int) -> tuple[Replay, list[int], torch.Generator]:
    """A replay after many episodes, and the length of each."""
    g = torch.Generator().manual_seed(seed)
    capacity = int(torch.randint(12, 200, (), generator=g))
    replay, lengths = Replay(capacity, 2, 1, 1), []
    for number in range(int(torch.randint(1, 150, (), generator=g))):
        lengths.append(int(torch.randint(2, min(capacity, 30) + 1, (), generator=g)))
        serial_episode(replay, number, lengths[-1], scene=number % 3)
    return replay, lengths, g


@pytest.mark.parametrize("seed", range(25))
def test_next_is_the_same_episode_one_step_later(seed: int) -> None:
    replay, lengths, g = history(seed)
    rows = replay.sample_rows(500, g)
    now, then = replay.latent(rows), replay.latent(rows + 1)
    assert torch.equal(now[:, 0], then[:, 0])
    assert torch.equal(now[:, 1] + 1, then[:, 1])
    assert (then[:, 1] < torch.tensor(lengths)[now[:, 0].long()]).all()
    assert torch.equal(replay.episode[rows].float(), now[:, 0])
    assert torch.equal(replay.latent(replay.start[rows].long())[:, 1], torch.zeros(500))
    assert (replay.action[rows] == 1).all() and (replay.action[replay.end[rows].long() - 1] == 0).all()
    assert torch.equal(replay.observation(rows)[:, 2], now[:, 0] * 10)


@pytest.mark.parametrize("seed", range(25))
def test_a_number_chooses_a_row_and_what_is_left_of_it_is_uniform_again(seed: int) -> None:
    """Of k equal steps for every transition, each is chosen k times, with 0, 1 / k, ... (k - 1) / k left; 1 is never reached."""
    replay, _, _ = history(seed)
    k, n = 8, len(replay)
    rows, left = replay.rows_at((torch.arange(n * k, dtype=torch.float64) + 0.5) / (n * k))
    assert rows.view(n, k).eq(rows.view(n, k)[:, :1]).all() and rows.unique().numel() == n
    assert torch.allclose(left.view(n, k), (torch.arange(k, dtype=torch.float64) + 0.5) / k, rtol=0, atol=1e-9)
    last, left = replay.rows_at(torch.tensor([1 - 2.0**-53], dtype=torch.float64))
    assert replay.end[last] == last + 2 and replay.episode[last] == replay.next_episode - 1 and left < 1
    assert replay.end[last] == future_rows(last, replay.end[last], 1.0, left) + 1


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_future_is_later_in_the_same_episode_and_reaches_its_end(seed: int, discount: float) -> None:
    replay, lengths, g = history(seed)
    rows = replay.sample_rows(2000, g)
    now, later = replay.latent(rows), replay.latent(future_rows(rows, replay.end[rows].long(), discount, torch.rand(2000, generator=g, dtype=torch.float64)))
    last = torch.tensor(lengths)[now[:, 0].long()] - 1
    assert torch.equal(now[:, 0], later[:, 0])
    assert (later[:, 1] > now[:, 1]).all() and (later[:, 1] <= last).all()
    assert (later[:, 1] == last).any() and (later[:, 1] == now[:, 1] + 1).any()


@pytest.mark.parametrize("seed", range(25))
def test_the_ring_holds_the_newest_episodes_whole(seed: int) -> None:
    replay, lengths, g = history(seed)
    live = range(len(lengths) - replay.episodes, len(lengths))
    assert len(replay) == sum(lengths[e] - 1 for e in live)
    assert sum(lengths[e] for e in live) <= replay.capacity
    counts = torch.bincount(replay.episode[replay.sample_rows(20_000, g)], minlength=len(lengths))
    assert {e for e in range(len(lengths)) if counts[e]} == set(live)
    expected = torch.tensor([20_000 * (lengths[e] - 1) / len(replay) for e in live])
    assert ((counts[live.start :] - expected).abs() < 6 * expected.sqrt() + 5).all()
    # every live row is still what it was
    for slot in replay.live_slots().tolist():
        part = replay.latent(torch.arange(int(replay.episode_start[slot]), int(replay.episode_end[slot])))
        assert part[:, 0].unique().numel() == 1 and torch.equal(part[:, 1], torch.arange(len(part)).float())


@pytest.mark.parametrize("seed", range(10))
def test_rows_of_a_scene_are_live_rows_of_that_scene(seed: int) -> None:
    replay, _, g = history(seed)
    wanted = replay.episode_scene[replay.slot(replay.sample_rows(3000, g))]
    rows = replay.rows_of_scene(wanted, 3000, g)
    assert torch.equal(replay.episode_scene[replay.slot(rows)], wanted)
    assert (replay.episode[rows] >= replay.oldest).all()
    anywhere = replay.rows_of_scene(None, 30_000, g)
    live_rows = sum(int(replay.episode_end[s] - replay.episode_start[s]) for s in replay.live_slots())
    assert anywhere.unique().numel() == live_rows


@pytest.mark.parametrize("discount", [1.0, 0.99])
def test_the_future_ends_with_its_episode(discount: float) -> None:
    """Of every length up to thousands and of some far beyond, with the first and the last numbers of [0, 1)."""
    m = torch.cat([torch.arange(1, 5000), 2 ** torch.arange(13, 31) - 1, 2 ** torch.arange(13, 30), 3 ** torch.arange(8, 19)])
    rows = torch.full_like(m, 7)
    for last in (1 - 2.0**-53, 1 - 2.0**-40):
        found = future_rows(rows, rows + 1 + m, discount, torch.full(m.shape, last, dtype=torch.float64))
        assert (found <= rows + m).all() and (discount < 1 or m.max() > 1e6) and (discount < 1 or torch.equal(found[:4999], (rows + m)[:4999]))
    assert torch.equal(future_rows(rows, rows + 1 + m, discount, torch.zeros(m.shape, dtype=torch.float64)), rows + 1)


def test_truncated_geometric_offsets_have_their_probabilities() -> None:
    g = torch.Generator().manual_seed(0)
    n = 200_000
    rows = future_rows(torch.zeros(n, dtype=torch.int64), torch.full((n,), 4), 0.5, torch.rand(n, generator=g, dtype=torch.float64))
    share = torch.bincount(rows, minlength=4) / n
    assert torch.allclose(share, torch.tensor([0.0, 4 / 7, 2 / 7, 1 / 7]), atol=0.005)


def test_codes_are_stored_small_and_looked_up_channel_first() -> None:
    codebook = torch.randn(16, 3)
    replay = Replay(10, 4, 2, 1, CodebookLookup(codebook))
    codes = torch.randint(16, (5, 4))
    replay.add_episode(codes, torch.randn(5, 2), torch.randn(4, 1))
    assert replay.codes.dtype == torch.int16 and replay.latent_dim == 12 and replay.obs_dim == 14
    expected = torch.stack([codebook[codes[:, i]] for i in range(4)], 2).flatten(1)  # (5, 3, 4) -> "(c cell)"
    assert torch.equal(replay.latent(torch.arange(5)), expected)
    plain = Replay(10, 4, 2, 1, lambda codes: codebook[codes].transpose(1, 2).flatten(1))  # a lookup without `into`
    plain.add_episode(codes, torch.randn(5, 2), torch.randn(4, 1))
    assert torch.equal(plain.latent(torch.arange(5)), expected)


def test_add_episodes_is_add_episode_of_each() -> None:
    states, actions = torch.randn(9, 2), torch.randn(9, 1)
    one, many = Replay(20, 2, 0, 1), Replay(20, 2, 0, 1)
    for e, (a, b) in enumerate([(0, 4), (4, 9)]):
        one.add_episode(states[a:b], torch.zeros(b - a, 0), actions[a:b], scene=e + 5, goal=states[e])
    many.add_episodes(states, torch.zeros(9, 0), actions, [0, 4], [4, 9], scene=[5, 6], goal=states[:2])
    for name, value in one.state_dict().items():
        assert torch.equal(value, many.state_dict()[name]), name


@pytest.mark.parametrize("seed", range(10))
def test_a_restored_replay_continues_exactly(seed: int) -> None:
    replay, lengths, g = history(seed)
    saved = {name: value.clone() for name, value in replay.state_dict().items()}
    other = Replay(replay.capacity, 2, 1, 1)
    other.load_state_dict(saved)
    for number in range(len(lengths), len(lengths) + 20):
        for each in (replay, other):
            serial_episode(each, number, min(7, replay.capacity), scene=1)
        state = g.get_state()
        first = replay.sample_rows(64, g)
        g.set_state(state)
        second = other.sample_rows(64, g)
        assert torch.equal(first, second) and torch.equal(replay.latent(first), other.latent(second))
        assert replay.oldest == other.oldest and len(replay) == len(other)


def test_wrong_inputs_are_named() -> None:
    replay = Replay(10, 2, 1, 1)
    with pytest.raises(ValueError, match="empty"):
        replay.sample_rows(1, torch.Generator())
    with pytest.raises(ValueError, match=r"codes of an episode has shape \(4, 3\), expected \(4, 2\)"):
        replay.add_episode(torch.zeros(4, 3), torch.zeros(4, 1), torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"action of an episode has shape \(2, 1\), expected \(3, 1\)"):
        replay.add_episode(torch.zeros(4, 2), torch.zeros(4, 1), torch.zeros(2, 1))
    for rows in (1, 11):
        with pytest.raises(ValueError, match="2 to 10"):
            replay.add_episode(torch.zeros(rows, 2), torch.zeros(rows, 1), torch.zeros(rows, 1))
    coded = Replay(10, 2, 0, 1, CodebookLookup(torch.zeros(4, 1)))
    with pytest.raises(ValueError, match="32767"):
        coded.add_episode(torch.full((2, 2), 40_000), torch.zeros(2, 0), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="capacity is 10, this replay's is 11"):
        Replay(11, 2, 1, 1).load_state_dict(replay.state_dict())
    with pytest.raises(ValueError, match=r"codes is torch.float32 \(0, 2\)"):
        Replay(10, 3, 1, 1).load_state_dict(replay.state_dict())


@pytest.mark.parametrize("seed", range(15))
def test_replacing_latents_leaves_none_of_the_old_model(seed: int) -> None:
    """Pictures (episode, time) are kept beside the rows and encoded twice: z = picture, then z = -2 picture - 1."""
    g = torch.Generator().manual_seed(seed)
    replay, pictures, goals = Replay(60, 2, 0, 1), torch.full((60, 2), torch.nan), {}
    for number in range(int(torch.randint(1, 40, (), generator=g))):
        rows = int(torch.randint(2, 15, (), generator=g))
        picture = torch.stack([torch.full((rows,), float(number)), torch.arange(rows).float()], 1)
        goals[number] = torch.tensor([1000.0 + number, 0.0])
        episode = replay.add_episode(picture, torch.zeros(rows, 0), torch.zeros(rows, 1), goal=goals[number])
        pictures[replay.episode_rows(episode)] = picture

    def moved(picture: torch.Tensor) -> torch.Tensor:
        return -2 * picture - 1

    live = list(range(replay.oldest, replay.next_episode))
    version = replay.version
    replay.replace_latents(moved(pictures[: replay.used_rows]), torch.stack([moved(goals[e]) for e in live]))
    assert replay.version > version
    rows, slots = replay.sample_rows(400, g), replay.live_slots()
    for at in (rows, rows + 1, replay.rows_of_scene(None, 400, g)):
        assert torch.equal(replay.latent(at), moved(pictures[at]))
        assert torch.equal(replay.latent(at)[:, 0], moved(replay.episode[at].float()))
    assert torch.equal(replay.episode_goal[slots], torch.stack([moved(goals[e]) for e in live]))
    serial_number = replay.next_episode  # and the ring goes on
    added = replay.add_episode(torch.zeros(3, 2), torch.zeros(3, 0), torch.zeros(3, 1))
    assert added == serial_number and (replay.latent(torch.arange(60)[replay.episode_rows(added)]) == 0).all()


def test_a_replacement_that_does_not_fit_changes_nothing() -> None:
    replay = Replay(20, 2, 0, 1)
    for e in range(2):
        replay.add_episode(torch.rand(4, 2), torch.zeros(4, 0), torch.zeros(4, 1), goal=torch.rand(2) if e else None)
    before = {name: value.clone() for name, value in replay.state_dict().items()}
    new, goals = torch.rand(8, 2), torch.rand(2, 2)
    for latents, aims, words in [
        (new[:7], goals, r"latents of an episode has shape|latents .* \(7, 2\), expected \(8, 2\)"),
        (new, None, "give goals= too"),
        (new, goals[:1], r"\(1, 2\), expected \(2, 2\)"),
        (new.clone().fill_(torch.nan), goals, "the new latents hold numbers that are not finite"),
        (new, goals / 0, "the new goals hold numbers that are not finite"),
    ]:
        with pytest.raises(ValueError, match=words):
            replay.replace_latents(latents, aims)
    assert all(torch.equal(value, before[name]) for name, value in replay.state_dict().items())
    with pytest.raises(ValueError, match="stores codes"):
        Replay(20, 4, 0, 1, CodebookLookup(torch.randn(4, 2))).replace_latents(torch.zeros(0, 4))
    with pytest.raises(ValueError, match=r"episode 2 is not live: the live ones are 0 \.\. 1"):
        replay.episode_rows(2)


def test_pictures_are_stored_as_bytes_and_read_as_intensities() -> None:
    replay = Replay(10, 12, 1, 1, PictureLookup())
    pictures = torch.randint(256, (5, 12), dtype=torch.uint8)
    replay.add_episode(pictures, torch.ones(5, 1), torch.zeros(4, 1), goal=pictures[0])
    assert replay.codes.dtype == replay.episode_goal.dtype == torch.uint8 and replay.obs_dim == 13
    assert torch.allclose(replay.observation(torch.arange(5)), torch.cat([pictures / 255, torch.ones(5, 1)], 1))
    batch = HindsightSampler(replay, Mixture(original=1.0, future=0.0), DenseReward()).sample(
        6, torch.Generator().manual_seed(0)
    )
    assert torch.allclose(batch.goal, (pictures[0] / 255).expand(6, 12)) and (batch.obs[:, 12] == 1).all()
    with pytest.raises(ValueError, match=r"codes must lie in \[0, 255\], got \[0, 256\]"):
        replay.add_episode(torch.full((5, 12), 256) * torch.eye(5, 12).long(), torch.ones(5, 1), torch.zeros(4, 1))


def test_a_million_frames_in_codes_stay_under_a_gigabyte():
    """At VAL's sizes: 12 x 12 codes, four numbers of proprioception and of action, episodes of 76 frames."""
    rows = 76 * 100
    replay = Replay(rows, 144, 4, 4, CodebookLookup(torch.randn(512, 5)))
    for _ in range(100):
        replay.add_episode(torch.zeros(76, 144, dtype=torch.int64), torch.zeros(76, 4), torch.zeros(75, 4), goal=torch.zeros(144, dtype=torch.int64))
    held = sum(v.nbytes for v in vars(replay).values() if isinstance(v, torch.Tensor))
    assert replay.used_rows == rows and held / rows * 1_000_000 < 1e9
    assert held / rows < 400  # bytes; as float latents they would be 2,880
