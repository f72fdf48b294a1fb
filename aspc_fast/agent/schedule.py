"""Which stages a training step has, in which order, and one whole update."""

from __future__ import annotations

from typing import Literal

from torch.nn.functional import softplus

from aspc_fast.agent.aspc import meta_step
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.td3bc import Metrics, actor_step, critic_step, move_targets, target_values

Kind = Literal["critic", "actor", "meta"]


def step_kind(spec: Spec, step: int) -> Kind:
    """What training step ``step`` (1, 2, ...) updates: critics; critics and actor; critics, actor and alpha."""
    if step % spec.policy_freq:
        return "critic"
    return "meta" if spec.learns_alpha and step % spec.period == 0 else "actor"


def update(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, kind: Kind) -> Metrics:
    """One training step in place: critic step, actor step with the updated Q1, meta step from theta', targets.

    Returns metrics [R] of the stages that ran, in that order.
    """
    state.step.add_(1)
    targets = target_values(spec, state, hyper, batch)
    metrics = critic_step(spec, state, hyper, batch, targets)
    if kind != "critic":
        step, actor_metrics = actor_step(spec, state, hyper, batch, with_gradient_q=kind == "meta")
        metrics |= actor_metrics
        if kind == "meta":
            metrics |= meta_step(spec, state, hyper, batch, step)
        move_targets(state, hyper)
        metrics["alpha_after"] = softplus(state.rho)
    return metrics
