"""What an engine is, and which ones there are."""

from __future__ import annotations

from typing import Protocol

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.engine.metrics import MetricMeans

MIN_GRAPH_STEPS = 20  # a graph of fewer steps would be replayed too often


class Engine(Protocol):
    """Runs training steps of a whole population in place.

    ``state`` and ``hyper`` lie on the engine's device; ``spec`` is the common program.
    """

    name: str
    spec: Spec
    state: AgentState
    hyper: Hyper

    def step(self, batch: Batch) -> Metrics:
        """One training step on a given batch; the metrics [R] of its parts. For proofs and debugging."""
        ...

    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps on sampled batches; their metrics go into ``means``."""
        ...

    def restored(self) -> None:
        """The state was overwritten from outside (a checkpoint): take notice of its step."""
        ...


def graph_steps(spec: Spec) -> int:
    """Steps of one CUDA graph: whole periods, at least about MIN_GRAPH_STEPS steps."""
    return spec.period * max(1, MIN_GRAPH_STEPS // spec.period)
