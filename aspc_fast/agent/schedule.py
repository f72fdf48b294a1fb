"""Which stages a training step has, in which order, and one whole update."""

from __future__ import annotations

from typing import Literal

from torch.nn.functional import softplus

from aspc_fast.agent.aspc import meta_step
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.td3bc import Metrics, actor_step, critic_step, move_targets, target_values

Kind = Literal["critic", "actor", "meta"]
Part = Literal["critics", "policy", "policy and alpha"]

PARTS: dict[Kind, tuple[Part, ...]] = {
    "critic": ("critics",),
    "actor": ("critics", "policy"),
    "meta": ("critics", "policy and alpha"),
}
"""What each kind of step consists of, in order; the last part moves the targets, except after critics alone."""


def step_kind(spec: Spec, step: int) -> Kind:
    """What training step ``step`` (1, 2, ...) updates: critics; critics and actor; critics, actor and alpha."""
    if step % spec.policy_freq:
        return "critic"
    return "meta" if spec.learns_alpha and step % spec.period == 0 else "actor"


def update(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, kind: Kind) -> Metrics:
    """One training step in place: critic step, actor step with the updated Q1, meta step from theta', targets.

    Returns metrics [R] of the stages that ran, in that order.
    """
    metrics = Metrics()
    for part in PARTS[kind]:
        metrics |= run_part(spec, state, hyper, batch, part)
    return metrics


def run_part(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, part: Part) -> Metrics:
    """One of a step's ``PARTS``, in place: an engine may compile it by itself and use it in several kinds of step."""
    if part == "critics":
        state.step.add_(1)
        return critic_step(spec, state, hyper, batch, target_values(spec, state, hyper, batch))
    step, metrics = actor_step(spec, state, hyper, batch, with_gradient_q=part == "policy and alpha")
    if part == "policy and alpha":
        metrics |= meta_step(spec, state, hyper, batch, step)
    move_targets(state, hyper)
    return metrics | {"alpha_after": softplus(state.rho)}
