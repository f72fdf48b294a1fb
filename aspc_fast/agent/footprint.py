"""What one update computes and keeps, found by running the algorithm's parts on tensors without storage.

Nothing is counted by hand: any algorithm's floating-point operations, memory and traffic follow from its own functions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from aspc_fast.agent.state import AgentState, RunShape, Spec, make_hyper, state_from_weights
from aspc_fast.agent.step import update


@dataclass(frozen=True)
class Footprint:
    """One run's update, mean over a period. flops: of matrix products. traffic: bytes of weights, moments and targets
    that pass through memory when nothing stays in a cache. state: bytes of the learning state. working: bytes that an
    update holds besides, at its widest moment (all float32)."""

    flops: float
    traffic: float
    state: int
    working: int


@lru_cache(maxsize=256)
def footprint(spec: Spec) -> Footprint:
    """Of one run of this program."""
    config, run = spec.config, RunShape(*spec.dims)
    counts = Counter(spec.parts(t) for t in range(1, spec.period + 1))
    flops, traffic, working = 0.0, 0.0, 0
    with torch.device("meta"), torch.no_grad():
        hyper = make_hyper(spec, [config], [run], [0], torch.float32)
        for parts, count in counts.items():
            state, batch = _state(spec), _batch(spec)
            before = {name: t._version for name, t in state.tensors().items()}
            live = _LiveBytes()
            with FlopCounterMode(display=False) as counter, live:
                update(spec, state, hyper, batch, parts)
            flops += count * counter.get_total_flops() / spec.period
            traffic += count * _traffic(spec, state, before) / spec.period
            working = max(working, live.peak)
    return Footprint(flops, traffic, _state(spec).nbytes(), working + _batch_bytes(spec))


def _state(spec: Spec) -> AgentState:
    with torch.device("meta"):
        weights = {
            name: torch.empty(1, *([net.copies] if net.copies else []), spec.layouts[name].size)
            for name, net in spec.nets.items()
        }
        scalars = {name: torch.empty(1) for name in spec.algorithm.scalars(spec.config)}
    return state_from_weights(spec, weights, scalars)


def _batch(spec: Spec) -> Any:
    size, (d, a) = spec.config.batch_size, spec.dims
    with torch.device("meta"):
        fields = [torch.empty(1, size, d), torch.empty(1, size, a), torch.empty(1, size), torch.empty(1, size, d)]
        fields.append(torch.empty(1, size))
        if "next_actions" in spec.algorithm.data:
            fields.append(torch.empty(1, size, a))
        if "outer" in spec.algorithm.data:
            fields += [torch.empty(1, size, d), torch.empty(1, size, a), torch.empty(1, size, d), torch.empty(1, size)]
        draws = [torch.empty(1, size, *map(spec.dims.size, draw.sizes)) for draw in spec.draws]
    return spec.algorithm.batch(*fields, *draws)


def _batch_bytes(spec: Spec) -> int:
    """A batch, the places it is gathered from and the draws' words."""
    return 3 * sum(t.numel() * t.element_size() for t in _batch(spec))


def _traffic(spec: Spec, state: AgentState, before: dict[str, int]) -> float:
    """Adam reads and writes weights and both moments; a target is read, and read and written when it moves."""
    moved = {name for name, t in state.tensors().items() if t._version != before[name]}
    total = 0.0
    for name, net in spec.nets.items():
        flat: Tensor = getattr(state, name)
        times = 6 * (f"{name}_m" in moved) + net.target * (1 + 2 * (f"{name}_target" in moved))
        total += times * flat.numel() * flat.element_size()
    return total


class _LiveBytes(TorchDispatchMode):
    """The most bytes that tensors made inside held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in known:
                    self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return made
