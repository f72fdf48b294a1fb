"""How an algorithm's authors name things, so that their golden traces can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aspc_fast.agent.state import AgentState, Hyper, Spec

Place = tuple[str, int | None, str]
"""One of our tensors: network (or a scalar of the state, with an empty tensor name), copy, name in the layout."""


@dataclass(frozen=True)
class TraceNames:
    """algo: what the file's meta_json says. hyper: their hyper-parameters' names -> ours ("" where it has no say here).
    batch: our batch fields -> theirs. weights: their parameters ("critic_1/net.0.weight") -> ours, for a program.
    config: what else of our configuration the file tells, by its meta and arrays. after: quantities recorded after a
    step (1, 2, ...) that the step's metrics do not hold, from the state.
    """

    algo: str
    hyper: Mapping[str, str]
    batch: Mapping[str, str]
    weights: Callable[[Spec], dict[str, Place]]
    config: Callable[[dict[str, Any], dict[str, np.ndarray]], dict[str, Any]] = lambda meta, arrays: {}
    after: Callable[[Spec, AgentState, Hyper, int], dict[str, float]] = lambda spec, state, hyper, step: {}
    scale_gradient: frozenset[str] = frozenset()
    """Outputs to be held to 1e-8 instead of 1e-9 (hyper-gradients of tiny size)."""
