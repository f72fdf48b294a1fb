"""One Adam step of a network on a loss: the short way to write an algorithm, with autograd doing the backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aspc_fast.agent.adam import adam_step
from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.layout import MLPParams
from aspc_fast.agent.state import AgentState, Hyper, Spec

Loss = Callable[[MLPParams], tuple[Tensor, Metrics]]
"""Weights of a network -> a loss for each run, [R], and metrics [R]."""


def descend(
    spec: Spec, state: AgentState, hyper: Hyper, name: str, loss: Loss, updates: Tensor, lr: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """One Adam step of network ``name`` on ``loss``, in place; ``updates`` int64 [] counts it. Returns what loss gave.

    ``lr`` [R]: a learning rate other than the declared one, for a schedule.

    Runs (and copies) never touch each other's numbers, so the gradient of the sum over runs is each run's own. The same
    under torch.compile, where it costs what a backward pass by hand does.
    """
    return descend_together(spec, state, hyper, (name,), loss, updates, lr)


def descend_together(
    spec: Spec,
    state: AgentState,
    hyper: Hyper,
    names: tuple[str, ...],
    loss: Callable[..., tuple[Tensor, Metrics]],
    updates: Tensor,
    lr: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """``descend`` for several networks with one loss, which takes their weights in the order of ``names``."""

    def total(flats: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Metrics]]:
        weights = (spec.params(name, flat) for name, flat in zip(names, flats, strict=True))
        per_run, metrics = loss(*weights)
        return per_run.sum(), (per_run, metrics)

    gradients, kept = torch.func.grad(total, has_aux=True)(tuple(getattr(state, name) for name in names))
    for name, gradient in zip(names, gradients, strict=True):
        for copy in range(len(spec.nets[name].depths or ())):
            for tensor in spec.nets[name].spare(spec.layouts[name], gradient[:, copy], copy):
                tensor.zero_()
        adam_step(spec, state, hyper, name, gradient, updates, lr)
    return kept
