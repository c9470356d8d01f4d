"""Learning from numbers rather than pictures: Minari datasets of states, and the Gymnasium environments they are of.

An observation is [achieved goal | observation] and a goal the desired one; without goals it is the observation alone, and the goal has no numbers.
"""

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from agents.agent import Agent
from envs.copies import Copies
from envs.offline import Episode, Numbers, Rewards, open_minari, read_numbers, with_rewards
from goals.relabel import GoalsConfig, HindsightSampler, Mixture
from goals.replay import Replay
from goals.rewards import Reward, make_reward
from imagoal.compose import load as load_config
from imagoal.compose import name_of
from imagoal.config import PretrainConfig
from imagoal.errors import UserError, explained
from imagoal.evaluation import FIRST_SEED, seeded
from imagoal.loading import build_agent, pretrain_run
from imagoal.run import latest_checkpoint, read_config

SIDE_BY_SIDE = 20  # episodes of an evaluation run at once

@dataclass
class Widths:
    """How many numbers an observation, a goal (0: one task, without goals) and an action have."""

    observation: int
    goal: int
    action: int

    @classmethod
    def of(cls, source: Numbers | Copies) -> "Widths":
        """Of data, or of an environment."""
        if isinstance(source, Copies):
            return cls(source.observation_dim, source.goal_dim, source.action_dim)
        return cls(source.observation.shape[1], source.achieved.shape[1], source.action.shape[1])

    def __str__(self) -> str:
        return f"observations of {self.observation} numbers, goals of {self.goal}, actions of {self.action}"


# ---------------------------------------------------------------- opening
def open_data(config: PretrainConfig) -> tuple[Numbers | None, Any]:
    """The data, its rewards recomputed where that was asked for, and its environment's id or spec (None where it names none).

    Raises UserError for data that cannot be used.
    """
    if not config.data:
        return None, config.env
    with explained("data"):
        dataset = open_minari(config.data)
        data = read_numbers(dataset)
    if config.rewards or (config.reward_scale, config.reward_shift) != (1.0, 0.0):
        with explained("rewards"):
            data = with_rewards(data, rewards_of(config.rewards), config.reward_scale, config.reward_shift)
    return data, config.env or dataset.env_spec


def rewards_of(name: str) -> Rewards | None:
    """The function MODULE:FUNCTION; None for no name. Raises UserError where there is none."""
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"rewards={name}: {error}. Write MODULE:FUNCTION; it is called with observations (N, o), actions (N, a) and next observations (N, o).") from error


def open_copies(env: Any, n: int) -> Copies:
    """Copies of an environment. Raises UserError where it cannot be made."""
    if ":" not in (name := env if isinstance(env, str) else env.id):
        register(name)
    with explained("env"):
        try:
            return Copies(env, n)
        except ValueError as error:
            if importlib.util.find_spec("gymnasium_robotics"):
                raise
            raise ValueError(f"{error} (mazes, Fetch and hands come with: pip install 'imagoal[robotics]')") from error


def register(env: str) -> None:
    """Make the ids of packages known that have to be imported first."""
    if env not in gymnasium.registry and importlib.util.find_spec("gymnasium_robotics"):
        with contextlib.redirect_stderr(io.StringIO()):  # it advertises another of its versions
            gymnasium.register_envs(importlib.import_module("gymnasium_robotics"))


def fitting(found: Widths, expected: Widths, what: str, other: str) -> None:
    """Raises UserError where two widths differ."""
    if found != expected:
        raise UserError(f"{what} has {found}; {other} has {expected}. They are not of the same environment.")


# ---------------------------------------------------------------- learning
def numbers_replay(data: Numbers, widths: Widths, device: torch.device) -> Replay:
    """A replay of the data."""
    replay = Replay(len(data.observation), widths.goal, widths.observation, widths.action, device=device)
    add_episodes(replay, data.episodes())
    return replay


def add_episodes(replay: Replay, episodes: Iterable[Episode]) -> None:
    """Episodes as they were run."""
    for e in episodes:
        achieved, observation, action, reward, goal = (torch.from_numpy(x) for x in (e.achieved, e.observation, e.action, e.reward, e.goal))
        replay.add_episode(achieved, observation, action, goal=goal if len(goal) else None, reward=reward, terminal=e.terminal)


def episodes_of(replay: Replay) -> list[Episode]:
    """Every live episode, oldest first."""
    out = []
    for number in range(replay.oldest, replay.next_episode):
        rows = replay.episode_rows(number)
        slot = number % len(replay.episode_start)
        steps = slice(rows.start, rows.stop - 1)
        achieved, observation, action, reward = (x.cpu().numpy() for x in (replay.codes[rows], replay.proprio[rows], replay.action[steps], replay.reward[steps]))
        out.append(Episode(achieved=achieved, observation=observation, action=action, reward=reward, goal=replay.episode_goal[slot].cpu().numpy(),
                           terminal=bool(replay.terminal[rows.stop - 2])))  # fmt: skip
    return out


def reward_of(goals: GoalsConfig, replay: Replay, copies: Copies | None, seed: int) -> Reward | None:
    """What relabeled transitions are worth; None for stored rewards, which a task without goals always has. Raises UserError where it cannot be had."""
    if not replay.latent_dim or goals.reward.kind == "stored":
        return None
    with explained("goals.reward"):
        return make_reward(goals.reward, None, replay, seeded(seed, 1, device=replay.device), compute=copies.rewards if copies else None)


def sampler_of(goals: GoalsConfig, replay: Replay, reward: Reward | None) -> HindsightSampler:
    """Batches of a replay. Raises UserError for goals that do not fit."""
    if not replay.latent_dim:
        return HindsightSampler(replay, Mixture(original=1.0, future=0.0), None)
    with explained("goals"):
        return HindsightSampler(replay, goals.mixture, reward, None, goals.done_on_reach)


def fresh_agent(config: PretrainConfig, widths: Widths, device: torch.device) -> Agent:
    """An agent that has learned nothing. Raises UserError for settings that do not fit."""
    torch.manual_seed(config.seed)
    with explained("agent"):
        return build_agent(name_of("agent", config.agent), config.agent, widths.goal + widths.observation, widths.goal, widths.action, None, device)


@dataclass
class Policy:
    """A trained agent of numbers, and what it came from."""

    pretrain: PretrainConfig
    agent: Agent
    env: Any
    copies: Copies
    widths: Widths
    data: Numbers | None


def of_numbers(run: str) -> bool:
    """Whether the policy of a pretrain or practice run is of numbers."""
    return not read_config(pretrain_run(run))["model"]


def load_policy(run: str, copies: int, device: torch.device) -> Policy:
    """The agent of a pretrain run, or of practice online, with copies of its environment.

    Raises UserError for a policy of pictures, where no environment is named, or where environment, data and policy do not fit.
    """
    root = pretrain_run(run)
    if not of_numbers(root):
        raise UserError(f"online=true: {run} sees pictures through a latent model; it practises in a scene: leave online=true out.")
    pretrain: PretrainConfig = load_config("pretrain", [f"run={root}", "resume=true"])
    data, env = open_data(pretrain)
    if not env:
        raise UserError(f"{root} names no environment, and neither does its dataset. Pretrain with env=ID.")
    opened = open_copies(env, copies)
    saved, widths = latest_checkpoint(run, "policy"), Widths(**latest_checkpoint(root, "policy").state["widths"])
    fitting(Widths.of(opened), widths, f"env={pretrain.env or 'of the dataset'}", f"the policy of {run}")
    if data is not None:
        fitting(Widths.of(data), widths, f"data={pretrain.data}", f"the policy of {run}")
    agent = fresh_agent(pretrain, widths, device)
    with explained(f"policy {run}"):
        agent.restore(saved.tensors)
    return Policy(pretrain, agent, env, opened, widths, data)


# ---------------------------------------------------------------- acting
def actor(agent: Agent, device: torch.device, explore: bool, generator: torch.Generator) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """The agent as `Copies.run` wants it."""

    def act(observation: np.ndarray, achieved: np.ndarray, goal: np.ndarray) -> np.ndarray:
        seen = torch.from_numpy(np.concatenate([achieved, observation], 1)).to(device)
        return agent.act(seen, torch.from_numpy(goal).to(device), explore, generator).cpu().numpy()

    return act


@dataclass
class Judged:
    """What an agent did in some episodes, by its best guesses or by samples of its policy: returns (n,), success at the last step and at any (n,), NaN
    where the environment does not say."""

    returns: np.ndarray
    success: np.ndarray
    reached: np.ndarray

    def numbers(self, suffix: str = "") -> dict[str, float]:
        """Means, of what there is."""
        out = {f"return{suffix}": float(self.returns.mean())}
        if not np.isnan(self.success).any():
            out |= {f"success{suffix}": float(self.success.mean()), f"reached{suffix}": float(self.reached.mean())}
        return out


def judge(agent: Agent, copies: Copies, episodes: int, horizon: int, explore: bool, seed: int) -> Judged:
    """Episodes of the same seeds, which learning never uses; `horizon` steps each (0: the environment's own)."""
    agent.eval()
    device = next(agent.parameters()).device
    done, success = copies.run(actor(agent, device, explore, seeded(seed, 15, device=device)), range(FIRST_SEED, FIRST_SEED + episodes), horizon)
    agent.train()
    return Judged(np.array([e.reward.sum() for e in done]), success[:, 0], success[:, 1])


def evaluation(agent: Agent, copies: Copies, episodes: int, horizon: int, seed: int) -> dict[str, float]:
    """Mean `return`, and where the environment says it `success` (at the last step) and `reached` (at any), of the policy's best guesses; the same of samples
    of it, with `_stochastic`."""
    return judge(agent, copies, episodes, horizon, False, seed).numbers() | judge(agent, copies, episodes, horizon, True, seed).numbers("_stochastic")


def within_clip(config: PretrainConfig, sampler: HindsightSampler) -> None:
    """Raises UserError where the agent clamps its values to what rewards in [-1, 0] add up to, and rewards are not."""
    clamps = [name for name in ("target_clip", "q_clamp") if getattr(config.agent, name, False)]
    if not clamps:
        return
    found = sampler.sample(4096, seeded(config.seed, 5, device=sampler.replay.device)).reward
    low, high = float(found.min()), float(found.max())
    if low < -1 or high > 0:
        raise UserError(f"{' and '.join(f'agent.{name}=true' for name in clamps)} clamp values for rewards between -1 and 0, and these lie between {low:.3g} and {high:.3g}:"
                        f" add {' '.join(f'agent.{name}=false' for name in clamps)}, or change the rewards with reward_scale= and reward_shift=.")  # fmt: skip


def enough(transitions: int, batch: int, what: str) -> None:
    """Raises UserError for fewer transitions than a batch has."""
    if transitions < batch:
        raise UserError(f"{what} has {transitions} transitions, fewer than one batch of {batch}. Collect more, or use batch_size={max(1, transitions // 2)}.")

