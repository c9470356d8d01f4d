"""Networks of the agents: trunks over (observation, goal), MLPs, stacked critics."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

GridShape = tuple[int, int, int]
FREQUENCIES = (1.0, 2.0, 4.0)  # of `waved`, radians per (standardised) unit
WAVED = 1 + 2 * len(FREQUENCIES)  # numbers it makes of one


def waved(numbers: Float[Tensor, "B n"]) -> list[Tensor]:
    """The numbers, and sine and cosine of them at three frequencies: a fine sense of place, not lost beside many other inputs."""
    return [numbers, *(wave(frequency * numbers) for frequency in FREQUENCIES for wave in (torch.sin, torch.cos))]


def check_grid(encoder: str, obs_dim: int, goal_dim: int, shape: GridShape, what: str = "grid_shape") -> None:
    """Raises ValueError where a latent of this shape does not have goal_dim numbers, or an observation has fewer."""
    if math.prod(shape) != goal_dim or obs_dim < goal_dim:
        raise ValueError(f"{encoder} encoder: {what} {tuple(shape)} does not fit goal_dim {goal_dim}, obs_dim {obs_dim}")


class FlatTrunk(nn.Module):
    """[obs, goal] as they are."""

    def __init__(self, obs_dim: int, goal_dim: int):
        super().__init__()
        self.features = obs_dim + goal_dim

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B f"]:
        return torch.cat([obs, goal], 1)


class DifferenceTrunk(nn.Module):
    """[goal - latent, proprio, waves of the proprio]: what must change, and a fine sense of place.

    The latent itself is left out: it tells scenes and episodes apart, so that an agent taught by few trajectories of each scene
    learns them by heart and never looks at the goal (docs/learning.md). Proprio is `waved`.
    Raises ValueError where obs is not [latent | proprio] with the goal's latent.
    """

    def __init__(self, obs_dim: int, goal_dim: int):
        super().__init__()
        if obs_dim < goal_dim:
            raise ValueError(f"difference encoder: obs_dim {obs_dim} is smaller than goal_dim {goal_dim}")
        self.features = goal_dim + (obs_dim - goal_dim) * WAVED

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B f"]:
        latent, proprio = obs[:, : goal.shape[1]], obs[:, goal.shape[1] :]
        return torch.cat([goal - latent, *waved(proprio)], 1)


class ConvTrunk(nn.Module):
    """Two small convolutions over the spatial latents of observation and goal and their difference, then proprio.

    Args: grid_shape (c, h, w) of the flattened "(c h w)" goal latent; obs is [latent | proprio]; channels of the first
    convolution (the second has twice as many). Channels-last, which halves the time on a CPU.
    Raises ValueError where the grid does not have goal_dim numbers.
    """

    def __init__(self, obs_dim: int, goal_dim: int, grid_shape: GridShape, channels: int):
        super().__init__()
        check_grid("conv", obs_dim, goal_dim, grid_shape)
        self.grid_shape = tuple(grid_shape)
        stride = 2 if min(grid_shape[1:]) >= 8 else 1
        self.first = nn.Conv2d(3 * grid_shape[0], channels, 3, stride, padding=1)
        self.second = nn.Conv2d(channels, 2 * channels, 3, 2, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        height, width = (math.ceil(math.ceil(size / stride) / 2) for size in grid_shape[1:])
        self.features = 2 * channels * height * width + obs_dim - goal_dim

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B f"]:
        latent, proprio = obs[:, : goal.shape[1]], obs[:, goal.shape[1] :]
        x = torch.cat([latent, goal, goal - latent], 1).unflatten(1, (-1, *self.grid_shape[1:]))  # (B, 3c, h, w)
        x = F.relu(self.first(x.contiguous(memory_format=torch.channels_last)))
        x = F.relu(self.second(x))
        return torch.cat([x.permute(0, 2, 3, 1).flatten(1), proprio], 1)


class AttentionTrunk(nn.Module):
    """Where things are: heads that attend to cells of the spatial latents, first to those in which goal and observation differ.

    Two 3 x 3 convolutions over [latent, goal - latent, whether the cell changes]; of them `HEADS` maps of logits and `VALUES` maps of values. A head's
    features are the mean of cell coordinates in [-1, 1] and of the values under its softmax, and its logsumexp. So a place found in one scene is found in
    others, where an MLP over all cells learns each cell anew (docs/val.md). Proprio follows, `waved`.

    Args: grid_shape (c, h, w) of the flattened "(c h w)" goal latent; obs is [latent | proprio]; channels of both convolutions.
    Raises ValueError where the grid does not have goal_dim numbers.
    Source: spatial soft-argmax (Finn et al. 2016; Levine et al. 2016), with logits that begin at the change.
    """

    places: Tensor
    HEADS, VALUES = 16, 4
    BEGIN = 4.0  # logit of a cell that changes, before learning

    def __init__(self, obs_dim: int, goal_dim: int, grid_shape: GridShape, channels: int):
        super().__init__()
        check_grid("attention", obs_dim, goal_dim, grid_shape)
        self.grid_shape = tuple(grid_shape)
        self.first = nn.Conv2d(2 * grid_shape[0] + 1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.maps = nn.Conv2d(channels, self.HEADS + self.VALUES, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.change = nn.Parameter(torch.full((self.HEADS, 1), self.BEGIN))
        rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in grid_shape[1:]), indexing="ij")
        self.register_buffer("places", torch.stack([columns.flatten(), rows.flatten()], 1), persistent=False)  # (cells, 2)
        self.features = self.HEADS * (self.VALUES + 3) + (obs_dim - goal_dim) * WAVED

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B f"]:
        latent, proprio = obs[:, : goal.shape[1]], obs[:, goal.shape[1] :]
        difference = (goal - latent).unflatten(1, self.grid_shape)
        changed = difference.square().sum(1, keepdim=True).sqrt().tanh()  # (B, 1, h, w)
        x = torch.cat([latent.unflatten(1, self.grid_shape), difference, changed], 1)
        x = F.relu(self.first(x.contiguous(memory_format=torch.channels_last)))
        maps = self.maps(F.relu(self.second(x))).flatten(2).float()  # (B, heads + values, cells)
        logits = torch.addcmul(3.0 * maps[:, : self.HEADS], self.change, changed.flatten(2))
        values = torch.cat([maps[:, self.HEADS :].transpose(1, 2), self.places.expand(len(x), -1, -1)], 2)
        strength = logits.logsumexp(2, keepdim=True)
        found = torch.bmm((logits - strength).exp(), values)  # the softmax
        return torch.cat([found.flatten(1), strength.flatten(1) - math.log(logits.shape[2]), *waved(proprio)], 1)


class PixelTrunk(nn.Module):
    """Three strided convolutions over the pictures of observation and goal, stacked on channels, then proprio (RIG's VAE, k5s3 k3s2 k3s2).

    Args: picture_shape (c, h, w) of the flattened "(c h w)" pictures, numbers in [0, 1], of which .5 is taken (uncentred,
    a policy's rectifiers die together and it no longer sees its goal); obs is [picture | proprio]; channels of
    the first convolution (the others have twice as many; RIG: 16). A side has at least 23 pixels: 48 become a grid of 3 x 3.
    Raises ValueError where the picture does not have goal_dim numbers or is too small.
    """

    def __init__(self, obs_dim: int, goal_dim: int, picture_shape: GridShape, channels: int):
        super().__init__()
        check_grid("pixels", obs_dim, goal_dim, picture_shape, "a picture of shape")
        if min(picture_shape[1:]) < 23:
            raise ValueError(f"pixels encoder: pictures need sides of at least 23 pixels, got {tuple(picture_shape)}")
        self.picture_shape = tuple(picture_shape)
        self.convolutions = nn.Sequential(
            nn.Conv2d(2 * picture_shape[0], channels, 5, 3), nn.ReLU(inplace=True),
            nn.Conv2d(channels, 2 * channels, 3, 2), nn.ReLU(inplace=True),
            nn.Conv2d(2 * channels, 2 * channels, 3, 2), nn.ReLU(inplace=True),
        )  # fmt: skip
        height, width = ((((size - 5) // 3 + 1 - 3) // 2 + 1 - 3) // 2 + 1 for size in picture_shape[1:])
        self.features = 2 * channels * height * width + obs_dim - goal_dim

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B f"]:
        picture, proprio = obs[:, : goal.shape[1]], obs[:, goal.shape[1] :]
        x = torch.cat([picture, goal], 1).sub_(0.5).unflatten(1, (-1, *self.picture_shape[1:]))  # (B, 2c, h, w)
        x = self.convolutions(x).flatten(1)
        return torch.cat([x, proprio], 1) if proprio.shape[1] else x


class LeadingTrunk(nn.Module):
    """A trunk that reads the first numbers of latents only: those behind them, of the scene, are kept from it.

    Args: trunk: of `reads` + proprio numbers and `reads` of the goal; goal_dim: numbers of a whole latent.
    """

    def __init__(self, trunk: nn.Module, goal_dim: int, reads: int):
        super().__init__()
        self.trunk, self.goal_dim, self.reads = trunk, goal_dim, reads
        self.features: int = trunk.features  # type: ignore[assignment]

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B f"]:
        latent, proprio = obs[:, : self.reads], obs[:, self.goal_dim :]
        return self.trunk(torch.cat([latent, proprio], 1), goal[:, : self.reads])  # type: ignore[no-any-return]


class SharedTrunk(nn.Module):
    """A trunk without weights, for all networks of an agent: what it makes of an observation and a goal it makes once, not once for each network.

    In mixed precision the features are kept as matrix products take them, so that they are cast once too. It remembers the last two pairs
    (a batch has two, now and next) by identity: tensors that changed meanwhile, or want gradients, are read anew.
    """

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk
        self.features: int = trunk.features  # type: ignore[assignment]
        self.kept: list[tuple[Tensor, Tensor, tuple[int, int], Tensor]] = []

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "B f"]:
        kind = obs.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else obs.dtype
        if any(t.is_inference() or t.requires_grad for t in (obs, goal)):
            return self.trunk(obs, goal).to(dtype)  # type: ignore[no-any-return]
        versions = obs._version, goal._version
        for one, other, then, features in self.kept:
            if one is obs and other is goal and then == versions and features.dtype == dtype:
                return features
        features = self.trunk(obs, goal).to(dtype)
        self.kept = [*self.kept[-1:], (obs, goal, versions, features)]
        return features


def make_trunk(
    encoder: str, obs_dim: int, goal_dim: int, grid_shape: GridShape | None, channels: int
) -> FlatTrunk | DifferenceTrunk | ConvTrunk | AttentionTrunk | PixelTrunk:
    """The trunk a config names: "mlp", "difference", "conv", "attention" or "pixels".

    The first two take any latent. "conv" and "attention" need grid_shape; "pixels" takes it as the shape (c, h, w) of pictures that are used as
    latents, by default square with three colours. Raises ValueError for another name or a shape that is missing or does not fit.
    """
    if encoder == "mlp":
        return FlatTrunk(obs_dim, goal_dim)
    if encoder == "difference":
        return DifferenceTrunk(obs_dim, goal_dim)
    if encoder in ("conv", "attention"):
        if grid_shape is None:
            raise ValueError(f"encoder {encoder} needs latents on a grid (c, h, w), as models of codes have; for flat ones choose mlp or difference")
        return (ConvTrunk if encoder == "conv" else AttentionTrunk)(obs_dim, goal_dim, grid_shape, channels)
    if encoder == "pixels":
        side = math.isqrt(goal_dim // 3)
        return PixelTrunk(obs_dim, goal_dim, grid_shape or (3, side, side), channels)
    raise ValueError(f"unknown encoder {encoder!r}: choose mlp, difference, conv, attention or pixels")


def hidden_widths(hidden: int | Sequence[int], layers: int) -> list[int]:
    """Widths of `layers` hidden layers: one number for all, or one each. Raises ValueError for another count of widths."""
    widths = [hidden] * layers if isinstance(hidden, int) else list(hidden)
    if len(widths) != layers:
        raise ValueError(f"{layers} hidden layers, but {len(widths)} widths {widths}")
    return widths


class StackedMLP(nn.Module):
    """E independent ReLU MLPs on the same input, computed together by `baddbmm`.

    Args: members E; inputs, outputs; `layers` >= 1 hidden layers of width `hidden` (or a width each); LayerNorm (without gain
    and shift) before each ReLU if asked for; late: width of a second input. Both inputs enter the first layer, each with its own weights, so
    that a gradient with respect to the second (an action) costs nothing for the first.
    Weights start as torch's Linear does: U(+-1/sqrt(fan in)).
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        hidden: int | Sequence[int],
        layers: int,
        outputs: int = 1,
        layer_norm: bool = False,
        late: int = 0,
    ):
        super().__init__()
        widths = [inputs + late, *hidden_widths(hidden, layers), outputs]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for a, b in pairwise(widths):
            bound = 1.0 / math.sqrt(a)
            self.weights.append(torch.empty(members, a, b).uniform_(-bound, bound))
            self.biases.append(torch.empty(members, 1, b).uniform_(-bound, bound))
        late_weight = self.weights[0][:, inputs:].detach().clone()
        self.weights[0] = nn.Parameter(self.weights[0][:, :inputs].detach().clone())
        self.late_weight = nn.Parameter(late_weight)
        self.inputs, self.layer_norm = inputs, layer_norm

    def forward(
        self, x: Float[Tensor, "B i"], late: Float[Tensor, "B l"] | None = None, members: int | None = None
    ) -> Float[Tensor, "E B o"]:
        """Outputs of the first `members` members (default: all)."""
        return self.rest(self.first(x, members), late)

    def first(self, x: Float[Tensor, "B i"], members: int | None = None) -> Float[Tensor, "E B h"]:
        """What the first layer makes of the first input: see `rest`."""
        e = members or len(self.late_weight)
        each = x.expand(e, *x.shape)
        if x.dtype != torch.float32:
            each = each.contiguous()  # else the gradient's product in bfloat16 copies it, slowly
        return torch.baddbmm(leading(self.biases[0], e), each, leading(self.weights[0], e))

    def rest(self, first: Float[Tensor, "E B h"], late: Float[Tensor, "B l"] | None = None) -> Float[Tensor, "E B o"]:
        """Outputs, of what `first` gave and a second input. One `first`, the largest product, can serve several second inputs."""
        e = len(first)
        if late is not None:
            first = torch.baddbmm(first, late.expand(e, *late.shape), leading(self.late_weight, e))
        return self.after_first(first)

    def each(self, x: Float[Tensor, "B i"], late: Float[Tensor, "n B l"]) -> Float[Tensor, "E n B o"]:
        """Outputs of all members for n second inputs of each row; what the first input costs in the first layer is paid once."""
        e, n, b = len(self.late_weight), *late.shape[:2]
        h = torch.matmul(late.flatten(0, 1), self.late_weight).view(e, n, b, -1) + self.first(x)[:, None]
        return self.after_first(h.flatten(1, 2)).unflatten(1, (n, b))

    def after_first(self, h: Float[Tensor, "E B h"]) -> Float[Tensor, "E B o"]:
        """All layers but the first, in place of h."""
        for weight, bias in zip([*self.weights][1:], [*self.biases][1:], strict=True):
            if self.layer_norm:
                h = F.layer_norm(h, h.shape[-1:])
            h = torch.baddbmm(leading(bias, len(h)), h.relu_(), leading(weight, len(h)))
        return h


def leading(layer: Float[Tensor, "E i h"], members: int) -> Float[Tensor, "e i h"]:
    """Of the first members; no slice of all, whose gradient would be a copy into zeros."""
    return layer if members == len(layer) else layer[:members]


def mlp(inputs: int, hidden: int | Sequence[int], layers: int, outputs: int, layer_norm: bool = False) -> nn.Sequential:
    """`layers` hidden ReLU layers of width `hidden` (or a width each), with LayerNorm before each ReLU if asked for."""
    parts: list[nn.Module] = []
    widths = [inputs, *hidden_widths(hidden, layers)]
    for a, b in pairwise(widths):
        parts += [
            nn.Linear(a, b),
            *([nn.LayerNorm(b, elementwise_affine=False)] if layer_norm else []),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*parts, nn.Linear(widths[-1], outputs))


Trunk = FlatTrunk | DifferenceTrunk | ConvTrunk | AttentionTrunk | PixelTrunk | LeadingTrunk | SharedTrunk


class Value(nn.Module):
    """V(s, g)."""

    def __init__(self, trunk: Trunk, hidden: int, layers: int, layer_norm: bool):
        super().__init__()
        self.trunk = trunk
        self.head = mlp(trunk.features, hidden, layers, 1, layer_norm)

    def forward(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, " B"]:
        return self.head(self.trunk(obs, goal)).squeeze(1).float()  # losses and targets stay float32 in mixed precision


class Critic(nn.Module):
    """Q_1 .. Q_E (s, a, g); the members share the trunk, the action enters at the MLP."""

    def __init__(
        self,
        trunk: Trunk,
        action_dim: int,
        hidden: int | Sequence[int],
        layers: int,
        layer_norm: bool,
        members: int = 2,
    ):
        super().__init__()
        self.trunk = trunk
        self.head = StackedMLP(members, trunk.features, hidden, layers, 1, layer_norm, late=action_dim)

    def forward(
        self,
        obs: Float[Tensor, "B o"],
        goal: Float[Tensor, "B g"],
        action: Float[Tensor, "B a"],
        members: int | None = None,
    ) -> Float[Tensor, "E B"]:
        """Values of the first `members` members (default: all)."""
        return self.head(self.trunk(obs, goal), action, members).squeeze(2).float()

    def first(self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"]) -> Float[Tensor, "E B h"]:
        """What `of` needs of observation and goal, and costs the most: the trunk and the first layer."""
        return self.head.first(self.trunk(obs, goal))

    def of(self, first: Float[Tensor, "E B h"], action: Float[Tensor, "B a"]) -> Float[Tensor, "E B"]:
        """Values of an action, of what `first` gave."""
        return self.head.rest(first, action).squeeze(2).float()

    def each(
        self, obs: Float[Tensor, "B o"], goal: Float[Tensor, "B g"], actions: Float[Tensor, "n B a"]
    ) -> Float[Tensor, "E n B"]:
        """Values of n actions for each row."""
        return self.head.each(self.trunk(obs, goal), actions).squeeze(3).float()  # type: ignore[no-any-return]
