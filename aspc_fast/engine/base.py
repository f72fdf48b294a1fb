"""What an engine is, and what it is made of."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.replay import Replay

MIN_GRAPH_STEPS = 20  # a graph of fewer steps would be replayed too often


class Learners(NamedTuple):
    """What an engine trains: the runs' common program, learning state and hyper-parameters, and their data.

    Without ``replay`` an engine steps on given batches only.
    """

    spec: Spec
    state: AgentState
    hyper: Hyper
    replay: Replay | None = None

    def part(self, runs: slice) -> Learners:
        """These runs alone: views of the state, whose step is a copy."""
        replay = None if self.replay is None else self.replay.part(runs)
        return Learners(self.spec, self.state.part(runs), self.hyper.part(runs), replay)


class Engine(Protocol):
    """Runs training steps of a whole population, its ``Learners``, in place.

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
