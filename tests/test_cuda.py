"""On a GPU: what is computed there is what the CPU computes, nothing is left on the CPU, and what was saved goes on exactly. Skipped where there is no GPU."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "agents"))
from agent_cases import ACTION, CASES, GOAL, GRID, NAMES, OBS, make, random_batch, random_snippet

from agents.graphed import GraphedUpdate
from agents.registry import AGENTS
from goals.lookup import CodebookLookup
from goals.relabel import HindsightSampler, MixedSampler, Mixture
from goals.replay import Replay
from goals.rewards import RewardConfig, make_reward
from imagoal.config import JobConfig
from imagoal.evaluation import seeded
from imagoal.goal_sources import Outcomes, goal_source
from imagoal.judging import sampled
from imagoal.learning import learn
from imagoal.loading import load_model
from imagoal.run import RunFolder
from vision.bigan import BiGANConfig
from vision.cbigan import CBiGANConfig
from vision.ccvae import CCVAEConfig
from vision.data import ImageData, JitteredPairs, first_rows
from vision.judge import bound, decode_all, encode_all
from vision.pixelcnn import PixelCNN, PixelCNNConfig
from vision.store import build, describe, save
from vision.train import fit
from vision.vae import VAEConfig
from vision.vqvae import VQVAEConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CUDA = torch.device("cuda")
SMALL_VQ = VQVAEConfig(codes=16, hidden=16, residual_blocks=1, residual_hidden=8, local=True, foreground_weight=2.0, ema=True, restart_dead=True, data_init=True)


@pytest.fixture(autouse=True)
def repeatable(monkeypatch):
    """Convolutions in float32, and the same each time."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def on_gpu(agent: Any) -> Any:
    """The same agent there."""
    twin = type(agent)(agent.config, OBS, GOAL, ACTION, GRID, CUDA)
    twin.restore(agent.checkpoint())
    return twin


def batch_for(agent: Any, seed: int = 0) -> Any:
    return random_snippet(agent.length, seed=seed) if agent.length else random_batch(seed=seed)


def there(batch: Any) -> Any:
    return type(batch)(*(column.to(CUDA) for column in batch))


def replay(episodes: int = 8, codes: int = 16) -> Replay:
    g = torch.Generator().manual_seed(episodes)
    replay = Replay(400, 16, 4, 5, CodebookLookup(torch.randn(codes, 3, generator=g).to(CUDA)), CUDA)
    for e in range(episodes):
        seen = torch.randint(codes, (13, 16), generator=g)
        replay.add_episode(seen, torch.randn(13, 4, generator=g), torch.rand(12, 5, generator=g).to(CUDA), goal=seen[e], scene=e % 2)
    return replay


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_an_update_is_what_it_is_on_the_cpu(name, options, monkeypatch):
    cpu = make(name, **options)
    gpu, noise = on_gpu(cpu), torch.Generator()
    monkeypatch.setattr(type(cpu), "noise_like", lambda self, like: torch.randn(like.shape, generator=noise).to(like.device))
    for seed in range(2):
        batch = batch_for(cpu, seed)
        noise.manual_seed(seed)
        expected = cpu.update(batch)
        noise.manual_seed(seed)
        found = gpu.update(there(batch))
        assert found.keys() == expected.keys() and all(value.device.type == "cuda" for value in found.values())
        for key, value in expected.items():
            torch.testing.assert_close(found[key].cpu(), value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    rate = cpu.config.learning_rate
    for (key, mine), other in zip(gpu.named_parameters(), cpu.parameters(), strict=True):  # Adam makes a whole step of a gradient of rounding
        assert (mine.cpu() - other).abs().mean() < 0.1 * rate, key


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_a_run_goes_on_exactly_from_its_checkpoint(name, options, tmp_path):
    agent = on_gpu(make(name, **options))
    for seed in range(3):
        agent.update(there(batch_for(agent, seed)))
    run, draws = RunFolder("pretrain", JobConfig(run=str(tmp_path / "run"))), seeded(3, device=CUDA)
    run.checkpoint("agent", agent.checkpoint(), {}, rng={"draws": draws})
    drawn = torch.randn(5, generator=draws, device=CUDA)
    again, same = on_gpu(make(name, seed=1, **options)), seeded(4, device=CUDA)
    saved = run.load_checkpoint("agent", rng={"draws": same})
    assert saved is not None
    again.restore(saved.tensors)
    assert torch.equal(torch.randn(5, generator=same, device=CUDA), drawn)
    for seed in (3, 4):
        for one in (agent, again):
            one.update(there(batch_for(agent, seed)))
    for key, value in agent.checkpoint().items():
        assert torch.equal(again.checkpoint()[key], value), key


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_updates_as_graphs_are_the_agents_own(name, options):
    """Noise and all, with a checkpoint put back in between."""
    eager, agent = (on_gpu(make(name, **options)) for _ in range(2))
    graphed = GraphedUpdate(agent)
    for seed in range(20):
        batch = there(batch_for(agent, seed))
        expected, found = eager.update(batch), graphed(batch)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-2, atol=1e-3, msg=lambda text, key=key, seed=seed: f"{key}, update {seed}: {text}")
        if seed == 9:
            agent.restore({key: value.cpu() for key, value in agent.checkpoint().items()})
    assert agent.step == eager.step and len(graphed.recorded) == (agent.rhythm if options.get("average_rate", 1) > 0.05 else 0)
    for (key, mine), other in zip(agent.named_parameters(), eager.parameters(), strict=True):
        assert (mine - other).abs().mean() < agent.config.learning_rate, key


def test_hindsight_and_mixed_precision_stay_on_the_gpu():
    offline, online, generator = replay(), replay(5), seeded(0, device=CUDA)
    reward: Any = make_reward(RewardConfig(lag=1), (3, 4, 4), offline, generator)
    first = HindsightSampler(offline, Mixture(original=0.2, future=0.2, next=0.2, random=0.2, similar=0.2), reward)
    second = HindsightSampler(online, Mixture(imagined=0.5, future=0.5, future_discount=0.9), reward, torch.randint(16, (2, 6, 16)))
    sampler = MixedSampler(first, second, 0.4)
    batch = sampler.sample(64, generator)
    assert all(column.device.type == "cuda" for column in batch)
    torch.testing.assert_close(batch.reward, reward(batch.next_obs[:, :48], batch.goal))
    again = Replay.restored({k: v.cpu() for k, v in online.state_dict().items()}, online.lookup, CUDA)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in online.state_dict().items())
    for name, encoder in (("bc", "attention"), ("awr", "conv"), ("iql", "mlp"), ("bcq", "difference")):
        config = make(name, encoder=encoder, average_rate=0.0 if name == "bcq" else 0.01).config
        agent = AGENTS[name][0](config, 52, 48, 5, (3, 4, 4), CUDA)
        metrics = learn(agent, sampler, 3, 32, generator, "bf16")
        assert all(bool(value.isfinite()) for value in metrics.values())
        action = agent.act(batch.obs, batch.goal, True, generator)
        assert action.shape == (64, 5) and action.device.type == "cuda"


IMAGES = np.random.default_rng(0).integers(0, 255, (24, 48, 48, 3), dtype=np.uint8)
FIRST = first_rows(np.array([0, 12]), np.array([12, 24]))


@pytest.mark.parametrize("config", [SMALL_VQ, VAEConfig(), CCVAEConfig(), BiGANConfig(), CBiGANConfig()], ids=lambda config: type(config).__name__)
def test_models_train_by_lightning_and_are_judged(config):
    torch.manual_seed(0)
    model, states, logs = build(config), [], []
    data = ImageData(IMAGES, FIRST)
    how: dict[str, Any] = {"batch_size": 8, "device": CUDA, "precision": "bf16-mixed", "validation": data, "validate_every": 2}
    fit(model, data, 4, checkpoint=lambda step, state: states.append(state), checkpoint_every=2, log=lambda step, values: logs.append(values), **how)
    assert logs and all(np.isfinite(list(values.values())).all() for values in logs)
    assert {p.device.type for p in model.parameters()} == {"cuda"} and all(x.device.type == "cpu" for x in states[0].values())
    again = build(config)
    assert fit(again, data, 4, resume=states[0], **how) == 4
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=1e-3, atol=5e-3)
    z = encode_all(model, IMAGES, IMAGES[FIRST])
    assert decode_all(model, z, IMAGES[FIRST]).shape == IMAGES.shape and np.isfinite(list(bound(model, IMAGES, IMAGES[FIRST]).values())).all()
    if config is not SMALL_VQ:
        assert sampled(model, 3, IMAGES[0], 0).shape == (3, 48, 48, 3)


def test_a_prior_trains_samples_and_is_found_by_its_model(tmp_path):
    torch.manual_seed(0)
    model = build(SMALL_VQ)
    model.prepare(torch.from_numpy(IMAGES))
    settings = PixelCNNConfig(layers=3, width=8, head=16, codes=16, context_blocks=1, attention=1, copy=True)
    prior, pairs = PixelCNN(settings), JitteredPairs(IMAGES, FIRST, model.to(CUDA), 0.1, np.arange(24))
    prior.set_codebook(model.codebook)
    fit(prior, pairs, 4, batch_size=4, device=CUDA, precision="bf16-mixed", gradient_clip=1.0, validation=pairs, validate_every=2)
    codes, context = pairs.batch(np.arange(6))
    uniforms = torch.rand(6, 144, device=CUDA)
    drawn = prior.sample_codes(context, uniforms)
    assert (drawn == prior.sample_codes_slow(context, uniforms)).float().mean() > 0.99
    likely = prior.log_prob(codes, context)
    cpu = PixelCNN(settings).eval()
    cpu.load_state_dict({key: value.cpu() for key, value in prior.state_dict().items()})
    torch.testing.assert_close(cpu.log_prob(codes.cpu(), context.cpu()), likely.cpu(), rtol=1e-3, atol=1e-2)
    (tmp_path / "config.yaml").write_text("job: train\n")
    save(model, tmp_path / "model")
    save(prior, tmp_path / "prior", {"model": describe(tmp_path / "model")["sha256"]})
    loaded = load_model(str(tmp_path), CUDA)
    assert sampled(loaded, 3, IMAGES[0], 0).shape == (3, 48, 48, 3)


def test_goals_of_other_scenes_come_from_the_gpus_generator():
    config: Any = SimpleNamespace(goal_source="other_scenes", goal_model="")
    source = goal_source(config, SimpleNamespace(eyes=SimpleNamespace(context_dim=0)), None, torch.randint(16, (30, 16), dtype=torch.int16), Outcomes(16, torch.int16, CUDA), None, None)  # type: ignore[arg-type]
    goals = source(SimpleNamespace(latents=torch.zeros(4, 48)), seeded(0, device=CUDA))  # type: ignore[arg-type]
    assert goals.shape == (4, 16) and goals.device.type == "cuda" and goals.dtype == torch.int16
