"""Updates as CUDA graphs: an update is hundreds of small kernels, which a GPU finishes sooner than the host can launch them; a graph launches all at once.

    update = GraphedUpdate(agent)
    for _ in range(updates):
        metrics = update(sampler.draw(256, agent.length, generator))      in place of agent.update(...)

The first updates are the agent's own; then one is recorded, which works on memory of its own that batches are copied into, and is played again from then on.
What depends on the number of updates done is dealt with so: noise is seeded before every replay, as the agent seeds it, so that it is the same; an agent that
does not do the same in every update (`Agent.rhythm`) has a graph for each kind; and while a number still changes with the steps (`Agent.settled`: the rate of a
young average, a policy that clones at first) updates are not recorded yet.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from agents.agent import Agent
from goals.batch import Batch, Snippet

Metrics = dict[str, Tensor]
WARM_UP = 3  # of each kind of update, before one is recorded: they make the optimisers' state and what libraries keep


def record(run: Callable[[], Metrics], generators: Sequence[torch.Generator], stream: torch.cuda.Stream) -> tuple[Callable[[], None], Metrics]:
    """What `run` does on the GPU, recorded but not done: how to do it, and the tensors it will write its results to. `generators` are those it draws from: every
    replay draws on from where they are."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph, stream=stream):
        found = run()
    return graph.replay, found


def apart(run: Callable[[], Metrics], stream: torch.cuda.Stream) -> Metrics:
    """`run` on another stream, after what is under way on this one and before what follows."""
    here = torch.cuda.current_stream()
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        found = run()
    here.wait_stream(stream)
    return found


@contextmanager
def recordable(agent: Agent) -> Iterator[None]:
    """Torch asks that optimisers be `capturable` while they are recorded; fused Adam counts its steps on the GPU anyway."""
    groups = [group for optimizer in agent.optimizers.values() for group in optimizer.param_groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


def uncounted(agent: Agent, batch: Any) -> Metrics:
    """An update that leaves counting to the caller: recording it does not do it."""
    step = agent.step
    try:
        return cast(Any, agent.update)(batch)  # type: ignore[no-any-return]
    finally:
        agent.step = step


class GraphedUpdate:
    """An agent's `update`, recorded once and replayed; it may be mixed with the agent's own, with checkpoints and with `restore`.

    Metrics are valid until the next call. Batches have one size; learning rates, precision and what else a recording holds must not change.
    Raises ValueError for an agent that is not on a GPU.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent, self.device = agent, agent.noise_seed.device
        if self.device.type != "cuda":
            raise ValueError(f"a CUDA graph needs an agent on a GPU, this {type(agent).__name__} is on {self.device}")
        self.stream = torch.cuda.Stream(self.device)  # of the first updates and the recording, as graphs want it
        self.batch: Batch | Snippet | None = None
        self.recorded: dict[int, tuple[Callable[[], None], Metrics]] = {}
        self.begin, self.restores = agent.step, agent.restores

    def __call__(self, batch: Any) -> Metrics:
        """One update; see `Agent.update`. Raises ValueError for a batch of another size, or autocast that keeps casts of weights, which a replay would not renew."""
        agent, update = self.agent, cast(Any, self.agent.update)
        if self.restores != agent.restores:  # the optimisers have other tensors now
            self.recorded.clear()
            self.begin, self.restores = agent.step, agent.restores
        if not agent.settled or agent.step < self.begin + WARM_UP * agent.rhythm:
            return apart(lambda: update(batch), self.stream)
        self._take(batch)
        agent.seed_noise(agent.step + 1, self.device)
        kind = (agent.step + 1) % agent.rhythm
        if kind not in self.recorded:
            self.recorded[kind] = self._record()
        replay, metrics = self.recorded[kind]
        replay()
        agent.step += 1
        return metrics

    def _take(self, batch: Any) -> None:
        """Copy a batch to where the recorded update reads it."""
        if self.batch is None:
            self.batch = type(batch)(*(column.clone() for column in batch))
            return
        if [column.shape for column in batch] != [column.shape for column in self.batch]:
            raise ValueError(f"this update was recorded for batches of {len(self.batch.action)} rows, not {len(batch.action)}: make another GraphedUpdate for those")
        floats = [i for i, column in enumerate(batch) if column.dtype == torch.float32]
        torch._foreach_copy_([self.batch[i] for i in floats], [batch[i] for i in floats])
        for mine, column in zip(self.batch, batch, strict=True):
            if column.dtype != torch.float32:
                mine.copy_(column)

    def _record(self) -> tuple[Callable[[], None], Metrics]:
        """The next update, recorded. The agent is as it was."""
        if torch.is_autocast_enabled("cuda") and torch.is_autocast_cache_enabled():
            raise ValueError("an update cannot be recorded under an autocast that keeps casts of weights: give torch.autocast cache_enabled=False")
        agent, batch = self.agent, self.batch
        with recordable(agent):
            return record(lambda: uncounted(agent, batch), [agent.seed_noise(agent.step + 1, self.device)], self.stream)
