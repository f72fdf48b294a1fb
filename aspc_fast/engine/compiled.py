"""The same pure functions under torch.compile; on CUDA a whole period is one CUDA graph that is replayed."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from aspc_fast.agent.schedule import PARTS, Kind, Part, run_part, step_kind, update
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.td3bc import Metrics
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans, Names
from aspc_fast.engine.replay import Replay
from aspc_fast.engine.sampling import on_device, triton_sampler

WARM_UP_PERIODS = 2  # before capture: the compiler and the libraries allocate what they keep
PROGRAMS_KEPT = 48  # compiled parts kept in a process, three for each population's program; the oldest go first
# On CUDA Inductor times some choices (padding of products, shapes of reductions), which change the order of sums: a
# run that is resumed in another process would not end bit for bit where it would have. This fixes them beforehand.
PINNED: dict[str, str | int | bool | Callable[..., object]] = {"deterministic": True, "shape_padding": False}

Step = Callable[..., Tensor]


class CompiledEngine(EagerEngine):
    """See ``aspc_fast.engine.base.Engine``. One compiled function for each part of a step, without a graph break.

    If the compiler fails on this machine, the engine says so once and goes on with the same functions uncompiled.
    """

    name = "compiled"

    def __init__(self, spec: Spec, state: AgentState, hyper: Hyper, replay: Replay | None = None) -> None:
        super().__init__(spec, state, hyper, replay)
        self._parts: dict[Part, Step] = {}
        self._names: dict[Kind, Names] = {}
        self.compiles = True
        self._period: PeriodGraph | None = None
        self._sampler = triton_sampler(spec, state, hyper, replay)

    @torch.no_grad()
    def step(self, batch: Batch) -> Metrics:
        """One training step on a given batch."""
        kind, values = self._step(batch)
        return dict(zip(self._names[kind], values, strict=True))

    @torch.no_grad()
    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps on sampled batches; their metrics go into ``means``."""
        period, last = self.spec.period, self._done + steps
        with on_device(self.state.rho.device):
            if self.state.rho.is_cuda and self.compiles:
                self._single_steps(min(-self._done % period, steps), means)  # up to the start of a period
                periods = (last - self._done) // period
                if periods:
                    self._period = self._period or PeriodGraph(self)
                    self._period.replay(periods, means)
                    self._done += periods * period
            self._single_steps(last - self._done, means)

    def _single_steps(self, steps: int, means: MetricMeans) -> None:
        for batch in self._batches(steps):
            kind, values = self._step(batch)
            means.add_sums(self._names[kind], values, 1)

    def _batches(self, steps: int) -> Iterator[Batch]:
        if self._sampler is None:
            yield from super()._batches(steps)
        else:  # always the same memory layout: the compiled parts are made for one
            for _ in range(steps):
                yield self._sampler()

    def period_batches(self, offsets: Tensor) -> Iterator[Batch]:
        """The batches of the period that begins now; ``offsets`` int64 [period] = 1, 2, ... on the device."""
        if self._sampler is not None:
            yield from self._batches(self.spec.period)
            return
        assert self.replay is not None, "advance() needs a replay store"
        chunk, numbers = self.replay.steps_per_draw(self.spec), self.state.step + offsets
        for t in range(self.spec.period):
            if t % chunk == 0:
                rows, noise = self.replay.draw(self.spec, self.hyper, numbers[t : t + chunk])
            yield self.replay.gather(self.spec, rows[t % chunk], noise[t % chunk])

    def _step(self, batch: Batch) -> tuple[Kind, Tensor]:
        self._done += 1
        kind = step_kind(self.spec, self._done)
        return kind, self.run(kind, batch)

    def run(self, kind: Kind, batch: Batch) -> Tensor:
        """One step of ``kind``: its metrics [M, R]."""
        return torch.cat(list(self.run_parts(kind, batch)))

    def run_parts(self, kind: Kind, batch: Batch) -> Iterator[Tensor]:
        """The parts of one step of ``kind``, each run when it is asked for: its metrics [M_part, R]. Compiles what it
        has not met before."""
        if kind not in self._names:
            self._names[kind] = tuple(update(self.spec, self.state.clone(), self.hyper, batch, kind))
        for part in PARTS[kind]:
            yield (self._parts.get(part) or self._compile(part, batch))(*batch)

    def names(self, kind: Kind) -> Names:
        """Names of the metrics of a step of ``kind`` that has been run."""
        return self._names[kind]

    def _compile(self, part: Part, example: Batch) -> Step:
        state, before = self.state, self.state.clone()
        self._parts[part] = plain = partial(_stacked, self.spec, part, state, self.hyper)
        if self.compiles:
            key = ProgramKey(self.spec, part, len(state.rho), state.rho.dtype, str(state.rho.device))
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


def _stacked(spec: Spec, part: Part, state: AgentState, hyper: Hyper, *batch: Tensor) -> Tensor:
    return torch.stack(tuple(run_part(spec, state, hyper, Batch(*batch), part).values()))


class ProgramKey(NamedTuple):
    """What a compiled part depends on: its tensors never have other shapes, dtypes or devices."""

    spec: Spec
    part: Part
    runs: int
    dtype: torch.dtype
    device: str


@lru_cache(maxsize=PROGRAMS_KEPT)
def _compiled(key: ProgramKey) -> Step:
    """One compiled function for all runs that share a program: on a CPU the runs of a population take turns in it.

    Each has a code object of its own: Dynamo counts recompilations, and gives up, by code object.
    """

    def run(state: AgentState, hyper: Hyper, *batch: Tensor) -> Tensor:
        return _stacked(key.spec, key.part, state, hyper, *batch)

    own = types.FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    options = dict(PINNED) if key.device.startswith("cuda") else None
    return torch.compile(own, fullgraph=True, dynamic=False, options=options)


class PeriodGraph:
    """One period of training steps (sampling included) captured in a CUDA graph; a replay costs one launch."""

    def __init__(self, engine: CompiledEngine) -> None:
        self._engine = engine
        self._offsets = torch.arange(1, engine.spec.period + 1, device=engine.state.rho.device)
        self._sums: dict[Kind, Tensor] = {}
        self._counts: dict[Kind, int] = {}
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
        for kind, sums in self._sums.items():
            means.add_sums(self._engine.names(kind), sums, self._counts[kind] * periods)
            sums.zero_()

    def _run(self) -> None:
        engine = self._engine
        self._counts = {}
        for t, batch in enumerate(engine.period_batches(self._offsets), 1):
            kind = step_kind(engine.spec, t)
            self._counts[kind] = self._counts.get(kind, 0) + 1
            first = 0
            for values in engine.run_parts(kind, batch):
                sums = self._sums_of(kind, values)[first : first + len(values)]
                sums += values  # float64 += float32: one launch
                first += len(values)

    def _sums_of(self, kind: Kind, like: Tensor) -> Tensor:
        """Sums [M, R] float64 of the metrics of the steps of ``kind``; made in the warm-up."""
        if kind not in self._sums:
            shape = len(self._engine.names(kind)), like.shape[1]
            self._sums[kind] = torch.zeros(shape, dtype=torch.float64, device=like.device)
        return self._sums[kind]
