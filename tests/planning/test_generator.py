"""The subgoal CVAE: shapes, starting point, gradients, and learning a known two-way future."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from planning.generator import SubgoalCVAE, SubgoalCVAEConfig
from planning.heads import CACHED, CodesHead, likeliest
from planning.pairs import SubgoalPairs, subgoal_chains, subgoal_pairs

SHAPES = [((5, 12, 12), "unet"), ((3, 6, 6), "unet"), ((2, 4, 6), "unet"), ((2, 5, 5), "mlp"), ((4, 1, 1), "mlp")]


def small(shape, network, **changes):
    torch.manual_seed(0)
    return SubgoalCVAE(
        SubgoalCVAEConfig(latent_shape=shape, network=network, latent_dim=3, channels=8, hidden=32, **changes)
    )


@pytest.mark.parametrize(("shape", "network"), SHAPES)
def test_shapes_and_gradients_reach_every_parameter(shape, network):
    model = small(shape, network)
    size = shape[0] * shape[1] * shape[2]
    z = torch.randn(5, size)
    assert torch.equal(model.generate(z, torch.randn(5, 3)), z), "an untrained generator stays where it is"
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    loss, metrics = model.loss(z, torch.randn(5, size))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert all(v.ndim == 0 and not v.requires_grad for v in metrics.values())
    assert model.generate(z, torch.randn(5, 3)).shape == (5, size)


def test_loss_is_the_weighted_sum_worked_by_hand():
    model = small((4, 1, 1), "mlp", reconstruction_weight=10.0, kl_weight=0.5)
    z0, z1 = torch.zeros(2, 4), torch.full((2, 4), 3.0)
    loss, metrics = model.loss(z0, z1)
    torch.testing.assert_close(metrics["reconstruction"], torch.tensor(2.5))  # smooth L1 of 3 is 3 - 0.5
    torch.testing.assert_close(metrics["distance"], torch.tensor(6.0))
    mean, log_var = model.posterior(z0, z1)
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(metrics["kl"], kl.detach())
    torch.testing.assert_close(loss, 10 * metrics["reconstruction"] + 0.5 * kl)


def test_latent_scale_measures_losses_in_its_own_units():
    a, b = small((4, 1, 1), "mlp"), small((4, 1, 1), "mlp", latent_scale=100.0)
    for model in (a, b):
        torch.manual_seed(1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    z0, z1 = torch.randn(6, 4), torch.randn(6, 4)
    one = a.loss(z0, z1, generator=torch.Generator().manual_seed(0))[0]
    other = b.loss(100 * z0, 100 * z1, generator=torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(one, other)


def test_learns_both_futures_of_one_present():
    """From 0 the future is +1 or -1, half and half: samples must be near one of them, and both must occur."""
    g = torch.Generator().manual_seed(0)
    model = small((2, 1, 1), "mlp", kl_weight=1.0, reconstruction_weight=20.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(400):
        sign = torch.randint(2, (128, 1), generator=g).float() * 2 - 1
        loss, _ = model.loss(torch.zeros(128, 2), sign.expand(-1, 2), generator=g)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    samples = model.generate(torch.zeros(500, 2), torch.randn(500, 3, generator=g)).detach().mean(1)
    near = (samples.abs() - 1).abs() < 0.35
    assert near.float().mean() > 0.75
    assert 0.25 < (samples > 0).float().mean() < 0.75


def test_chained_loss_starts_each_link_from_its_own_quantized_prediction():
    model = small((4, 1, 1), "mlp")
    chain = torch.randn(3, 6, 4)
    seen = []

    def quantize(z):
        assert not z.requires_grad
        seen.append(z)
        return z.round()

    total, _ = model.chained_loss(chain, quantize, torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(0)
    first = model.loss(chain[0], chain[1], generator=g)[0]
    second = model.loss(seen[0].round(), chain[2], generator=g)[0]
    torch.testing.assert_close(total, (first + second) / 2)
    pair = model.chained_loss(chain[:2], None, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(pair, model.loss(chain[0], chain[1], generator=torch.Generator().manual_seed(0))[0])


def test_refuses_a_unet_on_a_grid_that_cannot_halve():
    with pytest.raises(ValueError, match="mlp"):
        small((2, 5, 5), "unet")
    with pytest.raises(ValueError, match="network"):
        small((2, 5, 5), "tree")


def test_pairs_stay_in_their_episode_and_cover_everything():
    start, end = torch.tensor([0, 5, 6, 20]), torch.tensor([5, 6, 20, 23])  # the second episode is one lone row
    g = torch.Generator().manual_seed(0)
    t, later = subgoal_pairs(start, end, (2, 4), 20_000, g)
    episode = torch.searchsorted(end, t, right=True)
    assert torch.equal(episode, torch.searchsorted(end, later, right=True))
    gap, left = later - t, end[episode] - 1 - t
    assert ((gap == left) | ((gap >= 2) & (gap <= 4))).all() and (gap >= 1).all() and (gap <= left).all()
    counts = torch.bincount(t, minlength=23)
    valid = torch.tensor([r for r in range(23) if r not in (4, 5, 19, 22)])
    assert counts.sum() == counts[valid].sum() and (counts[valid] > 0.8 * 20_000 / 19).all()
    assert set(gap[left >= 4].tolist()) == {2, 3, 4}


def test_chains_only_move_forward_and_rest_at_the_end():
    start, end = torch.tensor([0, 10]), torch.tensor([10, 14])
    rows = subgoal_chains(start, end, (3, 3), 3, 500, torch.Generator().manual_seed(0))
    assert rows.shape == (4, 500)
    last = torch.where(rows[0] < 10, 9, 13)
    for i in range(4):
        assert torch.equal(rows[i], torch.minimum(rows[0] + 3 * i, last))
    with pytest.raises(ValueError, match="two rows"):
        subgoal_pairs(torch.tensor([0, 1]), torch.tensor([1, 2]), (1, 2), 4)
    with pytest.raises(ValueError, match="low <= high"):
        subgoal_pairs(start, end, (0, 2), 4)


def test_a_batch_of_chains_is_learned_as_a_chain_and_pairs_are_a_chain_of_one():
    codes = torch.arange(40)[:, None]
    start, end = torch.tensor([0, 20]), torch.tensor([20, 40])

    def lookup(codes):
        return codes.float().expand(-1, 4).clone()

    chains = SubgoalPairs(codes, start, end, (2, 3), lookup, links=3).batch(np.arange(64))
    assert len(chains) == 4
    for a, b in pairwise(chains):
        gap = (b - a)[:, 0]
        last = torch.where(a[:, 0] < 20, 19, 39)
        assert (((gap >= 2) & (gap <= 3)) | (b[:, 0] == last)).all()
    model = SubgoalCVAE(SubgoalCVAEConfig(latent_shape=(4, 1, 1), network="mlp", hidden=8))
    model.quantize = torch.round
    one = model.loss(*chains, generator=torch.Generator().manual_seed(0))[0]
    other = model.chained_loss(torch.stack(chains), torch.round, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(one, other)
    pairs = [SubgoalPairs(codes, start, end, (2, 3), lookup, links=links).batch(np.arange(8)) for links in (1, 1)]
    assert len(pairs[0]) == 2 and torch.equal(pairs[0][1], pairs[1][1])  # the same rows give the same batch


def test_codes_are_named_by_cross_entropy_worked_by_hand():
    codebook = torch.tensor([[0.0], [1.0], [3.0]])
    head = CodesHead(SubgoalCVAEConfig(latent_shape=(1, 1, 2), likelihood="codes"), codebook)
    torch.nn.init.zeros_(head.words.weight)
    head.words.bias.data = torch.tensor([0.0, 1.0, 2.0])
    out = torch.zeros(1, head.channels, 1, 2)
    out[0, -1, 0, 0] = 5.0  # the first cell would rather stay
    base, target = torch.tensor([[0.9, 0.2]]), torch.tensor([[1.0, 3.0]])
    assert head.codes(base).tolist() == [[1, 0]] and head.codes(codebook[[2, 0]].T).tolist() == [[2, 0]]  # near the codebook; on it
    assert torch.equal(head(out, base), torch.tensor([[1.0, 3.0]]))  # stays; the likeliest word
    loss, predicted, _ = head.loss(out, base, target)
    first = -torch.log_softmax(torch.tensor([0.0, 6.0, 2.0]), 0)[1]
    second = -torch.log_softmax(torch.tensor([0.0, 1.0, 2.0]), 0)[2]
    torch.testing.assert_close(loss, first + second)
    assert torch.equal(predicted, target)
    with pytest.raises(ValueError, match="needs the vision model's codebook"):
        SubgoalCVAE(SubgoalCVAEConfig(likelihood="codes"))
    with pytest.raises(ValueError, match="likelihood must be one of"):
        SubgoalCVAE(SubgoalCVAEConfig(likelihood="guess"))


@pytest.mark.parametrize("likelihood", ["codes", "smooth_l1"])
def test_outcomes_of_two_cells_go_together_and_samples_are_one_or_the_other(likelihood):
    """Both cells become 1, or both 2, from 0. A sample that mixes them, or lies between, shows what never is."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    codebook = torch.tensor([[0.0], [1.0], [2.0]])
    config = SubgoalCVAEConfig((1, 1, 2), "mlp", latent_dim=2, hidden=32, likelihood=likelihood, kl_weight=1.0, learning_rate=3e-3)
    model = SubgoalCVAE(config, codebook)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    for _ in range(400):
        after = torch.randint(1, 3, (128, 1), generator=g).float().expand(-1, 2)
        loss, _ = model.loss(torch.zeros(128, 2), after, generator=g)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = model.generate(torch.zeros(500, 2), torch.randn(500, 2, generator=g)).detach()
    one, two = ((drawn - level).abs().amax(1) < 0.05 for level in (1, 2))
    share = float((one | two).float().mean())
    if likelihood == "codes":
        assert share > 0.97 and one.float().mean() > 0.3 and two.float().mean() > 0.3
    else:
        assert share < 0.97  # numbers lie between: why there are codes


@pytest.mark.parametrize(("shape", "network"), SHAPES)
def test_begun_once_it_goes_where_it_goes_from_every_row(shape, network):
    model = small(shape, network)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    z, u, rows = torch.randn(2, shape[0] * shape[1] * shape[2]), torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    first, later = model.begin(z)
    for some in (rows, rows[:1]):
        torch.testing.assert_close(first(some, u), model.generate(z[some].expand(6, -1), u), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(later(z[rows], u), model.generate(z[rows], u), atol=1e-4, rtol=1e-4)


def test_the_u_net_is_convolutions_of_what_came_up_and_what_was_skipped():
    """`read` and `write` split every layer in two terms: against the layers as they are drawn, on inputs side by side."""
    model = small((5, 12, 12), "unet")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    net, h0, u = model.decoder, torch.randn(3, 5, 12, 12), torch.randn(3, 3)
    fine = net.down[0](h0)
    coarse = net.down[1](fine)
    x = net.bottleneck(torch.cat([coarse.flatten(1), net.code(u)], 1)).unflatten(1, coarse.shape[1:])
    for up, skip in zip(net.up, (coarse, fine), strict=True):
        x = torch.nn.functional.interpolate(up(torch.cat([x, skip], 1)), scale_factor=2.0)
    torch.testing.assert_close(net(h0, u), net.out(torch.cat([x, h0], 1)), atol=1e-3, rtol=1e-4)


def test_the_likeliest_is_the_first_of_the_largest():
    generator = torch.Generator().manual_seed(0)
    for logits in (torch.randn(50, 7, 256, generator=generator), torch.randint(-9, -5, (40, 300), generator=generator).float(), torch.zeros(3, 5), -torch.rand(4, 1, generator=generator)):
        assert torch.equal(likeliest(logits), logits.argmax(-1))
    for broken in (torch.nan, torch.inf, -torch.inf):
        assert (likeliest(torch.full((2, 4), broken)) < 4).all(), "an index, whatever the numbers"


def test_many_grids_mean_what_they_mean_one_by_one():
    head = CodesHead(SubgoalCVAEConfig(latent_shape=(2, 3, 3), likelihood="codes"), torch.randn(9, 2))
    out, base = torch.randn(CACHED + 5, head.channels, 3, 3), head.latents(torch.randint(9, (CACHED + 5, 9)))
    for b in (base, None):
        whole = head(out, b)
        assert torch.equal(whole, torch.cat([head(out[i : i + 1], None if b is None else b[i : i + 1]) for i in range(len(out))]))
        assert torch.equal(whole, head.latents(head.logits(out, b).argmax(-1)))
    assert head(out[:0], base[:0]).shape == (0, 18)


def test_codes_beside_the_codebook_are_the_nearest_and_on_it_the_first():
    head = CodesHead(SubgoalCVAEConfig(latent_shape=(2, 1, 3), likelihood="codes"), torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]]))
    on, beside = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0, 3.0]]), torch.tensor([[0.1, 1.0, 1.0, 0.0, 0.2, 2.0]])
    for z in (on, beside, torch.cat([on, beside])):
        assert torch.equal(head.codes(z), torch.tensor([[0, 1, 2]]).expand(len(z), -1))
