"""What every agent shares: input scaling, visible gradient steps, its own noise, and exact checkpoints."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adam import adam

from agents.networks import Critic, GridShape, LeadingTrunk, SharedTrunk, Trunk, make_trunk
from agents.operations import polyak
from agents.policies import GaussianPolicy, Policy
from goals.batch import Batch, Snippet

Network = TypeVar("Network", bound=nn.Module)


class FusedAdam(torch.optim.Adam):
    """torch's Adam whose `move` is `step` without what surrounds it (hooks, profiling, loops), a third of its time with networks as small as ours."""

    @torch.no_grad()
    def move(self) -> None:
        """One step of every parameter, each of which has a gradient."""
        if len(self.state) < sum(len(group["params"]) for group in self.param_groups):
            self.step()  # the first makes the state
            return
        for group in self.param_groups:
            parameters = group["params"]
            columns = {key: [self.state[p][key] for p in parameters] for key in ("exp_avg", "exp_avg_sq", "step")}
            gradients, (beta1, beta2) = [p.grad for p in parameters], group["betas"]
            options = {key: group[key] for key in ("lr", "weight_decay", "eps", "maximize", "amsgrad")}
            adam(parameters, gradients, columns["exp_avg"], columns["exp_avg_sq"], [], columns["step"], fused=True, beta1=beta1, beta2=beta2, **options)


@dataclass(frozen=True)
class Card:
    """What tells an agent from the others: a row of docs/agents.md, which is made of these (seed 004's fig. 4 for the whole family)."""

    evaluates: str
    """whose Q or V is learned"""
    objective: str
    """of the policy"""
    behaviour: str
    """the model of the data's actions, if it has one"""
    constraint: str
    """what keeps the policy near the data"""
    source: str
    """paper and equations"""


@dataclass
class AgentConfig:
    """What every agent's hyper-parameters begin with."""

    learning_rate: float = 3e-4
    """of Adam, all networks"""
    hidden: int = 256
    """width of all layers"""
    policy_layers: int = 2
    """hidden layers of the policy"""
    encoder: str = "mlp"
    """mlp | difference (goal - latent, and the hand) | conv (spatial latents) | attention (places in them where goal and latent differ)"""
    channels: int = 32
    """of the conv and attention encoders' first layer"""
    max_grad_norm: float = 0.0
    """clip gradients to this norm; 0: not"""
    average_rate: float = 0.0
    """of a moving average of the policy's weights, which acts in its place; 0: the policy acts itself"""


@dataclass
class CriticConfig(AgentConfig):
    """What the hyper-parameters of agents with a Q function begin with."""

    gamma: float = 0.99
    """discount per step"""
    target_rate: float = 5e-3
    """of the moving average Q'"""
    target_clip: bool = True
    """clamp targets to [-1 / (1 - gamma), 0]: right for rewards in [-1, 0] only"""
    layers: int = 2
    """hidden layers of Q"""
    layer_norm: bool = True
    """LayerNorm in Q"""


class Agent(nn.Module):
    """Base of the agents. A subclass builds its networks in `build` and gives them optimisers in `optimise`, both called here.

    Args: config: its hyper-parameters, an `AgentConfig` or what has its fields; obs_dim, goal_dim, action_dim: widths;
    grid_shape: (c, h, w) of the latent, for the encoders that need one; device; reads: the networks see that many numbers of a latent, its first
    (0: all).
    Raises ValueError for an unknown encoder, or one that lacks a grid.
    """

    obs_scale: Tensor
    obs_shift: Tensor
    goal_scale: Tensor
    goal_shift: Tensor
    noise_seed: Tensor
    policy: Policy
    card: ClassVar[Card]
    length = 0  # transitions in a row that `update` wants as a Snippet; 0: loose ones, as a Batch
    rhythm = 1  # updates after which `update` does the same again

    def __init__(
        self,
        config: Any,
        obs_dim: int,
        goal_dim: int,
        action_dim: int,
        grid_shape: GridShape | None = None,
        device: str | torch.device = "cpu",
        reads: int = 0,
    ):
        super().__init__()
        if not 0 <= reads <= goal_dim:
            raise ValueError(f"an agent cannot read {reads} numbers of a latent of {goal_dim}")
        self.config, self.grid_shape, self.max_grad_norm = config, grid_shape, config.max_grad_norm
        self.reads = reads if reads < goal_dim else 0
        self.obs_dim, self.goal_dim, self.action_dim = obs_dim, goal_dim, action_dim
        self.step = self.restores = 0  # updates done; times that `restore` gave the optimisers other tensors
        self.optimizers: dict[str, FusedAdam] = {}
        self.register_buffer("obs_scale", torch.ones(obs_dim))
        self.register_buffer("obs_shift", torch.zeros(obs_dim))
        self.register_buffer("goal_scale", torch.ones(goal_dim))
        self.register_buffer("goal_shift", torch.zeros(goal_dim))
        self.register_buffer("noise_seed", torch.randint(2**31, ()))
        self._generator: torch.Generator | None = None
        self.shared_trunk: SharedTrunk | None = None
        self.build()
        self.average: Policy | None = None
        self.average_rate = config.average_rate  # practice may have another
        if config.average_rate > 0.0:
            policy = cast(Any, self.policy)
            if not any(p.requires_grad for p in policy.parameters()):
                raise ValueError(f"average_rate={config.average_rate:g}: the policy of {type(self).__name__} has no weights of its own to average; leave it at 0")
            self.average = copy.deepcopy(policy).requires_grad_(False)
        self.to(device)
        self.optimise()

    # ---------------------------------------------------------------- networks
    @abstractmethod
    def build(self) -> None:
        """Make the networks and buffers."""

    @abstractmethod
    def optimise(self) -> None:
        """`add_optimizer` for each network that learns; they are on their device by now."""

    def trunk(self) -> Trunk:
        """A trunk over (observation, goal), of the config's encoder: a fresh one, or the one that all networks share if it has no weights."""
        if self.shared_trunk is not None:
            return self.shared_trunk
        c, reads = self.config, self.reads or self.goal_dim
        trunk: Trunk = make_trunk(c.encoder, self.obs_dim - self.goal_dim + reads, reads, self.grid_shape, c.channels)
        if self.reads:
            trunk = LeadingTrunk(trunk, self.goal_dim, reads)
        if any(True for _ in trunk.parameters()):
            return trunk
        self.shared_trunk = SharedTrunk(trunk)
        return self.shared_trunk

    def gaussian(self, std: float) -> GaussianPolicy:
        """A Gaussian policy of this std (0: learned)."""
        c = self.config
        return GaussianPolicy(self.trunk(), self.action_dim, c.hidden, c.policy_layers, std)

    # ---------------------------------------------------------------- inputs
    @torch.no_grad()
    def fit_scaling(self, obs: Float[Tensor, "N o"], goal: Float[Tensor, "N g"], floor: float = 1e-3) -> None:
        """Standardise inputs with these samples' mean and std (std >= floor). Optional, once, before training.

        The latent part of observation and goal gets *one* shift per dimension and one common scale, so that differences
        between the two keep their meaning.
        """
        if self.goal_dim:
            both = torch.cat([obs[:, : self.goal_dim], goal])
            mean, spread = both.mean(0), both.std(0).square().mean().sqrt().clamp(min=floor)
            self.goal_scale.fill_(1.0 / spread)
            self.goal_shift.copy_(-mean / spread)
        proprio = obs[:, self.goal_dim :]
        std = proprio.std(0).clamp(min=floor) if proprio.shape[1] else proprio[0]
        self.obs_scale.copy_(torch.cat([self.goal_scale, 1.0 / std]))
        self.obs_shift.copy_(torch.cat([self.goal_shift, -proprio.mean(0) / std]))

    def scaled(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> tuple[Tensor, Tensor]:
        """Observation and goal as the networks see them."""
        return torch.addcmul(self.obs_shift, obs, self.obs_scale), torch.addcmul(self.goal_shift, goal, self.goal_scale)

    def prepare(self, b: Batch) -> Batch:
        """The batch as the networks see it."""
        obs, goal = self.scaled(b.obs, b.goal)
        return b._replace(obs=obs, goal=goal, next_obs=torch.addcmul(self.obs_shift, b.next_obs, self.obs_scale))

    def prepare_snippet(self, b: Snippet) -> Snippet:
        """The snippet as the networks see it."""
        goal = torch.addcmul(self.goal_shift, b.goal, self.goal_scale)
        return b._replace(obs=torch.addcmul(self.obs_shift, b.obs, self.obs_scale), goal=goal)

    # ---------------------------------------------------------------- gradient steps
    def add_optimizer(self, name: str, network: nn.Module, learning_rate: float, weight_decay: float = 0.0) -> None:
        """A fused Adam over the trainable parameters of `network`."""
        parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizers[name] = FusedAdam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)

    def parameters_of(self, name: str) -> list[Tensor]:
        """The parameters that the named optimiser owns."""
        return self.optimizers[name].param_groups[0]["params"]

    def descend(self, name: str, loss: Float[Tensor, ""]) -> None:
        """One step of the named optimiser on `loss`. No other parameter receives a gradient."""
        parameters = self.parameters_of(name)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = in_layout_of(parameter, gradient)
        if self.max_grad_norm > 0.0:
            nn.utils.clip_grad_norm_(parameters, self.max_grad_norm, foreach=True)
        self.optimizers[name].move()
        if name == "policy" and self.average is not None:  # at first the plain mean of all weights so far
            rate = max(self.average_rate, 1.0 / (self.step + 1))
            polyak(cast(Any, self.average).parameters(), cast(Any, self.policy).parameters(), rate)

    def noise_like(self, like: Tensor) -> Tensor:
        """Standard normal noise: a function of the agent's seed, the step and the call's place in it, so a resume repeats it."""
        generator = self._generator
        if generator is None or generator.device != like.device or self._noise_step != self.step:
            generator = self.seed_noise(self.step, like.device)
        return torch.randn(like.shape, generator=generator, device=like.device)

    def seed_noise(self, step: int, device: torch.device) -> torch.Generator:
        """The generator of noise, at the beginning of a step."""
        if self._generator is None or self._generator.device != device:
            self._generator, self._seed = torch.Generator(device), int(self.noise_seed)
        self._noise_step = step
        return self._generator.manual_seed(self._seed + step)

    @property
    def settled(self) -> bool:
        """Whether all updates to come do the same, or the same as the one `rhythm` before: no number in them depends on how many were done any more."""
        averaged = self.average is None or (self.step + 2) * self.average_rate >= 1.0
        return averaged and self.step >= getattr(self.config, "cloning_updates", 0)

    # ---------------------------------------------------------------- acting
    @torch.no_grad()
    def act(
        self,
        obs: Float[Tensor, "B o"],
        goal: Float[Tensor, "B g"],
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B a"]:
        """Actions in [-1, 1]: the policy's best guess or, to explore, a sample of it."""
        obs, goal = self.scaled(obs, goal)
        policy = self.policy if self.average is None else self.average
        return policy.sample(obs, goal, generator) if explore else policy(obs, goal)

    # ---------------------------------------------------------------- checkpoints
    def checkpoint(self) -> dict[str, Tensor]:
        """Parameters, targets, optimiser state and step as flat contiguous tensors (save or clone them before the next update)."""
        state = {f"model.{name}": value for name, value in self.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, entry in optimizer.state_dict()["state"].items():
                state |= {f"optimizer.{name}.{index}.{key}": value for key, value in entry.items()}
        return {name: value.contiguous() for name, value in state.items()} | {"step": torch.tensor(self.step)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where `checkpoint` was taken.

        Raises ValueError naming the first tensor that is missing, unknown or of another shape; the agent is then unchanged.
        """
        self._check_names_and_shapes(state)
        self.load_state_dict(
            {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        )
        for name, optimizer in self.optimizers.items():
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f"optimizer.{name}."):
                    _, _, index, field = key.split(".")
                    like = value if field == "step" else self.parameters_of(name)[int(index)]
                    entries.setdefault(int(index), {})[field] = torch.empty_like(like, requires_grad=False).copy_(value)
            optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})
        self.step, self.restores = int(state["step"]), self.restores + 1
        self._generator = None

    def _check_names_and_shapes(self, state: Mapping[str, Tensor]) -> None:
        expected = {f"model.{name}": tuple(value.shape) for name, value in self.state_dict().items()} | {"step": ()}
        optional = {
            f"optimizer.{name}.{index}.{key}": () if key == "step" else tuple(parameter.shape)
            for name in self.optimizers
            for index, parameter in enumerate(self.parameters_of(name))
            for key in ("step", "exp_avg", "exp_avg_sq")
        }
        names: Iterable[str] = [*expected, *(name for name in state if name not in expected)]
        for name in names:
            mine, saved = expected.get(name, optional.get(name)), state.get(name)
            if saved is None or mine is None or tuple(saved.shape) != mine:
                raise ValueError(
                    f"checkpoint does not fit this {type(self).__name__}: tensor {name} is "
                    f"{'absent' if saved is None else tuple(saved.shape)} in the checkpoint and "
                    f"{'absent' if mine is None else mine} here"
                )


class ActorCritic(Agent):
    """An agent with Q functions, `critic`, beside its policy."""

    critic: Critic

    def critics(self, members: int = 2) -> tuple[Critic, Critic]:
        """Q functions and their target."""
        c = self.config
        return with_target(lambda: Critic(self.trunk(), self.action_dim, c.hidden, c.layers, c.layer_norm, members))

    def regress(self, b: Batch, target: Float[Tensor, " B"]) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared error of all Q functions against Bellman targets."""
        return self.bellman_error(self.critic(b.obs, b.goal, b.action), target)

    def bellman_error(self, q: Float[Tensor, "E B"], target: Float[Tensor, " B"]) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared error of Q values against Bellman targets."""
        loss = (q - target).square().mean()
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}

    @torch.no_grad()
    def value(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, " B"]:
        """min Q of the policy's best guess."""
        obs, goal = self.scaled(obs, goal)
        return self.critic(obs, goal, self.policy(obs, goal)).amin(0)


def with_target(make: Callable[[], Network]) -> tuple[Network, Network]:
    """A network and its target, which begins equal and gets no gradient."""
    network, target = make(), make()
    target.requires_grad_(False).load_state_dict(network.state_dict())
    return network, target


def in_layout_of(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` with the parameter's strides: fused Adam pairs numbers by memory, so channels-last must meet channels-last."""
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
