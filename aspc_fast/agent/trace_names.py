"""How an algorithm's authors name things, so that their golden traces can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    copies: Mapping[str, str] = field(default_factory=dict)
    """Networks that begin as another's copy, so that the file's initial weights do not name them -> the other."""


def sequential(
    spec: Spec, network: str, theirs: str, copy: int | None = None, stride: int = 2, norm: int = 2
) -> dict[str, Place]:
    """Places of a network (or its target) that is an nn.Sequential, parameters called ``theirs`` + "0.weight", ...

    stride: modules per hidden layer (Linear, ReLU, ...). norm: where LayerNorm stands among them.
    """
    places = {}
    depth = sum(name.startswith("w") for name in spec.layouts[network.removesuffix("_target")].names) - 1
    for name in spec.layouts[network.removesuffix("_target")].names:
        kind, layer = name.rstrip("0123456789"), name[len(name.rstrip("0123456789")) :]
        index = stride * (int(layer) if layer else depth) + (norm if kind in ("gain", "shift") else 0)
        parameter = "weight" if kind in ("w", "w_last", "gain") else "bias"
        places[f"{theirs}{index}.{parameter}"] = (network, copy, name)
    return places
