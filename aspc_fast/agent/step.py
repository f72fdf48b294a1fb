"""One training step: the parts that the algorithm declares, one after the other."""

from __future__ import annotations

from typing import Any

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Hyper, Spec


def update(spec: Spec, state: AgentState, hyper: Hyper, batch: Any, parts: tuple[str, ...]) -> Metrics:
    """One training step in place. Returns the metrics [R] of its parts, in that order."""
    metrics = Metrics()
    for i, part in enumerate(parts):
        metrics |= run_part(spec, state, hyper, batch, part, first=i == 0)
    return metrics


def run_part(spec: Spec, state: AgentState, hyper: Hyper, batch: Any, part: str, first: bool) -> Metrics:
    """One part of a step, in place; the ``first`` moves the clock. An engine may compile a part by itself."""
    if first:
        state.step.add_(1)
    return spec.algorithm.parts[part](spec, state, hyper, batch)
