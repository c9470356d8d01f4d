"""Planning with subgoals in latent space: PTP's planner (Fang et al., 2022, sec. IV-C, Algorithms 6-7; facts.md, errata.md).

A plan is a chain s_1 .. s_K from s_0, each link a code u_i turned into a latent by a generator. MPPI over the codes
minimises

    cost = distance(s_K, g) - eta * [ sum_i V(s_{i-1}, s_i) + V(s_K, g) ] + prior_weight * sum_i |u_i|^2

(the paper prints + eta; V is negative steps-to-go, so being reachable lowers the cost). The last subgoal of the answer is
replaced by the goal. The planner knows three callables and nothing else: any generator, any value, any distance.

Shapes: P problems planned at once, N samples, K subgoals, z latent, d code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from planning.cem import cem
from planning.follower import euclidean
from planning.memory import PlanMemory
from planning.mppi import Cost, MPPIResult, draws, mppi, shooting

Generate = Callable[[Float[Tensor, "B z"], Float[Tensor, "B d"]], Float[Tensor, "B z"]]
Value = Callable[[Float[Tensor, "B z"], Float[Tensor, "B z"]], Float[Tensor, "B"]]
First = Callable[[Int[Tensor, "#B"], Float[Tensor, "B d"]], Float[Tensor, "B z"]]  # rows of the starts: one for each code, or a single one
Begin = Callable[[Float[Tensor, "P z"]], tuple[First, Generate]]
Quantize = Callable[[Float[Tensor, "B z"]], Float[Tensor, "B z"]]


METHODS = ("ptp", "leap", "gcp")
GPU_CHUNK = 16384  # rows that keep a GPU busy; the paper's U-Net takes 3 GB for them


@dataclass
class PlannerConfig:
    """PTP's released numbers, but for `subgoals`: one level with K of them (the paper's 8 come from 3 levels of 2)."""

    subgoals: int = 4  # K, the last being the goal itself
    latent_dim: int = 8  # d, numbers per code u; must be the generator's
    samples: int = 1024  # N
    search: str = "mppi"  # mppi | cem (cross-entropy method, as many rounds) | shooting (as many draws, all from N(0, I))
    sigmas: tuple[float, ...] = (1.0, 0.5, 0.2, 0.1, 0.1)  # one refinement each, after the draw from N(0, I)
    temperature: float = 0.1  # in units of cost
    eta: float = 0.001  # weight of the values; 0 plans without them
    prior_weight: float = 0.01  # weight of the codes' squared norm: stay where the generator was trained
    chunk: int = 512  # candidate chains a CPU evaluates at once: bounds the memory, and the U-Net is fastest in the cache; a GPU, at least 16,384
    precision: str = "32"  # "bf16": candidates are compared in mixed precision, faster where the processor has it; the answer is float32
    method: str = "ptp"  # where subgoals come from: ptp (a conditional generator), leap (a VAE of single states), gcp (predicted midpoints, no search)
    levels: tuple[int, ...] = (25,)  # steps between subgoals, coarsest level first; each finer level splits a segment in two
    memory: bool = True  # earlier plans' codes are first guesses (the latent plan buffer)

    def __post_init__(self) -> None:
        """Raises ValueError for less than one subgoal, sample, chunk row or step of a level, no level, or an unknown search, precision or method."""
        for name, value, known in (("precision", self.precision, ("32", "bf16")), ("search", self.search, tuple(SEARCHES)), ("method", self.method, METHODS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if min(self.subgoals, self.samples, self.chunk) < 1:
            raise ValueError(f"subgoals, samples and chunk must be at least 1, not {self.subgoals}, {self.samples} and {self.chunk}")
        if not self.levels or min(self.levels) < 1:
            raise ValueError(f"levels must be numbers of steps, at least one of them and each at least 1, not {tuple(self.levels)}")


class Plan(NamedTuple):
    """What a planner decided, for P problems."""

    subgoals: Float[Tensor, "P K z"]  # the last is the goal
    cost: Float[Tensor, "P"]
    values: Float[Tensor, "P K"]  # V of the segments s_0 -> s_1, ..., s_{K-1} -> goal; zeros when eta is 0
    codes: Float[Tensor, "P K d"]  # the codes behind the chain


class Noise(NamedTuple):
    """All that is random in a search."""

    first: Float[Tensor, "P N K d"]  # the candidates of the first round
    later: Float[Tensor, "rounds P N K d"]


Search = Callable[[Cost, Noise, PlannerConfig], MPPIResult]
SEARCHES: dict[str, Search] = {
    "mppi": lambda cost, noise, c: mppi(cost, noise.first, c.sigmas, c.temperature, noise=noise.later),
    "cem": lambda cost, noise, c: cem(cost, noise.first, len(c.sigmas), noise=noise.later),
    "shooting": lambda cost, noise, c: shooting(cost, noise.first, len(c.sigmas), noise=noise.later),
}


class SubgoalPlanner:
    """`plan(z, goal)` by MPPI over a generator's codes."""

    def __init__(
        self,
        generate: Generate,
        value: Value,
        config: PlannerConfig,
        distance: Value = euclidean,
        quantize: Quantize | None = None,
        memory: PlanMemory | None = None,
        begin: Begin | None = None,
    ):
        """`quantize` snaps every generated subgoal, for instance onto the vision model's codebook; `memory` remembers
        the codes of earlier plans and supplies some of the first samples. `begin(z)` gives (rows, u) -> generate(z[rows], u) for first links, whose
        candidates share the starts z, and `generate` for the others: faster where a generator has it (`SubgoalCVAE.begin`)."""
        self.generate, self.value, self.distance, self.quantize = generate, value, distance, quantize
        self.begin = begin or (lambda z: (lambda rows, u: generate(z[rows].expand(len(u), -1), u), generate))
        self.memory, self.config = memory, config

    @torch.no_grad()
    def plan(
        self,
        z: Float[Tensor, "P z"],
        goal: Float[Tensor, "P z"],
        generator: torch.Generator | None = None,
        initial: Float[Tensor, "P n K d"] | None = None,
        remember: bool = True,
    ) -> Plan:
        """Plan from latents `z` to latents `goal`; `initial` (n <= N) are guesses that replace some of the prior draw.

        Without `initial` the memory's guesses are used, where there is a memory; `remember` adds what was found to it. `generator` lives on the device of `z`.
        Raises ValueError when every candidate's cost is not finite (a generator or value that has diverged).
        """
        found = self.search(z, goal, self.draw(len(z), z, generator, initial))
        self.accept(found, remember)
        return found

    def draw(
        self, problems: int, like: Float[Tensor, "P z"], generator: torch.Generator | None = None, initial: Float[Tensor, "P n K d"] | None = None
    ) -> Noise:
        """What `search` needs for so many problems, of the device and type of the latents `like`, with `initial` or the memory's guesses among the candidates."""
        c = self.config
        shape = (problems, c.samples, c.subgoals, c.latent_dim)
        first = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        if initial is None and self.memory is not None:
            initial = self.memory.propose(problems, c.samples, generator)
        if initial is not None:
            first[:, : initial.shape[1]] = initial
        return Noise(first, draws(first, len(c.sigmas), generator))

    @torch.no_grad()
    def search(self, z: Float[Tensor, "P z"], goal: Float[Tensor, "P z"], noise: Noise) -> Plan:
        """The plan that is found with this noise. Nothing here waits for the device, so a CUDA graph can capture it; `accept` looks at what came of it."""
        c = self.config
        with torch.autocast(z.device.type, torch.bfloat16, enabled=c.precision == "bf16"):
            begun = self.begin(z)
            found = SEARCHES[c.search](lambda codes: self.cost(z, goal, codes, begun), noise, c)
        chain = torch.stack(self.links(self.generate(z, found.best[:, 0]), found.best, self.generate), dim=1)
        subgoals = torch.cat([chain[:, :-1], goal[:, None]], dim=1)
        return Plan(subgoals, found.cost, self.segment_values(z, subgoals), found.best)

    def accept(self, plan: Plan, remember: bool = True) -> None:
        """Add a plan to the memory. Raises ValueError for one whose cost is not finite."""
        if not torch.isfinite(plan.cost).all():
            raise ValueError("no plan has a finite cost: the subgoal generator or the value returned nan or infinity")
        if self.memory is not None and remember:
            self.memory.add(plan.codes)

    def links(self, first: Float[Tensor, "B z"], codes: Float[Tensor, "B K d"], generate: Generate) -> list[Float[Tensor, "B z"]]:
        """The K subgoals that codes lead through, from what the first of them led to, each (quantized and) fed to the next link."""
        links = [first if self.quantize is None else self.quantize(first)]
        for u in codes.unbind(1)[1:]:
            z = generate(links[-1], u)
            links.append(z if self.quantize is None else self.quantize(z))
        return links

    def segment_values(self, z: Float[Tensor, "P z"], subgoals: Float[Tensor, "P K z"]) -> Float[Tensor, "P K"]:
        """V(s_{i-1}, s_i) for i = 1..K with s_0 = z. Zeros when the values do not count (eta = 0)."""
        if self.config.eta == 0:
            return subgoals.new_zeros(subgoals.shape[:2])
        before = torch.cat([z[:, None], subgoals[:, :-1]], dim=1)
        return self.value(before.flatten(0, 1), subgoals.flatten(0, 1)).unflatten(0, subgoals.shape[:2])

    def cost(
        self, z: Float[Tensor, "P z"], goal: Float[Tensor, "P z"], codes: Float[Tensor, "P N K d"], begun: tuple[First, Generate] | None = None
    ) -> Float[Tensor, "P N"]:
        """The cost of every candidate chain, in chunks of rows; `begun` is `begin(z)`."""
        problems, samples = codes.shape[:2]
        problem = torch.arange(problems * samples, device=z.device) // samples  # (P*N,)
        flat = codes.flatten(0, 1)
        first, later = begun or self.begin(z)
        chunk = self.config.chunk if z.device.type == "cpu" else max(self.config.chunk, GPU_CHUNK)
        parts = []
        for i in range(0, len(flat), chunk):
            u = flat[i : i + chunk]
            rows = problem[i : i + 1] if i // samples == (i + len(u) - 1) // samples else problem[i : i + chunk]
            start, end = z[rows].expand(len(u), -1), goal[rows].expand(len(u), -1)
            parts.append(self._chunk_cost(start, end, u, self.links(first(rows, u[:, 0]), u, later)))
        cost = torch.cat(parts).unflatten(0, (problems, samples))
        return cost.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)  # a broken chain is never chosen

    def _chunk_cost(
        self, z: Float[Tensor, "B z"], goal: Float[Tensor, "B z"], codes: Float[Tensor, "B K d"], links: list[Float[Tensor, "B z"]]
    ) -> Float[Tensor, "B"]:
        c = self.config
        cost = self.distance(links[-1].float(), goal)
        if c.eta != 0:
            nodes = torch.stack([z, *links, goal])  # (K + 2, B, z): the ends of all segments are slices
            values = self.value(nodes[:-1].flatten(0, 1), nodes[1:].flatten(0, 1)).unflatten(0, (-1, len(z)))
            cost = cost - c.eta * values.sum(0)
        return cost + c.prior_weight * codes.square().sum((-1, -2))
