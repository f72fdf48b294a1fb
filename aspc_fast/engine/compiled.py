"""The same pure functions under torch.compile; on CUDA a whole period is one CUDA graph that is replayed."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.step import run_part, update
from aspc_fast.engine.base import Learners, graph_steps
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans, Names
from aspc_fast.engine.sampling import on_device, triton_sampler

WARM_UP_PERIODS = 2  # before capture: the compiler and the libraries allocate what they keep
PROGRAMS_KEPT = 48  # compiled parts kept in a process, three for each population's program; the oldest go first
# On CUDA Inductor times some choices (padding of products, shapes of reductions), which change the order of sums: a
# run that is resumed in another process would not end bit for bit where it would have. This fixes them beforehand.
PINNED: dict[str, str | int | bool | Callable[..., object]] = {"deterministic": True, "shape_padding": False}


# On a CPU Dynamo's guards, some hundred checks at each call, cost 5 % of an update. What they look at is fixed: state
# and hyper-parameters are those of the ProgramKey's layout, a batch of another layout gets a program of its own, and
# everything else is in the key. The program itself still checks sizes and strides, in C++ and before anything runs.
UNGUARDED: dict[str, str | int | bool | Callable[..., object]] = {
    "guard_filter_fn": lambda guards: [False] * len(guards)
}

Step = Callable[..., Tensor]
Parts = tuple[str, ...]
Layout = tuple[tuple[object, ...], ...]


class CompiledEngine(EagerEngine):
    """See ``aspc_fast.engine.base.Engine``. One compiled function for each part of a step, without a graph break.

    If the compiler fails on this machine, the engine says so once and goes on with the same functions uncompiled.
    """

    name = "compiled"

    def __init__(self, learners: Learners) -> None:
        super().__init__(learners)
        self._parts: dict[tuple[str, bool, Layout], Step] = {}
        self._names: dict[Parts, Names] = {}
        self.compiles = True
        self._period: PeriodGraph | None = None
        self._sampler = triton_sampler(learners)

    @torch.no_grad()
    def step(self, batch: Batch) -> Metrics:
        """One training step on a given batch."""
        parts, values = self._step(batch)
        return dict(zip(self._names[parts], values, strict=True))

    @torch.no_grad()
    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps on sampled batches; their metrics go into ``means``."""
        period, last = graph_steps(self.spec), self._done + steps
        with on_device(self.state.device):
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

    def _batches(self, steps: int) -> Iterator[Any]:
        if self._sampler is None:
            yield from super()._batches(steps)
        else:  # always the same memory layout: the compiled parts are made for one
            for _ in range(steps):
                yield self._sampler()

    def period_batches(self, offsets: Tensor) -> Iterator[Any]:
        """The batches of the steps that begin now; ``offsets`` int64 [steps] = 1, 2, ... on the device."""
        if self._sampler is not None:
            yield from self._batches(len(offsets))
            return
        assert self.replay is not None, "advance() needs a replay store"
        chunk, numbers = self.replay.steps_per_draw(self.spec), self.state.step + offsets
        for t in range(len(offsets)):
            if t % chunk == 0:
                drawn = self.replay.draw(self.spec, self.hyper, numbers[t : t + chunk])
            yield self.replay.gather(self.spec, *(values[t % chunk] for values in drawn))

    def _step(self, batch: Any) -> tuple[Parts, Tensor]:
        self._done += 1
        parts = self.spec.parts(self._done)
        return parts, self.run(parts, batch)

    def run(self, parts: Parts, batch: Any) -> Tensor:
        """One step of these parts: its metrics [M, R]."""
        return torch.cat(list(self.run_parts(parts, batch)))

    def run_parts(self, parts: Parts, batch: Any) -> Iterator[Tensor]:
        """The parts of one step, each run when it is asked for: its metrics [M_part, R]. Compiles what it has not met
        before."""
        if parts not in self._names:
            self._names[parts] = tuple(update(self.spec, self.state.clone(), self.hyper, batch, parts))
        layout: Layout = tuple((t.shape, t.stride(), t.dtype) for t in batch)
        for i, part in enumerate(parts):
            key = part, i == 0, layout
            yield (self._parts.get(key) or self._compile(key, batch))(*batch)

    def names(self, parts: Parts) -> Names:
        """Names of the metrics of a step of ``parts`` that has been run."""
        return self._names[parts]

    def _compile(self, part: tuple[str, bool, Layout], example: Batch) -> Step:
        state, before, (name, first, batch) = self.state, self.state.clone(), part
        self._parts[part] = plain = partial(_stacked, self.spec, name, first, state, self.hyper)
        if self.compiles:
            device, threads = str(state.device), torch.get_num_threads()
            tensors = [*state.tensors().values(), *self.hyper.tensors().values()]
            layout = batch + layout_of(tensors) if device == "cpu" else ()  # on CUDA Dynamo's guards look at it
            key = ProgramKey(self.spec, name, first, state.runs, state.dtype, device, layout, threads)
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


def layout_of(tensors: Sequence[Tensor]) -> Layout:
    """Shape, strides, dtype of each tensor, and which is the first that lies where it does."""
    first: dict[int, int] = {}
    return tuple((t.shape, t.stride(), t.dtype, first.setdefault(t.data_ptr(), i)) for i, t in enumerate(tensors))


class ProgramKey(NamedTuple):
    """What a compiled part depends on; ``layout`` of the batch, then of state and hyper-parameters."""

    spec: Spec
    part: str
    first: bool
    runs: int
    dtype: torch.dtype
    device: str
    layout: Layout = ()
    threads: int = 1


@lru_cache(maxsize=PROGRAMS_KEPT)
def _compiled(key: ProgramKey) -> Step:
    """One compiled function for all runs that share a program: on a CPU the runs of a population take turns in it.

    Each has a code object of its own: Dynamo counts recompilations, and gives up, by code object.
    """

    def run(state: AgentState, hyper: Hyper, *batch: Tensor) -> Tensor:
        return _stacked(key.spec, key.part, key.first, state, hyper, *batch)

    own = types.FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    options = dict(PINNED if key.device.startswith("cuda") else UNGUARDED)
    return torch.compile(own, fullgraph=True, dynamic=False, options=options)


class PeriodGraph:
    """One period of training steps (sampling included) captured in a CUDA graph; a replay costs one launch."""

    def __init__(self, engine: CompiledEngine) -> None:
        self._engine = engine
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
        self._counts = {}
        for t, batch in enumerate(engine.period_batches(self._offsets), 1):
            parts = engine.spec.parts(t)
            self._counts[parts] = self._counts.get(parts, 0) + 1
            first = 0
            for values in engine.run_parts(parts, batch):
                sums = self._sums_of(parts, values)[first : first + len(values)]
                sums += values  # float64 += float32: one launch
                first += len(values)

    def _sums_of(self, parts: Parts, like: Tensor) -> Tensor:
        """Sums [M, R] float64 of the metrics of the steps of ``parts``; made in the warm-up."""
        if parts not in self._sums:
            shape = len(self._engine.names(parts)), like.shape[1]
            self._sums[parts] = torch.zeros(shape, dtype=torch.float64, device=like.device)
        return self._sums[parts]
