"""Our agents and hindsight sampling beside other libraries', in one run: `python -m benchmarks.bench --peers`, with what benchmarks/peers.txt names installed.

The same sizes for all: observation and goal together 1,440 numbers, actions of 5, two hidden layers of 256, twin critics without LayerNorm; batches of 256 and 1,024, drawing them included.
Ours relabels half the goals of each batch in hindsight and decodes codes; the agents of the others are given observation and goal as one vector, without hindsight.

Each is measured as its users run it. Ours keeps the memory it frees (`imagoal.memory`), as the command line does; the others run in a process of their own, with
the C library's usual settings, under which arrays of a batch of images are given back to the system and asked for again at every call. What that alone is worth to
stable-baselines3's buffer the variant `stable_baselines3_kept` says: it in a process of its own that keeps its memory as ours does. Its samples are measured one by
one; ours are drawn as `learn` draws them, several at once where they are small, and all of them counted.
"""

import contextlib
import importlib.util
import io
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.registry import AGENTS
from benchmarks.cases import Case, Ratio, rate
from goals.lookup import CodebookLookup
from goals.relabel import HindsightSampler, Mixture
from goals.replay import Replay
from goals.rewards import SparseReward
from imagoal.compose import load
from imagoal.memory import keep_freed_memory

ROOT = Path(__file__).resolve().parent.parent
CODES, GRID, CODE_DIM, ACTION, HIDDEN = 512, 12, 5, 5, 256  # latents of 12 x 12 codes of 5 numbers
LATENT = GRID**2 * CODE_DIM
WIDTHS = {"states_720": (0, LATENT), "states_28": (25, 3)}  # observation beside the goal's own numbers, and those: wide, and as Fetch has them
EPISODES, STEPS = 200, 50
SIZES = (256, 1024)
PEERS = {"d3rlpy": ("iql", "awac"), "torchrl": ("iql",), "corl_style": ("iql", "awac"), "stable_baselines3": ()}
RATIOS = (
    *(
        Ratio(f"peers.{name}.updates_over_{peer}.batch_{size}", f"peers.{name}.updates_per_s.batch_{size}", variant, peer)
        for variant in ("imagoal", "imagoal_bf16")
        for peer, names in PEERS.items()
        for name in names
        for size in SIZES
    ),
    *(
        Ratio(f"peers.hindsight_over_{peer}.{what}", f"peers.hindsight.batches_per_s.{what}.batch_1024", "imagoal", peer)
        for peer in ("stable_baselines3", "stable_baselines3_kept")
        for what in (*WIDTHS, "images")
    ),
)  # fmt: skip


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


# ---------------------------------------------------------------- ours
def our_sampler(what: str, device: str = "cpu") -> HindsightSampler:
    """Hindsight over random episodes, of states or of images as codes that a lookup turns into latents: half original goals, half future."""
    generator = torch.Generator().manual_seed(0)
    codes = what == "images"
    lookup = CodebookLookup(torch.randn(CODES, CODE_DIM, generator=generator).to(device)) if codes else None
    beside, goal = WIDTHS.get(what, (0, GRID**2))
    replay = Replay(EPISODES * (STEPS + 1), goal, beside, ACTION, lookup, device)
    for _ in range(EPISODES):
        shape = (STEPS + 1, replay.cells)
        seen = torch.randint(CODES, shape, generator=generator) if codes else torch.randn(shape, generator=generator)
        proprio = torch.randn(STEPS + 1, replay.proprio_dim, generator=generator)
        replay.add_episode(seen, proprio, torch.rand(STEPS, ACTION, generator=generator) * 2 - 1, goal=seen[-1])
    return HindsightSampler(replay, Mixture(original=0.5, future=0.5), SparseReward(1.0))


def our_agent(name: str, device: str = "cpu") -> Any:
    """Our agent at the sizes of this comparison."""
    config = load("pretrain", [f"agent={name}", "agent.policy_layers=2", "agent.layer_norm=false"]).agent
    return cast(Any, AGENTS[name][0])(config, LATENT, LATENT, ACTION, device=device)


def our_draws(what: str, size: int) -> tuple[int, Callable[[], object]]:
    """How many batches a call draws, and the call."""
    sampler, generator = our_sampler(what), torch.Generator().manual_seed(0)
    count = sampler.at_once(size)
    return count, lambda: deque(sampler.draws(count, size, 0, generator), maxlen=0)


def ours(name: str, size: int, precision: torch.dtype) -> Callable[[], object]:
    """One draw and update of our agent."""
    agent = our_agent(name)
    sampler, generator = our_sampler("images"), torch.Generator().manual_seed(0)

    def step() -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32, cache_enabled=False):  # as `imagoal.learning.learn`
            agent.update(sampler.draw(size, agent.length, generator))

    return step


# ---------------------------------------------------------------- a single file of plain PyTorch, as CORL's are written
def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))


def corl_style(name: str, size: int) -> Callable[[], object]:
    """IQL or AWAC with modules, optimisers and target updates one by one, on tensors that rows are drawn from."""
    rows, wide = EPISODES * STEPS, 2 * LATENT
    data = SimpleNamespace(obs=torch.randn(rows, wide), action=torch.rand(rows, ACTION) * 2 - 1, reward=-torch.ones(rows), next_obs=torch.randn(rows, wide), done=torch.zeros(rows))
    rng = np.random.default_rng(0)
    critics = [perceptron(wide + ACTION, 1) for _ in range(2)]
    targets = [perceptron(wide + ACTION, 1).requires_grad_(False) for _ in range(2)]
    value, actor, log_std = perceptron(wide, 1), perceptron(wide, ACTION), nn.Parameter(torch.zeros(ACTION))
    adam = {
        "q": torch.optim.Adam([p for q in critics for p in q.parameters()], lr=3e-4),
        "v": torch.optim.Adam(value.parameters(), lr=3e-4),
        "actor": torch.optim.Adam([*actor.parameters(), log_std], lr=3e-4),
    }

    def descend(which: str, loss: Tensor) -> None:
        adam[which].zero_grad()
        loss.backward()
        adam[which].step()

    def q_of(networks: list[nn.Sequential], obs: Tensor, action: Tensor) -> list[Tensor]:
        return [q(torch.cat([obs, action], 1)).squeeze(1) for q in networks]

    def log_prob(obs: Tensor, action: Tensor) -> Tensor:
        return torch.distributions.Normal(torch.tanh(actor(obs)), log_std.clamp(-5, 2).exp()).log_prob(action).sum(1)

    def sampled(obs: Tensor) -> Tensor:
        return (torch.tanh(actor(obs)) + log_std.exp() * torch.randn(len(obs), ACTION)).clamp(-1, 1)

    def step() -> None:
        at = rng.integers(0, rows, size)
        obs, action, reward, next_obs, done = data.obs[at], data.action[at], data.reward[at], data.next_obs[at], data.done[at]
        if name == "iql":
            with torch.no_grad():
                target_q, next_v = torch.min(*q_of(targets, obs, action)), value(next_obs).squeeze(1)
            advantage = target_q - value(obs).squeeze(1)
            descend("v", ((0.7 - (advantage < 0).float()).abs() * advantage**2).mean())
            aim, weight = reward + 0.99 * (1 - done) * next_v, (3.0 * advantage.detach()).exp().clamp(max=100)
        else:
            with torch.no_grad():
                aim = reward + 0.99 * (1 - done) * torch.min(*q_of(targets, next_obs, sampled(next_obs)))
                advantage = torch.min(*q_of(critics, obs, action)) - torch.min(*q_of(critics, obs, sampled(obs)))
                weight = (advantage / 0.3).exp().clamp(max=100)
        loss = torch.stack([F.mse_loss(q, aim) for q in q_of(critics, obs, action)]).sum()
        descend("q", loss)
        descend("actor", -(weight * log_prob(obs, action)).mean())
        with torch.no_grad():
            for target, q in zip(targets, critics, strict=True):
                for slow, fast in zip(target.parameters(), q.parameters(), strict=True):
                    slow.data.copy_(0.005 * fast.data + 0.995 * slow.data)
        loss.item()

    return step


# ---------------------------------------------------------------- libraries
def d3rlpy(name: str, size: int) -> Callable[[], object]:
    """Its own sampling and update."""
    import d3rlpy as library
    from d3rlpy.dataset import MDPDataset
    from d3rlpy.models.encoders import VectorEncoderFactory

    rows = EPISODES * STEPS
    rng = np.random.default_rng(0)
    ends = (np.arange(rows) % STEPS == STEPS - 1).astype(np.float32)
    with contextlib.redirect_stdout(io.StringIO()):  # it says what shapes it found
        data = MDPDataset(rng.standard_normal((rows, 2 * LATENT), np.float32), rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32), -np.ones(rows, np.float32), np.zeros(rows, np.float32), ends)
    encoder = VectorEncoderFactory(hidden_units=[HIDDEN, HIDDEN])
    factories = {k: encoder for k in ("actor_encoder_factory", "critic_encoder_factory", *(["value_encoder_factory"] if name == "iql" else []))}
    config: Any = {"iql": library.algos.IQLConfig, "awac": library.algos.AWACConfig}[name]
    with contextlib.redirect_stdout(io.StringIO()):
        agent = config(batch_size=size, **factories).create(device="cpu:0")
        agent.build_with_dataset(data)
    return lambda: agent.update(data.sample_transition_batch(size))


def torchrl(name: str, size: int) -> Callable[[], object]:
    """Its replay buffer, loss module, target updater, and Adam."""
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.modules.tensordict_module.common import SafeModule
    from torchrl.objectives import SoftUpdate
    from torchrl.objectives.iql import IQLLoss

    class Q(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = perceptron(2 * LATENT + ACTION, 1)

        def forward(self, action: Tensor, observation: Tensor) -> Tensor:
            return self.net(torch.cat([observation, action], -1))  # type: ignore[no-any-return]

    assert name == "iql"
    rows = EPISODES * STEPS
    storage = TensorDictReplayBuffer(storage=LazyTensorStorage(rows), batch_size=size)
    done = torch.zeros(rows, 1, dtype=torch.bool)
    following = {"observation": torch.randn(rows, 2 * LATENT), "reward": -torch.ones(rows, 1), "done": done, "terminated": done}
    storage.extend(TensorDict({"observation": torch.randn(rows, 2 * LATENT), "action": torch.rand(rows, ACTION) * 1.98 - 0.99, "next": TensorDict(following, [rows])}, [rows]))
    net = nn.Sequential(perceptron(2 * LATENT, 2 * ACTION), NormalParamExtractor())
    actor = ProbabilisticActor(SafeModule(net, in_keys=["observation"], out_keys=["loc", "scale"]), in_keys=["loc", "scale"], distribution_class=TanhNormal, return_log_prob=False)
    value = ValueOperator(perceptron(2 * LATENT, 1), in_keys=["observation"])
    loss = IQLLoss(actor, ValueOperator(Q(), in_keys=["action", "observation"]), value, num_qvalue_nets=2, expectile=0.7, temperature=3.0)
    loss.make_value_estimator(gamma=0.99)
    target, adam = SoftUpdate(loss, tau=0.005), torch.optim.Adam(loss.parameters(), lr=3e-4)

    def step() -> None:
        found = loss(storage.sample())
        adam.zero_grad()
        (found["loss_actor"] + found["loss_qvalue"] + found["loss_value"]).backward()
        adam.step()
        target.step()

    return step


class Goals(gymnasium.Env[Any, Any]):
    """A goal environment that only says how its achieved goals are rewarded. Args: spaces of what is seen and of goals."""

    def __init__(self, look: gymnasium.spaces.Box, goal: gymnasium.spaces.Box) -> None:
        self.observation_space = gymnasium.spaces.Dict({"observation": look, "achieved_goal": goal, "desired_goal": goal})
        self.action_space = gymnasium.spaces.Box(-1, 1, (ACTION,), np.float32)

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        """Sparse, of all at once."""
        difference = (achieved.astype(np.float32) - desired).reshape(len(achieved), -1)
        return (np.linalg.norm(difference, axis=1) <= 1.0).astype(np.float32) - 1.0


def stable_baselines3(what: str, size: int) -> Callable[[], object]:
    """Its HerReplayBuffer: states, or pictures of 48 x 48; as many transitions as ours (of pictures a fifth, for they take much memory)."""
    from stable_baselines3.common.vec_env import DummyVecEnv
    from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

    box = gymnasium.spaces.Box
    images, picture = what == "images", box(0, 255, (3, 48, 48), np.uint8)
    beside, wide = WIDTHS.get(what, (0, 0))
    look, goal = (picture, picture) if images else (box(-np.inf, np.inf, (n,), np.float32) for n in (beside or wide, wide))
    env = DummyVecEnv([lambda: Goals(look, goal)])
    episodes = EPISODES // 5 if images else EPISODES
    buffer = HerReplayBuffer(episodes * STEPS, env.observation_space, env.action_space, env, n_sampled_goal=1)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)

    def seen() -> dict[str, np.ndarray]:
        def drawn(space: gymnasium.spaces.Box) -> np.ndarray:
            return rng.integers(0, 256, (1, *space.shape), np.uint8) if images else rng.standard_normal((1, *space.shape)).astype(np.float32)

        return {"observation": drawn(look), "achieved_goal": drawn(goal), "desired_goal": drawn(goal)}

    for _ in range(episodes):
        for t in range(STEPS):
            action = rng.uniform(-1, 1, (1, ACTION)).astype(np.float32)
            buffer.add(seen(), seen(), action, np.array([-1.0]), np.array([t == STEPS - 1]), [{}])
    return lambda: buffer.sample(size)


MAKERS: dict[str, Callable[[str, int], Callable[[], object]]] = {"d3rlpy": d3rlpy, "torchrl": torchrl, "corl_style": corl_style, "stable_baselines3": stable_baselines3}


# ---------------------------------------------------------------- side by side
def apart(peer: str, name: str, size: int, kept: bool = False) -> Callable[[float], float]:
    """What `rate` gives, of another library in a new process. Args: kept: let that process keep the memory it frees."""

    def measured(seconds: float) -> float:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers", peer, name, str(size), str(seconds), str(torch.get_num_threads()), *(["kept"] if kept else [])]
        return float(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])

    return measured


def main(peer: str, name: str, size: str, seconds: str, threads: str, *kept: str) -> None:
    """The other process: prints calls per second."""
    if kept:
        keep_freed_memory()
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # of the libraries
    print(rate(1, MAKERS[peer](name, int(size)))(float(seconds)))


def cases(quick: bool = False) -> Iterator[Case]:
    """Every case that what is installed allows."""
    torch.manual_seed(0)
    bf16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    for name in ("iql", "awac"):
        for size in SIZES:
            metric = f"peers.{name}.updates_per_s.batch_{size}"
            yield Case(metric, "updates/s", rate(1, ours(name, size, torch.float32)))
            if bf16:  # elsewhere it is emulated
                yield Case(metric, "updates/s", rate(1, ours(name, size, torch.bfloat16)), "imagoal_bf16")
            for peer, names in PEERS.items():
                if name in names and (peer == "corl_style" or installed(peer)):
                    yield Case(metric, "updates/s", apart(peer, name, size), peer)
    for what in (*WIDTHS, "images"):
        metric = f"peers.hindsight.batches_per_s.{what}.batch_1024"
        yield Case(metric, "batches/s", rate(*our_draws(what, 1024)))
        if installed("stable_baselines3"):
            yield Case(metric, "batches/s", apart("stable_baselines3", what, 1024), "stable_baselines3")
            yield Case(metric, "batches/s", apart("stable_baselines3", what, 1024, kept=True), "stable_baselines3_kept")


if __name__ == "__main__":
    main(*sys.argv[1:])
