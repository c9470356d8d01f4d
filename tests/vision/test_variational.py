"""The variational models' arithmetic against torch.distributions, a model whose likelihood is known, and eq. 7 term by term; FSQ's rounding."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from vision import likelihoods
from vision.ccvae import CCVAE, CCVAEConfig
from vision.fsq import FSQ, FSQConfig, bound, grid_of_levels, round_straight
from vision.images import to_float
from vision.keypoints import KeypointDecoder
from vision.vae import VAE, VAEConfig
from vision.variational import LOG_VAR, Variational, gaussian

TINY = CCVAEConfig(image_size=12, latents=3, contexts=4, channels=4, hidden=16, dropout=0.0)


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_terms_match_torch_distributions():
    torch.manual_seed(0)
    mean, log_var = torch.randn(6, 5), torch.randn(6, 5)
    q = Normal(mean, (0.5 * log_var).exp())
    torch.testing.assert_close(likelihoods.gaussian_kl(mean, log_var), kl_divergence(q, Normal(0.0, 1.0)).sum(1))
    torch.testing.assert_close(likelihoods.standard_normal_log_prob(mean), Normal(0.0, 1.0).log_prob(mean).sum(1))
    out, x = torch.randn(4, 3, 6, 6), torch.rand(4, 3, 6, 6)
    given = likelihoods.make_likelihood("gaussian", 0.3)
    torch.testing.assert_close(given.nll(out, x), -Independent(Normal(out, 0.3), 3).log_prob(x))
    given = likelihoods.make_likelihood("bernoulli", 0.3)
    binary = x.round()
    torch.testing.assert_close(given.nll(out, binary), -Independent(Bernoulli(logits=out), 3).log_prob(binary))
    p = torch.sigmoid(out)
    torch.testing.assert_close(given.nll(out, x), -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)))
    torch.testing.assert_close(given.mean(out), p)


def test_bits_of_a_uniform_density_are_eight():
    assert likelihoods.bits_per_dim(0.0, 7) == 8
    assert likelihoods.bits_per_dim(7 * math.log(256), 7) == pytest.approx(0)


@pytest.mark.parametrize("name, std", [("laplace", 0.1), ("gaussian", 0.0)])
def test_unknown_likelihoods_are_refused(name, std):
    with pytest.raises(ValueError, match="likelihood"):
        VAEConfig(likelihood=name, std=std)


def test_samples_of_the_posterior_have_its_moments_and_pass_gradients():
    torch.manual_seed(0)
    mean, log_var = torch.tensor([[1.0, -2.0]], requires_grad=True), torch.tensor([[0.5, -1.0]], requires_grad=True)
    z = likelihoods.reparameterise(mean.expand(40000, -1), log_var.expand(40000, -1))
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(0), log_var[0].exp(), atol=0.03, rtol=0)
    z.square().mean(0).sum().backward()  # E z^2 = mean^2 + var
    torch.testing.assert_close(mean.grad, 2 * mean.detach(), atol=0.05, rtol=0)
    torch.testing.assert_close(log_var.grad, log_var.detach().exp(), atol=0.05, rtol=0)
    low, high = gaussian(torch.tensor([[0.0, 0.0, -99.0, 99.0]]))[1][0]
    assert (low, high) == LOG_VAR


class Linear(Variational):
    """x ~ N(W z + b, std^2), z ~ N(0, I): log p(x) and the posterior are known."""

    def __init__(self, config, exact: bool) -> None:
        super().__init__(config)
        g = torch.Generator().manual_seed(3)
        self.w, self.b = 0.05 * torch.randn(432, config.latents, generator=g), torch.full((432,), 0.5)
        precision = torch.eye(config.latents) + self.w.T @ self.w / config.std**2
        self.cover = precision.inverse()
        self.exact, self.dummy = exact, nn.Parameter(torch.zeros(1))

    def posterior(self, images, context=None):
        residual = to_float(images).flatten(1) - self.b
        mean = residual @ self.w @ self.cover / self.config.std**2
        log_var = self.cover.diagonal().log().expand_as(mean)
        return (mean, log_var) if self.exact else (mean + 0.1, log_var + 0.3)

    def render(self, z, context=None):
        return (z @ self.w.T + self.b).view(-1, 3, 12, 12)

    def evidence(self, images):
        cover = self.w @ self.w.T + self.config.std**2 * torch.eye(432)
        p = torch.distributions.MultivariateNormal(self.b.double(), cover.double())
        return p.log_prob(to_float(images).flatten(1).double())


def test_the_bound_stays_below_a_known_likelihood_and_touches_it_at_the_posterior():
    config = VAEConfig(image_size=12, latents=1, std=0.3)  # one latent: the exact posterior is a diagonal Gaussian
    x = images(3)
    torch.manual_seed(0)
    for exact in (True, False):
        model = Linear(config, exact)
        elbo = torch.stack([model.elbo(x) for _ in range(800)]).double()
        gap = model.evidence(x) - elbo.mean(0)
        error = 4 * elbo.std(0) / math.sqrt(800)
        if exact:
            assert (gap.abs() < error + 1e-2).all()
        else:  # the gap is KL(q || p(z | x)), in closed form
            v = float(model.cover)
            kl = 0.5 * (math.exp(0.3) + 0.1**2 / v - 1 - 0.3)
            torch.testing.assert_close(gap, torch.full((3,), kl, dtype=torch.float64), atol=float(error.max()) + 1e-2, rtol=0)
            assert kl > 0.05


def test_the_loss_is_the_weighted_bound():
    torch.manual_seed(0)
    model = VAE(VAEConfig(image_size=12, latents=3, channels=4, hidden=16, beta=2.5))
    x = images(4)
    torch.manual_seed(1)
    loss, metrics = model.loss(x)
    torch.manual_seed(1)
    nll, kl, decoded = model.bound(x)
    torch.testing.assert_close(loss, nll.mean() + 2.5 * kl.mean())
    torch.testing.assert_close(metrics["mse"], (decoded - to_float(x)).square().mean())
    torch.manual_seed(1)
    torch.testing.assert_close(model.elbo(x), -(nll + kl))


# -- CC-VAE -------------------------------------------------------------------------------------------------------------------


def ccvae() -> CCVAE:
    torch.manual_seed(0)
    return CCVAE(TINY)


@pytest.mark.parametrize("progress, beta", [(0.0, 1.0), (0.35, 3.0), (0.7, 9.0), (1.0, 9.0)])
def test_eq_7_term_by_term(progress, beta):
    torch.manual_seed(0)
    model = CCVAE(CCVAEConfig(**{**vars(TINY), "beta_start": 1.0, "beta": 9.0, "dropout": 0.0})).train()
    model.progress = progress
    x, context = images(4), images(4, 1)
    torch.manual_seed(2)
    loss, metrics = model.loss(x, context)
    torch.manual_seed(2)
    with torch.no_grad():
        mean, log_var = model.posterior(x, context)
        q = Normal(mean, (0.5 * log_var).exp())
        z_t = mean + q.stddev * torch.randn_like(mean)
        z_c = model.encode_context(context, 4)
        later = -Independent(Normal(model.decoder(torch.cat([z_t, z_c], 1)), TINY.std), 3).log_prob(to_float(x)).mean()
        first = -Independent(Normal(model.context_decoder(z_c), TINY.std), 3).log_prob(to_float(context)).mean()
        kl = kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(loss.detach(), later + beta * kl + first)
    torch.testing.assert_close(metrics["context"], first)
    model.eval()  # validation weighs by the final beta at any time, or its losses could not be compared
    losses = []
    for model.progress in (0.0, progress):
        torch.manual_seed(2)
        losses.append(model.loss(x, context)[0])
    assert losses[0] == losses[1]


def test_gradients_reach_z_c_from_both_decoders_and_z_t_from_one():
    model = ccvae()
    x, context = images(4), images(4, 1)
    z_c = model.encode_context(context, 4).detach().requires_grad_()
    first = model.likelihood.nll(model.context_decoder(z_c), to_float(context)).sum()
    by_first = torch.autograd.grad(first, z_c)[0]
    by_later = torch.autograd.grad(model.bound(x, context, z_c).nll.sum(), z_c)[0]
    assert by_first.abs().sum() > 0 and by_later.abs().sum() > 0
    nn.init.zeros_(model.decoder.start[0].weight)  # shut the way through s_t's decoder: what is left comes from s_0's
    model.loss(x, context)[0].backward()
    assert all(p.grad.abs().sum() > 0 for n, p in model.context_encoder.named_parameters() if n.endswith("weight"))
    model = ccvae()
    mean, log_var = model.posterior(x, context)
    first = model.likelihood.nll(model.context_decoder(model.encode_context(context, 4)), to_float(context)).sum()
    assert all(g is None for g in torch.autograd.grad(first, [*model.encoder.parameters(), mean, log_var], allow_unused=True))


def test_samples_of_a_scene_keep_its_context():
    model = ccvae().eval()
    context = images(1)
    z = model.sample(5, context, generator=torch.Generator().manual_seed(0))
    assert torch.equal(z[:, 3:], model.encode_context(context, 5)) and len(z[:, :3].unique(dim=0)) == 5
    torch.testing.assert_close(model.log_prob(z), Normal(0.0, 1.0).log_prob(z[:, :3]).sum(1))


# -- FSQ ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 8])
def test_rounding_matches_numpy_and_reaches_every_level(n):
    x = torch.linspace(-8, 8, 4001)[:, None]
    got = round_straight(bound(x, torch.tensor([float(n)])))[:, 0].numpy()
    half, offset = (n - 1) * 1.001 / 2, 0.5 if n % 2 == 0 else 0.0
    want = np.round(np.tanh(x[:, 0].numpy().astype(np.float64) + np.arctanh(offset / half)) * half - offset)
    assert (got != want).mean() < 0.002  # a boundary may fall between float32 and float64
    assert sorted(set(got.tolist())) == list(range(-(n // 2), (n - 1) // 2 + 1))
    assert bound(torch.zeros(1, 1), torch.tensor([float(n)])).abs() < 1e-6, "nothing in, nothing out"


def test_the_straight_through_gradient_is_that_of_the_bound():
    levels = torch.tensor([8.0, 5.0])
    x = torch.randn(10, 2, requires_grad=True)
    straight = torch.autograd.grad((round_straight(bound(x, levels)) * torch.arange(20).view(10, 2)).sum(), x)[0]
    plain = torch.autograd.grad((bound(x, levels) * torch.arange(20).view(10, 2)).sum(), x)[0]
    torch.testing.assert_close(straight, plain)


def test_every_code_has_its_vector_and_every_vector_its_code():
    levels = [8, 6, 5]
    table = grid_of_levels(levels)
    assert table.shape == (240, 3) and len(table.unique(dim=0)) == 240 and table.min() == -1 and table.max() == 1
    for i in (0, 1, 7, 8, 47, 48, 239):
        digits = [i % 8, i // 8 % 6, i // 48]
        np.testing.assert_allclose(table[i], [(d - n // 2) / (n // 2) for d, n in zip(digits, levels, strict=True)], rtol=1e-6)
    model = FSQ(FSQConfig(image_size=16, grid=4, levels=levels, hidden=8, residual_blocks=0, residual_hidden=4))
    assert torch.equal(model.index(table * model.halves), torch.arange(240))
    codes = torch.arange(240).view(15, 4, 4)
    assert torch.equal(model.quantize(model.lookup(codes)), codes)
    assert model.quantize(torch.full((1, 48), 9.0))[0, 0, 0] == 239 and model.quantize(torch.full((1, 48), -9.0))[0, 0, 0] == 0


@pytest.mark.parametrize("levels", [[], [8, 2], [64, 64, 64]])
def test_levels_that_cannot_be_are_refused(levels):
    with pytest.raises(ValueError, match="FSQConfig"):
        FSQConfig(levels=levels)


def test_bumps_lie_where_linear_numbers_say():
    """Bump k of z is a Gaussian around (x, y) = A z + b, in a picture from -1 to 1: its mean place and spread say so, by row and column."""
    torch.manual_seed(0)
    decoder = KeypointDecoder(144, 4, 2)  # 48 x 48 cells
    with torch.no_grad():
        decoder.middles.weight.zero_()
        decoder.middles.bias.zero_()
        decoder.middles.weight[3, 0] = 0.5  # bump 3: x = z_0 / 2
        decoder.middles.weight[decoder.BUMPS + 3, 1] = -1.0  # and y = -z_1
        decoder.log_widths[3] = math.log(0.15)
        heat = decoder.heat(torch.tensor([[0.6, 0.2]]))[0, 3]
    line = decoder.line
    assert float((heat.sum(0) * line).sum() / heat.sum()) == pytest.approx(0.3, abs=1e-3)  # columns: x
    assert float((heat.sum(1) * line).sum() / heat.sum()) == pytest.approx(-0.2, abs=1e-3)  # rows: y
    assert float((heat.sum(0) * (line - 0.3).square()).sum() / heat.sum()) ** 0.5 == pytest.approx(0.15, rel=0.01)
    assert 0.99 < float(heat.max()) <= 1


def test_what_says_how_things_look_cannot_move_them():
    """With a modulation that only scales all features alike, another look gives the same picture, scaled: nothing is elsewhere."""
    torch.manual_seed(0)
    decoder = KeypointDecoder(24, 8, 3, placed=2)
    decoder.shapes.register_forward_hook(lambda *given: given[2].relu() + 0.1)  # so that the painter's ReLU is linear here
    with torch.no_grad():
        decoder.modulation.weight[: decoder.modulation.out_features // 2, 2] = 0.5
        decoder.paint[1].bias.zero_()
        plain, scaled = decoder(torch.tensor([[0.3, -0.2, 0.0], [0.3, -0.2, 2.0]]))
        moved = decoder(torch.tensor([[0.5, -0.2, 0.0]]))[0]
    torch.testing.assert_close(scaled, 2 * plain)
    assert (moved - plain).abs().max() > 1e-3
    model = CCVAE(CCVAEConfig(image_size=24, latents=2, contexts=3, channels=4, hidden=8, decoder="keypoints"))
    assert model.decoder.placed == 2, "z_t has the places"


def spots(places):
    """Pictures (n, 24, 24, 3) with a 5 x 5 bright spot around each (row, column)."""
    images = torch.zeros(len(places), 24, 24, 3, dtype=torch.uint8)
    for image, (r, c) in zip(images, places, strict=True):
        image[r - 2 : r + 3, c - 2 : c + 3] = 255
    return images


def test_an_encoder_of_keypoints_says_where_a_thing_is_before_any_training():
    """After `prepare` its two numbers, of mean 0 and variance 1, say a spot's row and column by a linear read-out; prepared again it stays."""
    torch.manual_seed(0)
    places = torch.randint(3, 21, (600, 2), generator=torch.Generator().manual_seed(1))
    model = VAE(VAEConfig(image_size=24, latents=2, channels=8, hidden=16, encoder="keypoints")).train()
    model.prepare(spots(places)[:400])
    with torch.no_grad():
        z = torch.cat([model.posterior(spots(places))[0], torch.ones(600, 1)], 1)
        assert z[:, :-1].mean(0).abs().max() < 1e-4 and (z[:, :-1].std(0, correction=0) - 1).abs().max() < 0.02
        found = z @ torch.linalg.lstsq(z[:400], places[:400].float()).solution
    left = (found - places)[400:].square().mean(0) / places[400:].float().var(0)
    assert left.max() < 0.2, left
    begun = model.encoder.direct.weight.clone()
    model.prepare(spots(places)[200:])
    assert torch.equal(model.encoder.direct.weight, begun)
    scene = CCVAE(CCVAEConfig(image_size=24, latents=2, contexts=2, channels=8, hidden=16, encoder="keypoints"))
    before = scene.encoder.direct.weight.clone()
    scene.prepare(spots(places)[:100], spots(places)[100:200])
    assert not torch.equal(scene.encoder.direct.weight, before)
    with pytest.raises(ValueError, match="CCVAE needs the first picture"):
        CCVAE(scene.config).prepare(spots(places)[:100])


def test_a_held_encoder_stays_and_the_decoder_learns():
    """During the share `hold` the encoder gets no gradient and a constant variance; after it, and in further training, it moves."""
    torch.manual_seed(0)
    images = spots(torch.randint(3, 21, (32, 2), generator=torch.Generator().manual_seed(1)))
    model = VAE(VAEConfig(image_size=24, latents=3, channels=4, hidden=8, encoder="keypoints", decoder="keypoints", hold=0.5)).train()

    def gradients():
        model.zero_grad(set_to_none=True)
        model.loss(images)[0].backward()
        return [any(p.grad is not None for p in part.parameters()) for part in (model.encoder, model.decoder)]

    model.progress = 0.49
    assert gradients() == [False, True]
    assert torch.equal(model.posterior(images)[1], torch.full((32, 3), -4.0))
    model.progress = 0.5
    assert gradients() == [True, True]
    model.progress, model.annealing = 0.0, False
    assert gradients() == [True, True]


def test_beta_goes_geometrically_and_stays():
    model = VAE(VAEConfig(image_size=12, latents=2, hidden=8, beta_start=0.5, beta=8.0, decoder="keypoints")).train()
    found = []
    for model.progress in (0.0, 0.35, 0.7, 1.0):
        found.append(model.beta())
    assert found == pytest.approx([0.5, 2.0, 8.0, 8.0])
    model.progress = 0.0
    assert model.eval().beta() == 8.0  # validation has one scale
    model.train().annealing = False
    assert model.beta() == 8.0


@pytest.mark.parametrize("setting, word", [({"decoder": "deconv"}, "conv or keypoints"), ({"encoder": "mlp"}, "unknown encoder"), ({"hold": 0.4}, "encoder=keypoints"), ({"hold": 1.0, "encoder": "keypoints"}, "below 1"), ({"beta_start": 1.0, "beta": 0.0}, "beta above 0"), ({"beta_start": -1.0}, "at least 0")])
def test_settings_of_decoder_and_annealing_are_checked(setting, word):
    for config in (VAEConfig, CCVAEConfig):
        with pytest.raises(ValueError, match=word):
            config(**setting)
