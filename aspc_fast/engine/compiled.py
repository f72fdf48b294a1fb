"""The same pure functions under torch.compile; on CUDA a whole period is one CUDA graph that is replayed."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.step import run_part, update
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans, Names
from aspc_fast.engine.replay import Replay

WARM_UP_PERIODS = 2  # before capture: the compiler and the libraries allocate what they keep
MIN_GRAPH_STEPS = 20  # a graph of fewer steps would be replayed too often
PROGRAMS_KEPT = 48  # compiled parts kept in a process, three for each population's program; the oldest go first

Step = Callable[..., Tensor]
Parts = tuple[str, ...]


class CompiledEngine(EagerEngine):
    """See ``aspc_fast.engine.base.Engine``. One compiled function for each part of a step, without a graph break.

    If the compiler fails on this machine, the engine says so once and goes on with the same functions uncompiled.
    """

    name = "compiled"

    def __init__(self, spec: Spec, state: AgentState, hyper: Hyper, replay: Replay | None = None) -> None:
        super().__init__(spec, state, hyper, replay)
        self._parts: dict[tuple[str, bool], Step] = {}
        self._names: dict[Parts, Names] = {}
        self.compiles = True
        self._period: PeriodGraph | None = None

    @torch.no_grad()
    def step(self, batch: Batch) -> Metrics:
        """One training step on a given batch."""
        parts, values = self._step(batch)
        return dict(zip(self._names[parts], values, strict=True))

    @torch.no_grad()
    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps on sampled batches; their metrics go into ``means``."""
        period, last = graph_steps(self.spec), self._done + steps
        if self.state.device.type == "cuda" and self.compiles:
            self._single_steps(min(-self._done % period, steps), means)  # up to the start of a period
            periods = (last - self._done) // period
            if periods:
                self._period = self._period or PeriodGraph(self)
                self._period.replay(periods, means)
                self._done += periods * period
        self._single_steps(last - self._done, means)

    def _single_steps(self, steps: int, means: MetricMeans) -> None:
        for batch in self._batches(steps):
            parts, values = self._step(batch)
            means.add_sums(self._names[parts], values, 1)

    def _step(self, batch: Batch) -> tuple[Parts, Tensor]:
        self._done += 1
        parts = self.spec.parts(self._done)
        return parts, self.run(parts, batch)

    def run(self, parts: Parts, batch: Batch) -> Tensor:
        """One step of these parts: its metrics [M, R]. Compiles what it has not met before."""
        if parts not in self._names:
            self._names[parts] = tuple(update(self.spec, self.state.clone(), self.hyper, batch, parts))
        keys = [(part, i == 0) for i, part in enumerate(parts)]
        return torch.cat([(self._parts.get(key) or self._compile(key, batch))(*batch) for key in keys])

    def names(self, parts: Parts) -> Names:
        """Names of the metrics of a step of ``parts`` that has been run."""
        return self._names[parts]

    def _compile(self, part: tuple[str, bool], example: Batch) -> Step:
        state, before = self.state, self.state.clone()
        self._parts[part] = plain = partial(_stacked, self.spec, *part, state, self.hyper)
        if self.compiles:
            key = ProgramKey(self.spec, *part, state.runs, state.dtype, str(state.device))
            compiled = partial(_compiled(key), state, self.hyper)
            try:
                compiled(*example)
                self._parts[part] = partial(self._guarded, compiled, plain)
            except Exception as error:  # whatever a compiler on a user's machine may raise
                self._give_up(error)
            state.copy_(before)
        return self._parts[part]

    def _guarded(self, compiled: Step, plain: Step, *batch: Tensor) -> Tensor:
        """The compiled part; the plain one from now on where Dynamo refuses it, which it does before anything ran."""
        if self.compiles:
            try:
                return compiled(*batch)
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                self._give_up(error)
        return plain(*batch)

    def _give_up(self, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(f"torch.compile does not work here, going on uncompiled: {lines[0]}", stacklevel=2)
        self.compiles = False


def _stacked(spec: Spec, part: str, first: bool, state: AgentState, hyper: Hyper, *batch: Tensor) -> Tensor:
    return torch.stack(tuple(run_part(spec, state, hyper, spec.algorithm.batch(*batch), part, first).values()))


def graph_steps(spec: Spec) -> int:
    """Steps of one CUDA graph: whole periods, at least about MIN_GRAPH_STEPS steps."""
    return spec.period * max(1, MIN_GRAPH_STEPS // spec.period)


class ProgramKey(NamedTuple):
    """What a compiled part depends on: its tensors never have other shapes, dtypes or devices."""

    spec: Spec
    part: str
    first: bool
    runs: int
    dtype: torch.dtype
    device: str


@lru_cache(maxsize=PROGRAMS_KEPT)
def _compiled(key: ProgramKey) -> Step:
    """One compiled function for all runs that share a program: on a CPU the runs of a population take turns in it.

    Each has a code object of its own: Dynamo counts recompilations, and gives up, by code object.
    """

    def run(state: AgentState, hyper: Hyper, *batch: Tensor) -> Tensor:
        return _stacked(key.spec, key.part, key.first, state, hyper, *batch)

    own = types.FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False)


class PeriodGraph:
    """One period of training steps (sampling included) captured in a CUDA graph; a replay costs one launch."""

    def __init__(self, engine: CompiledEngine) -> None:
        assert engine.replay is not None, "advance() needs a replay store"
        self._engine, self._replay = engine, engine.replay
        self._offsets = torch.arange(1, graph_steps(engine.spec) + 1, device=engine.state.device)
        self._sums: dict[Parts, Tensor] = {}
        self._counts: dict[Parts, int] = {}
        before = engine.state.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_PERIODS):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._run()
        engine.state.copy_(before)
        for sums in self._sums.values():
            sums.zero_()

    def replay(self, periods: int, means: MetricMeans) -> None:
        """So many periods; no synchronisation with the host."""
        for _ in range(periods):
            self._graph.replay()
        for parts, sums in self._sums.items():
            means.add_sums(self._engine.names(parts), sums, self._counts[parts] * periods)
            sums.zero_()

    def _run(self) -> None:
        engine = self._engine
        spec = engine.spec
        self._counts = {}
        chunk = self._replay.steps_per_draw(spec)
        numbers = engine.state.step + self._offsets
        for t in range(graph_steps(spec)):
            if t % chunk == 0:
                drawn = self._replay.draw(spec, engine.hyper, numbers[t : t + chunk])
            batch = self._replay.gather(spec, *(values[t % chunk] for values in drawn))
            parts = spec.parts(t + 1)
            values = engine.run(parts, batch).double()
            self._counts[parts] = self._counts.get(parts, 0) + 1
            if parts in self._sums:
                self._sums[parts] += values
            else:
                self._sums[parts] = values.clone()
