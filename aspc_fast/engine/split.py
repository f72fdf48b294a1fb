"""A population on a CPU: its runs one after the other, a slice of steps each.

A single 256-wide run fills a CPU already; several at once only push each other's activations out of the cache. Runs
never touch each other's numbers, so walking the run axis gives exactly what each run gives alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.engine.base import Engine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.replay import Replay


class SplitEngine:
    """See ``aspc_fast.engine.base.Engine``. ``make`` builds one run's engine on views of the population's state."""

    def __init__(
        self,
        make: Callable[[Spec, AgentState, Hyper, Replay | None], Engine],
        spec: Spec,
        state: AgentState,
        hyper: Hyper,
        replay: Replay | None = None,
    ) -> None:
        self.spec, self.state, self.hyper, self.replay = spec, state, hyper, replay
        self._parts = [
            make(spec, state.run(r), hyper.run(r), replay.run(r) if replay is not None else None)
            for r in range(state.runs)
        ]
        self.name = self._parts[0].name

    def step(self, batch: Batch) -> Metrics:
        """One training step of every run on a given batch."""
        own = [part.step(type(batch)(*(t[r : r + 1] for t in batch))) for r, part in enumerate(self._parts)]
        self.state.step.add_(1)
        return {name: torch.cat([metrics[name] for metrics in own]) for name in own[0]}

    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps of every run on sampled batches; their metrics go into ``means``."""
        own = []
        for part in self._parts:
            own.append(MetricMeans())
            part.advance(steps, own[-1])
        self.state.step.add_(steps)
        means.add_side_by_side(own)

    def restored(self) -> None:
        """The state was overwritten from outside."""
        for part in self._parts:
            part.state.step.copy_(self.state.step)
            part.restored()
