"""ASPC's meta step (arXiv 2508.19900): alpha learns from the loss after the actor's Adam step, in first-order form.

The actor's gradient is linear in alpha, g = alpha gQ + gBC, so d theta'/d alpha = -lr du/dg gQ with Adam's elementwise
derivative du/dg, and dL_outer/d alpha is L_outer's gradient along that direction: one forward-mode pass through the
updated actor. No double backward anywhere. ``reference.py`` holds the autograd version this must equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from aspc_fast.agent.adam import adam_, adam_derivative, per_run
from aspc_fast.agent.algorithm import Algorithm, Metrics
from aspc_fast.agent.networks import actor_tangent
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.td3bc import TRACE as TD3BC_TRACE
from aspc_fast.agent.td3bc import (
    ActorStep,
    PolicyValue,
    TD3BCConfig,
    actor_step,
    actor_updates,
    bc_cotangent,
    bc_errors,
    critics_part,
    first_rho,
    move_targets,
    policy_part,
    policy_value,
    rl_cotangent,
    td3bc_networks,
)
from aspc_fast.config import choice, derived, hyper, shared


@dataclass(frozen=True)
class ASPCConfig(TD3BCConfig):
    """Hyper-parameters of ASPC. Defaults are the paper's single set for all 39 datasets."""

    algo: str = "aspc"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    critic: Literal["robust", "plain"] = "robust"
    """robust: 3 hidden layers, LayerNorm after ReLU; plain: 2 hidden layers."""
    alpha: float = hyper(2.5, 0, open_low=True)
    """alpha_0: first weight of the RL term against cloning, > 0."""
    alpha_freq: int = shared(10, 1, 1_000_000)
    """k: actor updates per alpha update."""
    alpha_lr: float = derived(2e-3, 0, 1)
    """eta_alpha: Adam learning rate of rho (alpha = softplus(rho)) at alpha_freq 10; in proportion to alpha_freq."""
    alpha_lr_final: float = derived(0.01, 0, 1, open_low=True)
    """Share of eta_alpha that is left after alpha_lr_horizon training steps (exponential decay per alpha update)."""
    alpha_lr_horizon: int = derived(1_000_000, 1, 1e12)
    """Training steps over which alpha_lr_final is reached: a constant of the method, not the run's length."""
    ema: float = hyper(0.995, 0, 1)
    """kappa: memory of the running mean of Q, in [0, 1)."""
    loss_function: Literal[1, 2, 3, 4] = choice(4)
    """L_outer: 1 = eq1; 2 = eq1 + eq2; 3 = eq1 + eq3; 4 = eq1 + eq2 + eq3."""

    @property
    def period(self) -> int:
        """Training steps after which the schedule of updates repeats."""
        return self.policy_freq * self.alpha_freq

    @property
    def alpha_lr_initial(self) -> float:
        """Learning rate of the first alpha update."""
        return self.alpha_lr / 10 * self.alpha_freq

    @property
    def alpha_lr_decay(self) -> float:
        """Factor on alpha's learning rate per alpha update; as in the source, a horizon has a whole number of them."""
        updates = max(int(self.alpha_lr_horizon / self.period), 1)
        return float(self.alpha_lr_final ** (1 / updates))


def actor_direction(spec: Spec, state: AgentState, hyper: Hyper, step: ActorStep, textbook: bool = False) -> Tensor:
    """d theta'/d alpha [R, P] of the Adam step just taken."""
    assert step.gradient_q is not None, "a meta step needs actor_step(..., with_gradient_q=True)"
    updates = actor_updates(spec, state)
    slope = adam_derivative(spec, step.gradient, state.actor_m, state.actor_v, updates, textbook)
    return -per_run(hyper.actor_lr, 2) * slope * step.gradient_q


def outer_terms(
    hyper: Hyper, batch: Batch, before: ActorStep, after: PolicyValue, alpha: Tensor, ema_before: Tensor
) -> tuple[Metrics, tuple[Tensor, Tensor, Tensor]]:
    """eq1, eq2, eq3 [R] of the outer loss at the updated actor, and the gradient of each with respect to pi' [R, B, A].

    alpha is a constant in eq1, eq2 a constant in eq3, and the cloning errors of the old policy are constants.
    """
    q_mean, q_scale = after.q.mean(-1), after.q.abs().mean(-1)
    bc = bc_errors(hyper, after.actions, batch.actions)
    d_bc_mse = bc_cotangent(hyper, after.actions, batch.actions)
    bc_mse = bc.mean(-1)
    eq1 = bc_mse - alpha * q_mean / q_scale
    d_eq1 = rl_cotangent(after, q_scale) * per_run(alpha, 3) + d_bc_mse

    ema_q = (1.0 - hyper.ema) * q_mean + hyper.ema * ema_before
    delta_q = ema_q - ema_before
    eq2 = delta_q.square()
    d_eq2 = after.dq * per_run(2.0 * delta_q * (1.0 - hyper.ema) / bc.shape[-1], 3)

    bc_sup, shift = before.bc.amax(-1), before.bc - bc
    delta_bc_sup = shift.abs().amax(-1)
    eq3 = eq2 * bc_sup * delta_bc_sup
    at_max = (shift.abs() == per_run(delta_bc_sup, 2)).to(shift.dtype)
    share = at_max / at_max.sum(-1, keepdim=True)  # a tied maximum gives its gradient to all alike
    d_bc = -shift.sign() * share * per_run(eq2 * bc_sup * bc.shape[-1], 2)
    d_eq3 = d_bc_mse * d_bc.unsqueeze(-1)

    terms = {
        "eq1": eq1,
        "eq2": eq2,
        "eq3": eq3,
        "ema_q": ema_q,
        "delta_q": delta_q,
        "bc_sup": bc_sup,
        "delta_bc_sup": delta_bc_sup,
        "q_new_mean": q_mean,
        "q_new_abs_mean": q_scale,
        "bc_mse_new": bc_mse,
    }
    return terms, (d_eq1, d_eq2, d_eq3)


def meta_step(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, step: ActorStep) -> Metrics:
    """One Adam step on rho (alpha = softplus(rho)) and the new mean of Q, in place; ``state.actor`` is theta'."""
    direction = spec.params("actor", actor_direction(spec, state, hyper, step))
    after = policy_value(spec, state, hyper, batch)
    alpha = softplus(state.rho)
    terms, cotangents = outer_terms(hyper, batch, step, after, alpha, state.ema_q)
    motion = actor_tangent(after.params, after.tape, direction, per_run(hyper.max_action, 3))
    d_rho = torch.sigmoid(state.rho) * torch.stack([(c * motion).sum((-2, -1)) for c in cotangents])
    weights = torch.stack((torch.ones_like(hyper.weight_eq2), hyper.weight_eq2, hyper.weight_eq3))
    gradient = (weights * d_rho).sum(0)

    done = torch.div(state.step, spec.period, rounding_mode="floor")
    lr = (hyper.alpha_lr * hyper.alpha_lr_decay ** (done - 1)).to(state.rho.dtype)
    adam_(spec, state.rho, gradient, state.rho_m, state.rho_v, lr, done)
    state.ema_q.copy_(terms["ema_q"])
    metrics = {
        **terms,
        "alpha_loss": terms["eq1"] + hyper.weight_eq2 * terms["eq2"] + hyper.weight_eq3 * terms["eq3"],
        "alpha_grad": gradient,
        "alpha_grad_eq1": d_rho[0],
        "alpha_grad_eq2": d_rho[1],
        "alpha_grad_eq3": d_rho[2],
        "alpha_lr_used": lr,
    }
    return metrics


def policy_and_alpha_part(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """The part of every period's last step: the actor, alpha from theta', then the targets."""
    step, metrics = actor_step(spec, state, hyper, batch, with_gradient_q=True)
    metrics |= meta_step(spec, state, hyper, batch, step)
    move_targets(state, hyper)
    return metrics | {"alpha_after": softplus(state.rho)}


def parts_of(config: Any, t: int) -> tuple[str, ...]:
    """Critics at each step; the policy at every policy_freq-th; alpha at every alpha_freq-th of these."""
    if t % config.policy_freq:
        return ("critics",)
    return ("critics", "policy") if t % config.period else ("critics", "policy and alpha")


def columns(config: Any) -> dict[str, float]:
    """alpha's learning rate and its decay, and which terms the outer loss has."""
    return {
        "alpha_lr": config.alpha_lr_initial,
        "alpha_lr_decay": config.alpha_lr_decay,
        "weight_eq2": float(config.loss_function in (2, 4)),
        "weight_eq3": float(config.loss_function in (3, 4)),
    }


def after_step(spec: Spec, state: AgentState, hyper: Hyper, step: int) -> dict[str, float]:
    """What a trace records of rho after every step: rho, alpha, and the rate of the next alpha update."""
    lr = float(hyper.alpha_lr[0]) * float(hyper.alpha_lr_decay[0]) ** (step // spec.period)
    rho = state.rho[0]
    return {"alpha_raw_after": float(rho), "alpha_after": float(softplus(rho)), "alpha_lr_after": lr}


ALGORITHM = Algorithm(
    name="aspc",
    title="ASPC",
    config=ASPCConfig,
    networks=td3bc_networks,
    scalars=lambda config: first_rho(config) | {"rho_m": 0.0, "rho_v": 0.0, "ema_q": 0.0},
    columns=columns,
    exact=("alpha_lr_decay",),
    parts={"critics": critics_part, "policy": policy_part, "policy and alpha": policy_and_alpha_part},
    parts_of=parts_of,
    period=lambda config: config.period,
    batch=Batch,
    shown=("critic_loss", "actor_loss", "q1_mean", "alpha_after"),
    curve="alpha_after",
    source="arXiv 2508.19900",
    trace=replace(
        TD3BC_TRACE,
        algo="aspc",
        hyper={**TD3BC_TRACE.hyper, "ema_alpha": "ema", "alpha_freq": "alpha_freq", "loss_function": "loss_function"},
        after=after_step,
    ),
)
