"""A population in groups of runs with an engine each.

Runs never touch each other's numbers, so any groups give exactly what each run gives alone. On a CPU a group is a run
and they take turns, a slice of steps each: a single 256-wide run fills a CPU already; several at once only push each
other's activations out of the cache. On a GPU groups take turns on some streams: what one group leaves of the device,
of memory in its products or of tensor cores in Adam, is there for another, and small groups find their activations in
the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import Batch
from aspc_fast.engine.base import Engine, Learners
from aspc_fast.engine.metrics import MetricMeans


class SplitEngine:
    """See ``aspc_fast.engine.base.Engine``. ``make`` builds one group's engine on views of the population's state.

    ``groups`` (default: one for each run) are as even as can be; on CUDA they are spread over ``branches`` streams.
    """

    def __init__(
        self,
        make: Callable[[Learners], Engine],
        learners: Learners,
        *,
        groups: int | None = None,
        branches: int = 1,
    ) -> None:
        self.spec, self.state, self.hyper, self.replay = learners
        state = self.state
        groups = groups or state.runs
        self._runs = [slice(*ends) for ends in pairwise(state.runs * i // groups for i in range(groups + 1))]
        self._parts = [make(learners.part(runs)) for runs in self._runs]
        self.name = self._parts[0].name
        is_cuda = state.device.type == "cuda"
        self._streams = [torch.cuda.Stream(state.device) for _ in range(branches)] if is_cuda else []

    def step(self, batch: Batch) -> Metrics:
        """One training step of every run on a given batch."""
        own = [
            part.step(type(batch)(*(t[runs] for t in batch)))
            for runs, part in zip(self._runs, self._parts, strict=True)
        ]
        self.state.step.add_(1)
        return {name: torch.cat([metrics[name] for metrics in own]) for name in own[0]}

    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps of every run on sampled batches; their metrics go into ``means``."""
        own = []
        for stream in self._streams:
            stream.wait_stream(torch.cuda.current_stream(self.state.device))
        for number, part in enumerate(self._parts):
            own.append(MetricMeans())
            with self._branch(number):
                part.advance(steps, own[-1])
        for stream in self._streams:
            torch.cuda.current_stream(self.state.device).wait_stream(stream)
        self.state.step.add_(steps)
        means.add_side_by_side(own)

    def _branch(self, number: int) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._streams[number % len(self._streams)]) if self._streams else nullcontext()

    def restored(self) -> None:
        """The state was overwritten from outside."""
        for part in self._parts:
            part.state.step.copy_(self.state.step)
            part.restored()
