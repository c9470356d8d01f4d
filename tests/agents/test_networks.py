"""Networks: stacked critics equal separate ones, trunks see what they should, policies have their densities."""

import math

import pytest
import torch
from torch.nn import functional as F

from agents.bc import BC, BCConfig
from agents.iql import IQL, IQLConfig
from agents.networks import AttentionTrunk, ConvTrunk, Critic, FlatTrunk, StackedMLP, make_trunk
from agents.operations import gaussian_log_prob
from agents.policies import GaussianPolicy
from goals.batch import Batch


@pytest.mark.parametrize("layer_norm", [False, True])
def test_stacked_equals_separate(layer_norm: bool) -> None:
    net, x, late = StackedMLP(3, 5, 8, 2, 1, layer_norm, late=2), torch.randn(7, 5), torch.randn(7, 2)
    for e in range(3):
        h = torch.cat([x, late], 1) @ torch.cat([net.weights[0][e], net.late_weight[e]]) + net.biases[0][e]
        for i in (1, 2):
            h = F.relu(F.layer_norm(h, (8,)) if layer_norm else h) @ net.weights[i][e] + net.biases[i][e]
        assert torch.allclose(net(x, late)[e], h, atol=1e-5)
        assert torch.allclose(net(x, late, members=e + 1)[e], h, atol=1e-5)


def test_weights_start_within_their_fan_in() -> None:
    net = StackedMLP(2, 30, 64, 2, late=6)
    assert 0.9 / 6 < net.weights[0].abs().max() <= 1 / 6 and net.late_weight.abs().max() <= 1 / 6
    assert not torch.equal(net.weights[0][0], net.weights[0][1])


@pytest.mark.parametrize("grid", [(8, 6, 6), (5, 12, 12), (3, 5, 7)])
def test_the_conv_trunk_fits_its_grid_and_appends_proprio(grid: tuple[int, int, int]) -> None:
    z = math.prod(grid)
    trunk = make_trunk("conv", z + 4, z, grid, 16)
    obs, goal = torch.randn(3, z + 4), torch.randn(3, z)
    features = trunk(obs, goal)
    assert features.shape == (3, trunk.features)
    assert torch.equal(features[:, -4:], obs[:, -4:])
    moved = goal.clone()
    moved[:, 0] += 5.0  # one corner of the grid changes only features near it
    changed = (trunk(obs, moved) != features).any(0)
    assert changed.any() and changed.float().mean() < 0.6


def test_the_conv_trunk_is_an_ordinary_convolution() -> None:
    trunk = ConvTrunk(18, 18, (2, 3, 3), 4)
    obs, goal = torch.randn(2, 18), torch.randn(2, 18)
    x = torch.cat([obs, goal, goal - obs], 1).view(2, 6, 3, 3)
    expected = F.relu(trunk.second(F.relu(trunk.first(x))))  # (2, 8, 2, 2)
    assert torch.allclose(trunk(obs, goal).view(2, 2, 2, 8).permute(0, 3, 1, 2), expected, atol=1e-5)


def blank_attention(grid: tuple[int, int, int], proprio: int = 0) -> AttentionTrunk:
    """Attention whose maps are zero: its logits are of the change alone."""
    z = math.prod(grid)
    trunk = AttentionTrunk(z + proprio, z, grid, 4)
    torch.nn.init.zeros_(trunk.maps.weight)
    torch.nn.init.zeros_(trunk.maps.bias)  # type: ignore[arg-type]
    return trunk


def test_attention_begins_where_goal_and_latent_differ() -> None:
    trunk = blank_attention((2, 3, 5), proprio=1)
    obs, goal = torch.randn(1, 31), torch.zeros(1, 30)
    goal[:] = obs[:, :30]
    goal.view(1, 2, 3, 5)[0, :, 2, 1] += 100.0  # the cell in the last row, second column: x = -.5, y = 1
    features = trunk(obs, goal)
    assert features.shape == (1, trunk.features) == (1, 16 * 7 + 7)
    found, strength, proprio = features[0].split([16 * 6, 16, 7])
    share = math.exp(4) / (math.exp(4) + 14)  # of the softmax over 15 cells; the others' mean place is minus the cell's over 14
    rest = (1 - share) / 14
    expected = torch.tensor([0, 0, 0, 0, -0.5 * (share - rest), share - rest])
    assert torch.allclose(found.view(16, 6), expected.expand(16, 6), atol=1e-5)
    assert torch.allclose(strength, torch.tensor(math.log((math.exp(4) + 14) / 15)), atol=1e-5)
    assert torch.equal(proprio[:1], obs[0, 30:]) and torch.allclose(proprio[3:5], torch.stack([(2 * obs[0, 30]).sin(), (2 * obs[0, 30]).cos()]))
    still = trunk(obs, obs[:, :30])[0, :112]
    assert torch.allclose(still, torch.zeros(112), atol=1e-6)  # nothing differs: the middle, without strength


def test_attention_finds_what_moved_in_places_it_never_saw() -> None:
    """A linear readout of where the change is, fitted on half of the cells, holds on the others; over the difference of latents it cannot."""
    grid, z = (3, 8, 8), 192
    torch.manual_seed(0)
    attention, flat = blank_attention(grid), make_trunk("difference", z, z, None, 4)
    cells = torch.arange(64)
    obs = torch.randn(64, z)
    goal = obs.clone()
    goal.view(64, 3, 64)[cells, :, cells] += 3.0
    where = torch.stack([cells % 8, cells // 8], 1).float()
    shown = (cells // 8 + cells) % 2 == 0
    errors = []
    for trunk in (attention, flat):
        features = torch.cat([trunk(obs, goal), torch.ones(64, 1)], 1).double()
        fit = torch.linalg.lstsq(features[shown], where[shown].double(), driver="gelsd").solution
        errors.append((features[~shown] @ fit - where[~shown]).norm(dim=1).mean())
    assert errors[0] < 0.2 and errors[1] > 2


def test_attention_learns_to_look_elsewhere() -> None:
    trunk = AttentionTrunk(50, 50, (2, 5, 5), 4)
    trunk(torch.randn(4, 50), torch.randn(4, 50)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trunk.parameters())


def test_trunks_say_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"grid_shape \(2, 3, 3\) does not fit goal_dim 17"):
        make_trunk("conv", 20, 17, (2, 3, 3), 4)
    with pytest.raises(ValueError, match="needs latents on a grid"):
        make_trunk("conv", 20, 18, None, 4)
    with pytest.raises(ValueError, match=r"attention encoder: grid_shape \(2, 3, 3\) does not fit goal_dim 18, obs_dim 17"):
        make_trunk("attention", 17, 18, (2, 3, 3), 4)
    with pytest.raises(ValueError, match="unknown encoder 'cnov'"):
        make_trunk("cnov", 20, 18, None, 4)


def test_critic_members_share_the_input_not_the_weights() -> None:
    critic = Critic(FlatTrunk(3, 2), 2, 16, 2, True)
    obs, goal, action = torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, 2)
    q = critic(obs, goal, action)
    assert q.shape == (2, 6) and not torch.allclose(q[0], q[1])
    assert torch.allclose(critic(obs, goal, action, members=1)[0], q[0], atol=1e-6)


@pytest.mark.parametrize("encoder", ["mlp", "difference"])
def test_networks_share_a_trunk_without_weights_that_reads_each_pair_once(encoder: str) -> None:
    agent = IQL(IQLConfig(hidden=16, encoder=encoder), 8, 6, 2)
    trunk = agent.critic.trunk
    assert trunk is agent.target_critic.trunk is agent.value_network.trunk is agent.policy.trunk
    fresh = make_trunk(encoder, 8, 6, None, 0)
    obs, following, goal = torch.randn(5, 8), torch.randn(5, 8), torch.randn(5, 6)
    now, after = trunk(obs, goal), trunk(following, goal)
    assert trunk(obs, goal) is now and trunk(following, goal) is after  # a batch has two
    assert torch.equal(now, fresh(obs, goal)) and torch.equal(after, fresh(following, goal))
    obs.add_(1.0)  # in place: no longer what was read
    assert torch.equal(trunk(obs, goal), fresh(obs, goal))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(trunk(obs, goal), fresh(obs, goal).bfloat16())
    assert trunk(obs, goal).dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(trunk(obs + 1, goal), fresh(obs + 1, goal))
    assert trunk(obs.requires_grad_(), goal).requires_grad


def test_networks_have_their_own_trunks_where_those_have_weights() -> None:
    agent = IQL(IQLConfig(hidden=16, encoder="conv", channels=2), 34, 32, 2, grid_shape=(2, 4, 4))
    assert len({id(n.trunk) for n in (agent.critic, agent.target_critic, agent.value_network, agent.policy)}) == 4


@pytest.mark.parametrize("layer_norm", [False, True])
def test_what_the_first_layer_makes_serves_many_actions(layer_norm: bool) -> None:
    critic = Critic(FlatTrunk(3, 2), 2, 16, 2, layer_norm)
    obs, goal, actions = torch.randn(6, 3), torch.randn(6, 2), torch.randn(2, 6, 2)
    first = critic.first(obs, goal)
    for action in actions:
        assert torch.equal(critic.of(first, action), critic(obs, goal, action))


def test_policy_std_is_fixed_learned_or_a_network_of_the_state() -> None:
    fixed, learned, network = (GaussianPolicy(FlatTrunk(3, 2), 2, 16, 2, std) for std in (0.15, 0.0, -1.0))
    obs, goal = torch.randn(50, 3) * 100, torch.randn(50, 2) * 100
    mean, std = fixed.distribution(obs, goal)
    assert torch.allclose(std, torch.full((2,), 0.15)) and not fixed.theta.requires_grad and torch.equal(fixed(obs, goal), mean)
    assert torch.allclose(learned.distribution(obs, goal)[1], torch.full((2,), math.exp(-1.0)), atol=1e-6) and learned.theta.requires_grad
    assert (mean.abs() <= 1).all()
    assert torch.isfinite(gaussian_log_prob(torch.ones(50, 2), mean, std)).all()  # unsquashed: an action at the bound has a finite density
    mean, std = network.distribution(obs, goal)
    assert std.shape == (50, 2) and (std > math.exp(-6.0)).all() and (std < 1).all() and std.std(0).min() > 0
    assert torch.equal(network(obs, goal), mean)
    for wrong in (-0.5, -2.0):
        with pytest.raises(ValueError, match="std"):
            GaussianPolicy(FlatTrunk(3, 2), 2, 16, 2, wrong)


def test_a_network_of_the_std_finds_how_wide_the_data_are_in_each_state() -> None:
    """Actions of std .1 in one state and .5 in the other, around 0."""
    torch.manual_seed(0)
    agent = BC(BCConfig(hidden=32, policy_std=-1.0, learning_rate=5e-3), 1, 0, 1)
    g, none = torch.Generator().manual_seed(0), torch.zeros(512, 0)
    for step in range(400):
        agent.optimizers["policy"].param_groups[0]["lr"] = 5e-3 * (1 - step / 400)
        state = torch.randint(2, (512, 1), generator=g).float()
        action = torch.randn(512, 1, generator=g) * (0.1 + 0.4 * state)
        agent.update(Batch.of(state, action, none.sum(1), none.sum(1), state, none))
    mean, std = agent.policy.distribution(torch.tensor([[0.0], [1.0]]), none[:2])
    assert std.flatten().tolist() == pytest.approx([0.1, 0.5], rel=0.06) and mean.abs().max() < 0.05


def test_an_agent_that_reads_the_first_numbers_ignores_those_behind_them() -> None:
    """Of latents of 6 numbers and 2 of proprioception it reads 4 and 2; networks of the same size as those of an agent of such latents."""
    torch.manual_seed(0)
    agent = IQL(IQLConfig(hidden=16), 8, 6, 2, reads=4)
    obs, goal = torch.randn(5, 8), torch.randn(5, 6)
    other, aim = obs.clone(), goal.clone()
    other[:, 4:6] += 1.0
    aim[:, 4:] -= 1.0
    assert torch.equal(agent.act(obs, goal), agent.act(other, aim)) and torch.equal(agent.value(obs, goal), agent.value(other, aim))
    for column in (0, 3, 6, 7):
        moved = obs.clone()
        moved[:, column] += 1.0
        assert not torch.equal(agent.act(obs, goal), agent.act(moved, goal)), column
    sizes = [sum(p.numel() for p in a.policy.parameters()) for a in (agent, IQL(IQLConfig(hidden=16), 6, 4, 2))]
    assert sizes[0] == sizes[1]
    with pytest.raises(ValueError, match="cannot read 7 numbers of a latent of 6"):
        IQL(IQLConfig(), 8, 6, 2, reads=7)
