"""The planner on a point in a box, where what is right can be seen."""

import math
from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch

from planning.generator import SubgoalCVAE, SubgoalCVAEConfig
from planning.levels import draw_levels, plan_levels, search_levels
from planning.memory import MemoryConfig, PlanMemory
from planning.planner import PlannerConfig, SubgoalPlanner

START, GOAL = torch.tensor([[-0.8, -0.6]]), torch.tensor([[0.8, -0.6]])
GAP = 0.4  # a wall stands at x = 0 below this height; above it the way is free


def straight(z, u):
    """A generator that knows no walls: up to 0.9 away in each direction, inside the box [-1, 1]^2."""
    return (z + 0.9 * torch.tanh(u)).clamp(-1, 1)


def crosses_wall(a, b):
    t = a[:, 0] / (a[:, 0] - b[:, 0]).where(a[:, 0] != b[:, 0], torch.ones(()))
    height = a[:, 1] + t * (b[:, 1] - a[:, 1])
    return (a[:, 0] * b[:, 0] < 0) & (height < GAP)


def value(a, b):
    """Minus the steps to go, twenty per unit of length; a straight way through the wall takes for ever."""
    return -20 * (a - b).norm(dim=-1) - 200.0 * crosses_wall(a, b)


def planner(seed=0, **changes):
    config = PlannerConfig(**{"subgoals": 4, "latent_dim": 2, "samples": 512, "eta": 0.01, **changes})
    return SubgoalPlanner(straight, value, config), torch.Generator().manual_seed(seed)


def segments(subgoals):
    chain = torch.cat([START, subgoals[0]])
    return chain[:-1], chain[1:]


@pytest.mark.parametrize("seed", range(3))
def test_goes_around_the_wall_where_distance_alone_runs_into_it(seed):
    informed, g = planner(seed)
    plan = informed.plan(START, GOAL, g)
    assert not crosses_wall(*segments(plan.subgoals)).any()
    assert plan.subgoals[0, :-1, 1].max() > GAP
    blind, g = planner(seed, eta=0.0)
    assert crosses_wall(*segments(blind.plan(START, GOAL, g).subgoals)).any()


def test_shapes_last_subgoal_and_cost_by_hand():
    p, g = planner(samples=64)
    z, goal = torch.rand(3, 2, generator=g) - 0.5, torch.rand(3, 2, generator=g) - 0.5
    plan = p.plan(z, goal, g)
    assert plan.subgoals.shape == (3, 4, 2) and plan.values.shape == (3, 4) and plan.codes.shape == (3, 4, 2)
    assert torch.equal(plan.subgoals[:, -1], goal)
    for i in range(3):
        s = [z[i]]
        for u in plan.codes[i]:
            s.append(straight(s[-1], u))
        links = [*pairwise(s), (s[-1], goal[i])]
        v = sum(value(a[None], b[None])[0] for a, b in links)
        expected = (s[-1] - goal[i]).norm() - 0.01 * v + 0.01 * plan.codes[i].square().sum()
        torch.testing.assert_close(plan.cost[i], expected)
        ends = [*s[:-1], goal[i]]
        by_hand = torch.stack([value(a[None], b[None])[0] for a, b in pairwise(ends)])
        torch.testing.assert_close(plan.values[i], by_hand)


def test_one_subgoal_is_the_goal_itself():
    p, g = planner(subgoals=1)
    plan = p.plan(START, GOAL, g)
    assert torch.equal(plan.subgoals, GOAL[None]) and torch.equal(plan.values[0], value(START, GOAL))


def test_chunks_change_nothing_and_bound_the_rows_seen():
    sizes = []

    def watched(z, u):
        sizes.append(len(z))
        return straight(z, u)

    results = []
    for chunk in (7, 4096):
        config = PlannerConfig(subgoals=2, latent_dim=2, samples=50, chunk=chunk)
        p = SubgoalPlanner(watched, value, config)
        results.append(p.plan(START.expand(3, 2), GOAL.expand(3, 2), torch.Generator().manual_seed(0)))
        assert max(sizes) <= max(chunk, 3) and max(sizes) <= 150
        sizes.clear()
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_every_generated_subgoal_is_quantized():
    config = PlannerConfig(subgoals=3, latent_dim=2, samples=64)
    p = SubgoalPlanner(straight, value, config, quantize=lambda z: (4 * z).round() / 4)
    subgoals = p.plan(START, GOAL, torch.Generator().manual_seed(0)).subgoals[:, :-1]
    assert torch.equal(4 * subgoals, (4 * subgoals).round())


def test_good_guesses_are_not_lost():
    p, g = planner(samples=16, sigmas=(), prior_weight=0.0, eta=0.0, subgoals=2)
    step = math.atanh(0.8 / 0.9)
    guess = torch.tensor([[[step, 0.0], [step, 0.0]]])
    plan = p.plan(START, GOAL, g, initial=guess[None])
    assert plan.cost < 1e-5 and torch.equal(plan.codes[0], guess[0])


def test_a_generator_that_broke_is_said_so_and_a_few_broken_chains_are_not_chosen():
    config = PlannerConfig(subgoals=2, latent_dim=2, samples=64)
    nan = SubgoalPlanner(lambda z, u: z * torch.nan, value, config)
    with pytest.raises(ValueError, match="finite"):
        nan.plan(START, GOAL)
    half = SubgoalPlanner(lambda z, u: straight(z, u).where(u[:, :1] > -0.5, torch.nan), value, config)
    assert torch.isfinite(half.plan(START, GOAL, torch.Generator().manual_seed(0)).subgoals).all()


def test_levels_refine_the_coarser_plan_and_keep_it():
    coarse, g = planner(subgoals=2, samples=256)
    fine, _ = planner(subgoals=3, samples=64)
    alone = coarse.plan(START, GOAL, torch.Generator().manual_seed(5)).subgoals
    found = plan_levels([coarse, fine], START, GOAL, torch.Generator().manual_seed(5))
    both = found.subgoals
    assert both.shape == (1, 6, 2)
    assert torch.equal(both[:, 2], alone[:, 0]) and torch.equal(both[:, 5], GOAL)
    assert found.codes.shape[:2] == (1, 6) and found.cost.shape == (1,)
    assert torch.equal(found.values, fine.segment_values(START, both))  # of the links as they are in the end
    with pytest.raises(ValueError, match="at least one"):
        plan_levels([], START, GOAL, g)


def test_memory_is_a_ring_that_neither_resets_nor_shrinks():
    memory = PlanMemory(MemoryConfig(capacity=5, ready_after=3, skip=0.0), 1, 1)
    g = torch.Generator().manual_seed(0)
    for i in range(12):
        assert (memory.propose(2, 8, g) is None) == (i < 3)
        memory.add(torch.full((1, 1, 1), float(i)))
        assert len(memory) == min(i + 1, 5)
    assert sorted(memory.codes.flatten().tolist()) == [7, 8, 9, 10, 11]
    guesses = memory.propose(2, 8, g)
    assert guesses.shape == (2, 4, 1, 1) and set(guesses.flatten().tolist()) <= {7.0, 8.0, 9.0, 10.0, 11.0}
    memory.add(torch.arange(20, 32).float()[:, None, None])
    assert sorted(memory.codes.flatten().tolist()) == [27, 28, 29, 30, 31]
    copy = PlanMemory(memory.config, 1, 1)
    copy.load_state_dict(memory.state_dict())
    assert torch.equal(copy.codes, memory.codes) and copy.added == 24


def test_a_plan_that_is_only_for_a_test_is_not_remembered():
    memory = PlanMemory(MemoryConfig(), 2, 2)
    config = PlannerConfig(subgoals=2, latent_dim=2, samples=16, eta=0.0)
    remembering = SubgoalPlanner(lambda z, u: z + u, lambda a, b: torch.zeros(len(a)), config, memory=memory)
    plan_levels([remembering], START, GOAL, torch.Generator().manual_seed(0), remember=False)
    assert len(memory) == 0
    plan_levels([remembering], START, GOAL, torch.Generator().manual_seed(0))
    assert len(memory) == 1


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize(("network", "likelihood"), [("unet", "smooth_l1"), ("mlp", "codes")])
def test_a_generator_begun_once_decides_as_one_that_is_asked_each_time(network, likelihood, precision):
    torch.manual_seed(0)
    generator = SubgoalCVAE(SubgoalCVAEConfig((2, 4, 4), network, latent_dim=3, channels=8, hidden=16, likelihood=likelihood), torch.randn(6, 2)).requires_grad_(False)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    look, (z, goal) = torch.randn(32, 8), torch.randn(2, 2, 32)
    config = PlannerConfig(subgoals=2, latent_dim=3, samples=30, chunk=25, eta=0.1, precision=precision)
    one, other = (
        SubgoalPlanner(generator.generate, lambda a, b: -((a - b) @ look).square().sum(-1).float(), config, begin=begin).plan(z, goal, torch.Generator().manual_seed(0))
        for begin in (None, generator.begin)
    )
    close = {"32": 1e-3, "bf16": 0.05}[precision]
    torch.testing.assert_close(one.cost, other.cost, rtol=close, atol=close)
    if precision == "32":
        torch.testing.assert_close(one.codes, other.codes, rtol=1e-3, atol=1e-3)


def test_remembered_plans_lower_the_cost_of_the_first_draw():
    memory = PlanMemory(MemoryConfig(ready_after=1, skip=0.0), 4, 2)
    config = PlannerConfig(subgoals=4, latent_dim=2, samples=64, eta=0.01)
    solved = SubgoalPlanner(straight, value, config, memory=memory).plan(START, GOAL, torch.Generator().manual_seed(1))
    shooting = PlannerConfig(subgoals=4, latent_dim=2, samples=64, eta=0.01, sigmas=())
    again = SubgoalPlanner(straight, value, shooting, memory=memory).plan(START, GOAL, torch.Generator().manual_seed(2))
    assert again.cost <= solved.cost + 1e-6 and len(memory) == 2


def test_mixed_precision_finds_as_good_a_plan():
    """A generator and a value of matrices: what bf16 finds costs, in float32, hardly more, and the answer is float32."""
    g = torch.Generator().manual_seed(5)
    step, look = torch.randn(4, 16, generator=g) / 2, torch.randn(16, 16, generator=g) / 4
    problems = torch.randn(4, 16, generator=g), torch.randn(4, 16, generator=g)
    costs = {}
    for precision in ("32", "bf16"):
        config = PlannerConfig(subgoals=3, latent_dim=4, samples=512, precision=precision)
        p = SubgoalPlanner(lambda z, u: z + torch.tanh(u) @ step, lambda a, b: -10 * ((a - b) @ look).square().sum(-1).float(), config)
        plan = p.plan(*problems, torch.Generator().manual_seed(0))
        assert plan.subgoals.dtype == torch.float32
        costs[precision] = p.cost(*problems, plan.codes[:, None])[:, 0]
    assert ((costs["bf16"] - costs["32"]).abs() < 0.05 * costs["32"].abs()).all()
    with pytest.raises(ValueError, match="precision must be one of 32, bf16"):
        planner(precision="16")


def test_first_links_begun_once_give_the_same_plan():
    """Chunks of 7 rows hold candidates of two problems; `begin` is asked for the starts only."""
    asked = []

    def begin(z):
        asked.append(len(z))
        return (lambda rows, u: straight(z[rows], u)), straight

    z, goal = START + torch.tensor([[0.0, 0.0], [0.2, 0.3], [-0.1, 1.0]]), GOAL.expand(3, 2)
    config = PlannerConfig(subgoals=3, latent_dim=2, samples=24, eta=0.01, chunk=7)
    one, other = (SubgoalPlanner(straight, value, config, begin=b).plan(z, goal, torch.Generator().manual_seed(0)) for b in (None, begin))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)
    assert asked == [3]  # once


@pytest.mark.parametrize("search", ["mppi", "cem", "shooting"])
def test_noise_drawn_before_gives_the_same_plan(search):
    planners = [planner(subgoals=k, samples=32, search=search)[0] for k in (2, 3)]
    z, goal = START.expand(2, 2), GOAL.expand(2, 2)
    one = plan_levels(planners, z, goal, torch.Generator().manual_seed(3))
    noise = draw_levels(planners, z, torch.Generator().manual_seed(3))
    assert [n.first.shape for n in noise] == [(2, 32, 2, 2), (4, 32, 3, 2)]
    for _ in range(2):  # the noise is left as it was
        found = search_levels(planners, z, goal, noise)
        assert torch.equal(found[-1].subgoals.view(2, 6, 2), one.subgoals) and torch.equal(found[-1].cost.view(2, 2).sum(1), one.cost)


@pytest.mark.parametrize("search", ["mppi", "cem", "shooting"])
@pytest.mark.parametrize(("network", "likelihood"), [("unet", "smooth_l1"), ("mlp", "codes")])
def test_a_search_waits_for_nothing(network, likelihood, search, monkeypatch):
    """On the meta device there are no numbers: whoever asks for one, for which a GPU would have to be waited for, fails."""
    monkeypatch.setattr(torch, "autocast", lambda *settings, **more: nullcontext())  # which does not know the device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    config = SubgoalCVAEConfig((2, 4, 4), network, latent_dim=3, channels=4, hidden=8, likelihood=likelihood)
    generator = SubgoalCVAE(config, torch.randn(6, 2)).requires_grad_(False).to("meta")
    settings = PlannerConfig(subgoals=2, latent_dim=3, samples=16, search=search, chunk=4)
    planners = [SubgoalPlanner(generator.generate, lambda a, b: (a - b).sum(1), settings, begin=generator.begin) for _ in range(2)]
    z, goal = torch.empty(3, 32, device="meta"), torch.empty(3, 32, device="meta")
    found = search_levels(planners, z, goal, draw_levels(planners, z))
    assert found[-1].subgoals.shape == (6, 2, 32) and found[-1].subgoals.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):
        planners[0].accept(found[0])  # which does look
