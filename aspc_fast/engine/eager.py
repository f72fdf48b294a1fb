"""The readable engine: the pure functions called one after the other. CPU or GPU, any dtype."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import Batch
from aspc_fast.agent.step import update
from aspc_fast.engine.base import Learners
from aspc_fast.engine.metrics import MetricMeans


class EagerEngine:
    """See ``aspc_fast.engine.base.Engine``."""

    name = "eager"

    def __init__(self, learners: Learners) -> None:
        self.spec, self.state, self.hyper, self.replay = learners
        self._done = int(self.state.step)

    def restored(self) -> None:
        """The state was overwritten from outside."""
        self._done = int(self.state.step)

    @torch.no_grad()
    def step(self, batch: Batch) -> Metrics:
        """One training step on a given batch."""
        self._done += 1
        return update(self.spec, self.state, self.hyper, batch, self.spec.parts(self._done))

    @torch.no_grad()
    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps on sampled batches; their metrics go into ``means``."""
        for batch in self._batches(steps):
            means.add(self.step(batch))

    def _batches(self, steps: int) -> Iterator[Batch]:
        assert self.replay is not None, "advance() needs a replay store"
        first, last = self._done + 1, self._done + steps
        while first <= last:
            chunk = min(self.replay.steps_per_draw(self.spec), last - first + 1)
            yield from self.replay.sample(self.spec, self.hyper, first, chunk)
            first += chunk
