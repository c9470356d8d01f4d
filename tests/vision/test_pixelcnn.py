"""PixelCNN: nothing sees itself or the future, probabilities are probabilities, cached sampling is sampling."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from vision.attention import attend
from vision.code_context import VectorHead
from vision.pixelcnn import PixelCNN, PixelCNNConfig, draw
from vision.prior import AffordancePrior
from vision.protocols import LatentPrior
from vision.vqvae import VQVAE, VQVAEConfig


def small(grid: int = 5, codes: int = 6, kernel: int = 7, layers: int = 4, context_dim: int = 7, blocks: int = 0, attention: int = 0) -> PixelCNN:
    torch.manual_seed(0)
    config = PixelCNNConfig(
        layers=layers, width=8, head=16, codes=codes, grid=grid, context_dim=context_dim, kernel=kernel, context_blocks=blocks, attention=attention, copy=blocks > 0
    )
    model = PixelCNN(config).eval()
    for block in model.attention.blocks if model.attention else ():  # which begin as the identity
        for parameter in block.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    model.set_codebook(torch.randn(codes, context_dim // grid**2))
    return model


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("blocks", [0, 2])
def test_a_cell_sees_every_cell_before_it_and_no_other(kernel, blocks):
    """Every cell has a code of its own, so that the gradient of a code's embedding is that of its cell."""
    model, g = small(codes=25, kernel=kernel, layers=6, blocks=blocks, context_dim=50).double(), 5
    for parameter in model.parameters():
        parameter.data.mul_(1.7)  # or far cells fade below what a double can tell
    logits = model.logits(torch.arange(25).view(1, g, g), torch.randn(1, 50, dtype=torch.float64))
    for i in range(g * g):
        (gradient,) = torch.autograd.grad(logits[0, i // g, i % g].square().sum(), model.embedding.weight, retain_graph=True)
        seen = gradient.abs().sum(1) > 0
        assert not seen[i:].any(), f"cell {i} sees itself or the future"
        assert seen[:i].all(), f"cell {i} is blind to {(~seen[:i]).nonzero().flatten().tolist()}"


@pytest.mark.parametrize("blocks", [0, 2])
def test_contexts_and_the_codebook_are_scaled_alike(blocks):
    model, codebook = small(blocks=blocks, context_dim=50), torch.randn(6, 2)
    scaled = PixelCNN(replace(model.config, context_scale=4.0)).eval()
    scaled.load_state_dict(model.state_dict())
    model.set_codebook(4 * codebook)
    scaled.set_codebook(codebook)
    codes, context = torch.randint(6, (2, 5, 5)), torch.randn(2, 50)
    torch.testing.assert_close(scaled.logits(codes, context), model.logits(codes, 4 * context))
    assert not torch.allclose(scaled.logits(codes, context), model.logits(codes, context))


def test_attention_sees_every_cell_before_and_all_of_the_context():
    """One layer of kernel 3 sees little; with attention every cell before is seen, none after, and what is far in the context."""
    model = small(codes=25, kernel=3, layers=1, blocks=1, context_dim=50, attention=1).double()
    context = torch.randn(1, 50, dtype=torch.float64, requires_grad=True)
    logits = model.logits(torch.arange(25).view(1, 5, 5), context)
    for i in range(25):
        embedded, seen = torch.autograd.grad(logits[0, i // 5, i % 5].square().sum(), (model.embedding.weight, context), retain_graph=True)
        before = embedded.abs().sum(1) > 0
        assert before[:i].all() and not before[i:].any()
        assert (seen.view(2, 25).abs().sum(0) > 0).all()


def test_attention_by_hand():
    """Two keys of which the query prefers the second by ln 3 after division by sqrt(4): weights 1/4 and 3/4; hidden, the first alone."""
    q, k = torch.tensor([[[2.0, 0, 0, 0]]]), torch.tensor([[[0.0, 0, 0, 0], [torch.log(torch.tensor(3.0)).item(), 0, 0, 0]]])
    v = torch.tensor([[[4.0, 0, 0, 0], [8.0, 0, 0, 0]]])
    assert attend(q, k, v)[0, 0, 0].item() == pytest.approx(0.25 * 4 + 0.75 * 8)
    assert attend(q, k, v, torch.tensor([[0.0, -torch.inf]]))[0, 0, 0].item() == pytest.approx(4)


def test_attention_needs_a_map_and_an_even_width():
    with pytest.raises(ValueError, match="need context_blocks"):
        small(attention=1)
    with pytest.raises(ValueError, match="need context_blocks"):
        PixelCNNConfig(copy=True)
    with pytest.raises(ValueError, match="width=7 even"):
        PixelCNNConfig(width=7, grid=4, context_dim=48, context_blocks=1, attention=1)


@pytest.mark.parametrize(("blocks", "attention"), [(0, 0), (2, 0), (1, 1)])
def test_probabilities_of_all_grids_sum_to_one(blocks, attention):
    model = small(grid=2, codes=3, context_dim=8, blocks=blocks, attention=attention).double()
    grids = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 2, 2)
    for context in torch.randn(2, 8, dtype=torch.float64):
        log_p = model.log_prob(grids, context.expand(len(grids), -1))
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_loss_is_the_mean_negative_log_probability_per_cell():
    model = small()
    codes, context = torch.randint(6, (3, 5, 5)), torch.randn(3, 7)
    loss, metrics = model.loss(codes, context)
    assert loss.item() == pytest.approx(-model.log_prob(codes, context).mean().item() / 25, rel=1e-5)
    assert metrics["loss"].dim() == 0 and not metrics["loss"].requires_grad
    right = model.logits(codes, context).argmax(-1) == codes
    assert metrics["accuracy"].item() == pytest.approx(right.float().mean().item())


def test_draw_is_the_inverse_of_the_cumulative_distribution():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).expand(6, -1)
    uniforms = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 0.9999])
    assert draw(logits, uniforms).tolist() == [0, 0, 1, 1, 2, 2]
    assert draw(logits, uniforms, temperature=1e-3).tolist() == [1] * 6
    certain = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    assert draw(certain, torch.zeros(1)).item() == 1, "u = 0 must not pick an impossible code"


@pytest.mark.parametrize(("grid", "kernel", "layers"), [(2, 3, 1), (5, 7, 4), (6, 5, 5), (4, 7, 3)])
def test_cached_sampling_equals_slow_sampling(grid, kernel, layers):
    model = small(grid=grid, kernel=kernel, layers=layers)
    for parameter in model.parameters():  # decisive logits: every code depends on what came before
        parameter.data.mul_(1.7)
    context, uniforms = torch.randn(16, 7), torch.rand(16, grid * grid)
    for temperature in (1.0, 0.5):
        fast = model.sample_codes(context, uniforms, temperature=temperature)
        assert torch.equal(fast, model.sample_codes_slow(context, uniforms, temperature=temperature))
    assert not torch.equal(fast, model.sample_codes(context, uniforms.flip(0)))


@pytest.mark.parametrize(("grid", "kernel", "layers", "blocks", "attention"), [(2, 3, 1, 1, 0), (4, 5, 3, 2, 0), (6, 5, 3, 3, 0), (4, 3, 1, 1, 1), (5, 5, 2, 1, 2)])
def test_cached_sampling_equals_slow_sampling_with_a_map_of_the_context(grid, kernel, layers, blocks, attention):
    model = small(grid=grid, kernel=kernel, layers=layers, blocks=blocks, context_dim=grid * grid * 3, attention=attention)
    for parameter in model.parameters():
        parameter.data.mul_(1.7)
    context, uniforms = torch.randn(16, grid * grid * 3), torch.rand(16, grid * grid)
    for temperature in (1.0, 0.5):
        fast = model.sample_codes(context, uniforms, temperature=temperature)
        assert torch.equal(fast, model.sample_codes_slow(context, uniforms, temperature=temperature))
    assert not torch.equal(fast, model.sample_codes(context.flip(0), uniforms)), "the context matters"
    several = model.sample_codes(context[:4], uniforms, each=4)
    assert torch.equal(several, model.sample_codes_slow(context[:4].repeat_interleave(4, 0), uniforms)), "what samples of a context share"


def test_a_map_tells_every_cell_what_the_context_has_nearby():
    model = small(grid=6, blocks=1, context_dim=6 * 6 * 3)
    context = torch.randn(1, 3, 6, 6)
    moved = context.clone()
    moved[:, :, 5, 1] += 1.0
    for a, b in zip(model._condition(context.flatten(1))[0], model._condition(moved.flatten(1))[0], strict=True):
        near = (a - b).abs().sum((0, 3))
        assert near[5, 1] > 0 and near[1, 5] == 0 and near[0, 0] == 0  # one block sees two cells far


def test_codes_of_equal_vectors_share_what_is_learned():
    """By vectors, two codes differ only in a bias: the logits of equal vectors are equal when the biases are."""
    model = small(grid=4, blocks=2, context_dim=48)
    model.vectors[3] = model.vectors[1]
    logits = model.logits(torch.randint(6, (2, 4, 4)), torch.randn(2, 48))
    assert torch.allclose(logits[..., 3], logits[..., 1]) and not torch.allclose(logits[..., 2], logits[..., 1])


def test_the_head_weighs_the_distance_to_the_vector_that_is_there():
    """logits = features(h) . features(e) / sqrt(hidden) + bias - softplus(stay) |e - x|^2 + copy [e is the code there], against NumPy."""
    torch.manual_seed(0)
    head, h, x, e = VectorHead(4, 8, 5, 3, copy=True), torch.randn(7, 4), torch.randn(7, 3), torch.randn(5, 3)
    head.bias.data.normal_()
    here = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    f, k = torch.relu(head.hidden(h)).detach().numpy(), head.features(e).detach().numpy()
    stay = np.log1p(np.exp(head.stay(torch.from_numpy(f)).detach().numpy()))
    distance = ((x.numpy()[:, None] - e.numpy()[None]) ** 2).sum(-1)
    expected = f @ k.T / np.sqrt(8) + head.bias.detach().numpy() - stay * distance
    expected += np.eye(5)[here.numpy()] * head.copy(torch.from_numpy(f)).detach().numpy()
    np.testing.assert_allclose(head(h, x, here, e, head.keys(e)).detach(), expected, rtol=1e-4, atol=1e-5)


def test_the_code_that_is_there_is_the_contexts_own():
    """Contexts made of code vectors: the nearest code is the one they were made of, in bfloat16 too."""
    model = small(grid=4, blocks=1, context_dim=48)
    model.set_codebook(torch.randn(6, 3) * 1e-2 + 1.0)
    codes = torch.randint(6, (2, 4, 4))
    cells = model._cells(model.vectors[codes].permute(0, 3, 1, 2).flatten(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model._nearest(cells), codes)


def test_a_prior_learns_to_leave_what_never_changes():
    """Of grids that are the context's own, whatever it is, little is left to be told after some steps, though the codes' vectors nearly agree."""
    torch.manual_seed(0)
    model = small(grid=4, blocks=1, context_dim=48)
    model.set_codebook(torch.randn(6, 3) * 0.03)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def grids(n):
        codes = torch.randint(6, (n, 4, 4))
        return codes, model.vectors[codes].permute(0, 3, 1, 2).flatten(1) / model.config.context_scale

    for _ in range(60):
        loss, _ = model.loss(*grids(32))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.loss(*grids(256))[0] < 0.05


def test_a_context_that_is_not_on_the_grid_has_no_map():
    with pytest.raises(ValueError, match="needs a context on the 4x4 grid"):
        small(grid=4, blocks=1, context_dim=47)


def test_samples_follow_the_model():
    model = small(grid=2, codes=3)
    for parameter in model.parameters():
        parameter.data.mul_(2)
    context = torch.randn(1, 7)
    generator = torch.Generator().manual_seed(0)
    codes = model.sample_codes(context.expand(20000, -1), generator=generator)
    grids = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 2, 2)
    p = model.log_prob(grids, context.expand(81, -1)).exp()
    index = (codes.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
    share = torch.bincount(index, minlength=81) / 20000
    assert (share - p).abs().max() < 0.02


def test_uniforms_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="uniforms must have shape"):
        small().sample_codes(torch.randn(2, 7), torch.rand(2, 24))


def test_prior_samples_latents_of_one_scene_or_many():
    vqvae = VQVAE(VQVAEConfig(image_size=16, grid=4, codes=6, code_dim=2, hidden=8, residual_hidden=4))
    pixelcnn = small(grid=4, context_dim=vqvae.latent_dim)
    prior = AffordancePrior(pixelcnn, vqvae, chunk=4)
    assert isinstance(prior, LatentPrior)
    contexts = torch.randn(10, vqvae.latent_dim)

    def sample(n, context):
        return prior.sample(n, context, generator=torch.Generator().manual_seed(1))

    z = sample(10, contexts)
    assert z.shape == (10, vqvae.latent_dim)
    assert torch.equal(vqvae.lookup(vqvae.quantize(z)), z), "a sample is a quantized latent"
    assert torch.equal(sample(10, contexts[0]), sample(10, contexts[:1].expand(10, -1)))
    for c in (2, 5):  # more of each than a chunk, and fewer
        assert torch.equal(sample(10, contexts[:c]), sample(10, contexts[:c].repeat_interleave(10 // c, 0))), "as many for each context, in order"
    codes = prior.sample_codes(10, contexts, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(prior.log_prob(z, contexts), pixelcnn.log_prob(codes, contexts))
    assert prior.temperature == 1 and AffordancePrior(pixelcnn, vqvae, temperature=0.5).temperature == 0.5
    with pytest.raises(ValueError, match="need a context of shape"):
        prior.sample(13, contexts)
    with pytest.raises(ValueError, match="does not fit"):
        AffordancePrior(small(grid=5), vqvae)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        PixelCNNConfig(kernel=4)
