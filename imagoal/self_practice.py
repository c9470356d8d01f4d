"""The loop of `imagoal rig`: where goals come from, attempts, updates, and fine-tuning of the model with everything encoded anew."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.worlds import World
from goals.relabel import HindsightSampler
from goals.replay import Replay
from goals.rewards import Reward, make_reward, mean_precision
from goals.skew_fit import SkewFit, importance_log_prob
from imagoal.config import RigConfig
from imagoal.errors import explained
from imagoal.evaluation import seeded
from imagoal.exploration import noise_of
from imagoal.judging import contexts_at, pictures_at
from imagoal.learning import learn
from imagoal.rollout import Clock, Rollout, roll_out
from imagoal.run import Checkpoint, RunFolder
from imagoal.sight import Eyes, PixelSight, Sight, StateSight, to_tensor
from imagoal.trials import Acting, open_acting
from vision.data import ImageData
from vision.encoding import encode_dataset
from vision.images import to_float
from vision.judge import thin
from vision.likelihoods import standard_normal_log_prob
from vision.pictures import Pictures
from vision.train import fit


@dataclass
class Loop(Acting):
    """What practice works with."""

    replay: Replay
    sampler: HindsightSampler
    pool: Tensor  # (episodes, imagined, cells)
    skew: SkewFit | None  # weights of what was seen, where goals are drawn by them
    images: np.memmap[Any, np.dtype[np.uint8]] | None  # (rows, H, W, 3) beside the replay's rows, where the model is fine-tuned
    clock: Clock
    explored: int  # steps of exploration
    contexts: np.ndarray  # (rows of it,) the row of each one's context; later rows have the first of their episode

    @property
    def round_steps(self) -> int:
        """Steps of one round of attempts."""
        return self.config.parallel * self.horizon


def open_loop(config: RigConfig, run: RunFolder, world: World, seen: Pictures, model: Any, device: torch.device) -> Loop:
    """The agent, its replay with the exploration in it, and where goals come from."""
    acting = open_acting(config, world, model, device)
    sight, agent, horizon = acting.sight, acting.agent, acting.horizon
    rounds = count_rounds(config, horizon)
    attempts = rounds * config.parallel
    explored = len(seen.start)
    replay = Replay(len(seen) + attempts * (horizon + 1) + 1, sight.cells, 0, world.action_dim, lookup=sight.lookup, device=device)
    stored = encode_exploration(sight, seen)
    action = torch.from_numpy(np.load(seen.meta["action"], allow_pickle=False))
    number = torch.arange(explored)
    replay.add_episodes(stored, torch.zeros(len(stored), 0), action, torch.from_numpy(seen.start), torch.from_numpy(seen.end), scene=number, pool=number)
    if config.sight != "pixels":
        some = sight.latents(stored[:: max(1, len(stored) // 4096)].to(device))
        agent.fit_scaling(some, some)
    with explained("goals"):
        reward: Reward = reward_of(config, sight, replay, seen, seeded(config.seed, 22, device=device))
    pool = torch.zeros(explored + attempts, config.imagined, sight.cells, dtype=replay.dtype, device=device)
    with explained("goals"):
        sampler = HindsightSampler(replay, config.goals.mixture, reward, pool, config.goals.done_on_reach)
    images = None
    if keeps_images(config):
        path, shape = run.path / "images.npy", (replay.capacity, *seen.image.shape[1:])
        images = np.lib.format.open_memmap(path, "r+" if path.is_file() else "w+", np.uint8, shape)  # type: ignore[no-untyped-call]
        images[: len(seen)] = seen.image
    steps = explored * (len(seen) // explored - 1)
    loop = Loop(config, world, sight, agent, horizon, replay, sampler, pool, None, images, Clock(), steps, np.asarray(seen.first))
    generator = seeded(config.seed, 23, device=device)
    if config.goal_source == "skew_fit":
        loop.skew = skewed(loop, generator)
    for begin in range(0, explored, 512):  # exploration was for no goal: it is given some
        rows = seen.start[begin : begin + 512]
        first = replay.codes[torch.from_numpy(rows).to(device)]
        drawn = draw_goals(loop, np.array(seen.state[rows]), first, config.imagined + 1, generator)
        e = slice(begin, begin + len(rows))  # the first episodes of the replay, whose slots are their numbers
        pool[e], replay.episode_goal[e], replay.episode_has_goal[e] = drawn[:, 1:], drawn[:, 0], True
    return loop


def keeps_images(config: RigConfig) -> bool:
    """Whether pictures are kept beside the replay."""
    return config.finetune_every > 0 or config.goal_source == "skew_fit"


def reward_of(config: RigConfig, sight: Sight, replay: Replay, seen: Pictures, generator: torch.Generator) -> Reward:
    """The reward that the config names; what it needs of the data is taken from the exploration. The precision of a log probability is the mean one
    of the encoder, where the model has a posterior, else the inverse variance of the latents."""
    precision, decode = None, None
    if isinstance(sight, Eyes):
        model = sight.model

        def decode(z: Tensor) -> Tensor:
            return model.decode(z)  # type: ignore[no-any-return]

        if config.goals.reward.kind == "log_prob" and hasattr(model, "posterior"):
            rows = thin(np.arange(len(seen)), 1024)
            with torch.no_grad():
                images, first = (to_tensor(at(seen, rows), sight.device) for at in (pictures_at, contexts_at))
                found = mean_precision(model.posterior(images, first)[1])
            precision = torch.cat([found, found.new_zeros(sight.context_dim)])  # the scene's numbers are equal in an episode
    return make_reward(config.goals.reward, None, replay, generator, precision=precision, decode=decode, pictures=isinstance(sight, PixelSight))


def count_rounds(config: RigConfig, horizon: int) -> int:
    """Rounds of attempts that make up the steps."""
    return max(1, -(-config.steps // (config.parallel * horizon)))


def encode_exploration(sight: Sight, seen: Pictures) -> Tensor:
    """Stored form of everything explored."""
    if isinstance(sight, Eyes):
        return torch.from_numpy(encode_dataset(sight.model, seen.image, seen.first))
    return sight.look(np.array(seen.image) if sight.draws else None, np.array(seen.state), None).cpu()


def source_of(config: RigConfig, sight: Sight) -> str:
    """What `goal_source=auto` means here."""
    if config.goal_source != "auto":
        return config.goal_source
    if isinstance(sight, Eyes) and hasattr(sight.model, "elbo"):
        return "fitted"
    return "world" if isinstance(sight, StateSight) else "replay"


def draw_goals(loop: Loop, starts: np.ndarray, stored: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k goals for each episode, stored (n, k, cells), of its own scene; see the key `goal_source`. `starts` are states, which only the oracle's
    source reads; `stored` (n, cells) is what was seen first."""
    sight, replay, n = loop.sight, loop.replay, len(stored)
    kind, free = source_of(loop.config, sight), sight.latent_dim - sight.context_dim
    if kind == "world":
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator, device=generator.device)))
        goals = np.stack([loop.world.family.sample_goal(start, rng) for start in np.repeat(starts, k, 0)])
        return sight.look(None, goals, None).view(n, k, -1)
    if kind == "fitted":
        found = gaussian_draws(replay.codes[: len(loop.contexts), :free], n * k, generator)
        found = torch.cat([found, found.new_zeros(n * k, sight.context_dim)], 1)
    elif kind == "prior":
        if sight.context_dim:  # z_t of the prior N(0, I)
            found = torch.randn(n * k, sight.latent_dim, generator=generator, device=sight.device)
        else:
            assert isinstance(sight, Eyes)
            found = sight.model.sample(n * k, generator=generator)
    elif kind == "skew_fit":
        assert loop.skew is not None
        found = replay.codes[loop.skew.rows(n * k, generator)]
    else:
        found = replay.codes[replay.rows_of_scene(None, n * k, generator)]
    found = found.view(n, k, -1).clone()
    found[..., free:] = stored[:, None, free:]  # the scene's own z_c
    return found


def gaussian_draws(data: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n draws (n, d) of the Gaussian with the mean and the covariance of the rows of data (m, d)."""
    data = data.double()
    mean, spread = data.mean(0), torch.linalg.eigh(torch.cov(data.T).reshape(data.shape[1], -1))
    root = spread.eigenvectors * spread.eigenvalues.clamp_min(0).sqrt()
    noise = torch.randn(n, data.shape[1], generator=generator, device=data.device, dtype=torch.float64)
    return (mean + noise @ root.T).float()


@torch.no_grad()
def skewed(loop: Loop, generator: torch.Generator, most: int = 2048, samples: int = 8) -> SkewFit:
    """Weights of rows of the replay by how rare the model finds their pictures (Skew-Fit, eq. 5), for at most `most` rows drawn at random."""
    sight, replay = loop.sight, loop.replay
    assert isinstance(sight, Eyes) and loop.images is not None
    rows = replay.rows_of_scene(None, most, generator).unique()
    parts, contexts = [], context_rows(loop)
    for some in rows.split(256):
        images = torch.from_numpy(np.array(loop.images[some.cpu().numpy()])).to(sight.device)
        first = torch.from_numpy(np.array(loop.images[contexts[some.cpu().numpy()]])).to(sight.device)
        model = sight.model
        mean, log_var = model.posterior(images, first)
        scene = replay.codes[some][:, mean.shape[1] :]
        noise = torch.randn(samples, *mean.shape, generator=generator, device=mean.device)
        z = mean + (0.5 * log_var).exp() * noise
        log_likelihood = torch.stack([-model.likelihood.nll(model.render(torch.cat([one, scene], 1), first), to_float(images)) for one in z])
        log_posterior = standard_normal_log_prob(noise.flatten(0, 1)).view(samples, -1) - 0.5 * log_var.sum(1)
        parts.append(importance_log_prob(log_likelihood, standard_normal_log_prob(z.flatten(0, 1)).view(samples, -1), log_posterior))
    return SkewFit(torch.cat(parts), loop.config.skew, rows)


def attempt(loop: Loop, r: int, keep_images: bool) -> tuple[Rollout, Tensor, np.ndarray | None]:
    """One round of attempts, put into the replay; with its goals (n, cells) and first pictures."""
    config, sight, n = loop.config, loop.sight, loop.config.parallel
    seeds = np.random.SeedSequence([config.seed, 24, r]).generate_state(n) % 1_000_000
    starts, _ = loop.world.sample(seeds)
    generator = seeded(config.seed, 25, r, device=sight.device)
    first = loop.world.picture(starts) if sight.draws else None
    stored = sight.look(first, starts, first)
    drawn = draw_goals(loop, starts, stored, config.imagined + 1, generator).to(loop.replay.dtype)
    goal = drawn[:, 0]
    loop.agent.eval()
    rollout = roll_out(loop.world, loop.agent, sight, starts, sight.latents(goal).clone(), loop.horizon, generator=generator,
                       keep_images=keep_images or loop.images is not None, noise=noise_of(config, n, sight.device), clock=loop.clock)  # fmt: skip
    loop.agent.train()
    for i in range(n):
        episode = loop.replay.next_episode
        loop.pool[episode] = drawn[i, 1:]
        loop.replay.add_episode(rollout.codes[i], rollout.proprio[i], rollout.action[i], goal=goal[i], scene=episode)
        if loop.images is not None and rollout.images is not None:
            loop.images[loop.replay.episode_rows(episode)] = rollout.images[i]
    return rollout, goal, first


def context_rows(loop: Loop) -> np.ndarray:
    """The row of the context of each row of the replay in use."""
    later = loop.replay.start[len(loop.contexts) : loop.replay.used_rows].cpu().numpy().astype(np.int64)
    return np.concatenate([loop.contexts, later])


def update(loop: Loop, r: int) -> dict[str, Tensor]:
    """The gradient updates of one round; the metrics of the last ones."""
    generator = seeded(loop.config.seed, 26, r, device=loop.sight.device)
    return learn(loop.agent, loop.sampler, round(loop.round_steps * loop.config.updates_per_step), loop.config.batch_size, generator, loop.config.precision)


def finetune(loop: Loop, r: int) -> None:
    """Go on fitting the model to everything seen, then encode that anew, goals' contexts with it: no replay of stale latents."""
    config, sight, replay = loop.config, loop.sight, loop.replay
    assert isinstance(sight, Eyes) and loop.images is not None
    seen = loop.images[: replay.used_rows]
    first = context_rows(loop)
    context = first if sight.model.needs_context else None
    sight.model.annealing = False  # beta is where it ended
    fit(sight.model, ImageData(seen, context), config.finetune_steps, batch_size=config.vision_batch_size,
        seed=int(np.random.SeedSequence([config.seed, 27, r]).generate_state(1)[0]), device=sight.device)  # fmt: skip
    sight.model.eval()
    latents = torch.from_numpy(encode_dataset(sight.model, seen, context)).to(replay.device)
    slots = replay.live_slots()
    goal = replay.episode_goal[slots].clone()
    if sight.context_dim:
        scene = latents[replay.episode_start[slots], -sight.context_dim :]
        goal[:, -sight.context_dim :] = scene
        loop.pool[replay.episode_pool[slots], :, -sight.context_dim :] = scene[:, None]
    replay.replace_latents(latents, goal)
    if loop.skew is not None:
        loop.skew = skewed(loop, seeded(config.seed, 28, r, device=sight.device))


def tensors(loop: Loop) -> dict[str, Tensor]:
    """Everything a checkpoint holds."""
    out = {f"agent.{k}": v for k, v in loop.agent.checkpoint().items()}
    out |= {f"replay.{k}": v for k, v in loop.replay.state_dict().items()} | {"pool": loop.pool}
    if loop.images is not None and isinstance(loop.sight, Eyes):
        out |= {f"model.{k}": v for k, v in loop.sight.model.state_dict().items()}
    return out


def restore(loop: Loop, saved: Checkpoint) -> None:
    """Back to a checkpoint."""
    loop.agent.restore(saved.part("agent"))
    loop.replay.load_state_dict(saved.part("replay"))
    loop.pool.copy_(saved.tensors["pool"])
    model = saved.part("model")
    if isinstance(loop.sight, Eyes) and model:
        loop.sight.model.load_state_dict(model)
