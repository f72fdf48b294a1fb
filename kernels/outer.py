"""Outer loss and the Adam step on rho (alpha = softplus(rho)) from per-sample numbers; one program per run.

Its twin is ``agent.aspc.meta_step``.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.state import AgentState, Spec
from aspc_fast.kernels.common import (
    ALPHA_LR,
    EMA,
    HYPER_COLUMNS,
    LEARNS_ALPHA,
    META_K1,
    WEIGHT_EQ2,
    WEIGHT_EQ3,
    record,
    sigmoid,
    softplus,
)
from aspc_fast.kernels.problem import META_METRICS, METRICS, Problem, Workspace
from aspc_fast.kernels.target import power

FIRST = tl.constexpr(METRICS.index(META_METRICS[0]))
ALPHA_AFTER = tl.constexpr(METRICS.index("alpha_after"))


@triton.jit
def outer_kernel(
    rho,
    rho_m,
    rho_v,
    ema_q,
    hyper,
    log2_decay,
    q,
    bc,
    slope_q,
    slope_bc,
    step,
    clock,
    metrics,
    metric_sums,
    runs,
    PERIOD: tl.constexpr,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    EPS: tl.constexpr,
    B: tl.constexpr,
    BP: tl.constexpr,
):
    """Program (run).

    Updates rho, rho_m, rho_v, ema_q [R]. Reads hyper [R, 16], log2_decay float64 [R] (of alpha's learning rate, per
    meta step), q and bc [2, R, B] (before and after the actor's step), slope_q, slope_bc [R, B] (see policy_kernel),
    step int64 [] (this step), clock: two float64 bias corrections. metrics [M, R], metric_sums float64 [M, R].
    """
    run = tl.program_id(0)
    hyper += run * HYPER_COLUMNS
    sample = tl.arange(0, BP)
    exists = sample < B
    at = run * B + sample
    values = tl.load(q + runs * B + at, mask=exists, other=0.0)
    bc_old = tl.load(bc + at, mask=exists, other=0.0)
    bc_new = tl.load(bc + runs * B + at, mask=exists, other=0.0)
    along_q = tl.load(slope_q + at, mask=exists, other=0.0)
    along_bc = tl.load(slope_bc + at, mask=exists, other=0.0)
    old_rho, ema_before, ema = tl.load(rho + run), tl.load(ema_q + run), tl.load(hyper + EMA)
    alpha = softplus(old_rho)

    q_mean, q_scale, bc_mse = tl.sum(values, 0) / B, tl.sum(tl.abs(values), 0) / B, tl.sum(bc_new, 0) / B
    sum_q, sum_bc = tl.sum(along_q, 0), tl.sum(along_bc, 0)
    eq1 = bc_mse - alpha * q_mean / q_scale
    d_eq1 = sum_bc - sum_q * alpha / (q_scale * B)
    ema_new = (1.0 - ema) * q_mean + ema * ema_before
    delta_q = ema_new - ema_before
    eq2 = delta_q * delta_q
    d_eq2 = sum_q * (2.0 * delta_q * (1.0 - ema) / B)
    bc_sup, shift = tl.max(bc_old, 0), bc_old - bc_new
    delta_bc_sup = tl.max(tl.abs(shift), 0)
    eq3 = eq2 * bc_sup * delta_bc_sup
    # a tied maximum gives its gradient to all alike; |.|' is 0 at 0
    at_max = tl.where(exists & (tl.abs(shift) == delta_bc_sup), 1.0, 0.0)
    sign = tl.where(shift > 0, 1.0, tl.where(shift < 0, -1.0, 0.0))
    d_eq3 = -tl.sum(sign * at_max * along_bc, 0) / tl.sum(at_max, 0) * (eq2 * bc_sup * B)

    weight_2, weight_3, through = tl.load(hyper + WEIGHT_EQ2), tl.load(hyper + WEIGHT_EQ3), sigmoid(old_rho)
    d_eq1, d_eq2, d_eq3 = d_eq1 * through, d_eq2 * through, d_eq3 * through
    gradient = d_eq1 + weight_2 * d_eq2 + weight_3 * d_eq3
    k1, k2 = tl.load(clock), tl.load(clock + 1)
    kind = alpha.dtype
    done = tl.load(step) // PERIOD
    lr = (tl.load(hyper + ALPHA_LR) * power(tl.load(log2_decay + run), done - 1)).to(kind)
    m, v = tl.load(rho_m + run), tl.load(rho_v + run)
    m += (gradient - m) * (1.0 - BETA1)
    v = v * BETA2 + gradient * gradient * (1.0 - BETA2)
    rate = (lr * tl.load(hyper + LEARNS_ALPHA) / k1).to(kind)
    new_rho = old_rho - m / (tl.sqrt(v) * (1.0 / tl.sqrt(k2)).to(kind) + EPS) * rate
    tl.store(rho + run, new_rho)
    tl.store(rho_m + run, m)
    tl.store(rho_v + run, v)
    tl.store(ema_q + run, ema_new)

    loss = eq1 + weight_2 * eq2 + weight_3 * eq3
    told = (eq1, eq2, eq3, ema_new, delta_q, bc_sup, delta_bc_sup, q_mean, q_scale, bc_mse)
    told += (loss, gradient, d_eq1, d_eq2, d_eq3, lr)
    record(metrics, metric_sums, FIRST, run, runs, told)
    record(metrics, metric_sums, ALPHA_AFTER, run, runs, (softplus(new_rho),))


def launch_outer(
    problem: Problem, work: Workspace, spec: Spec, state: AgentState, hyper: Tensor, log2_decay: Tensor
) -> None:
    """The alpha step after the policy pass at theta'; hyper [R, 16], log2_decay float64 [R]."""
    outer_kernel[(problem.runs,)](
        *(state.rho, state.rho_m, state.rho_v, state.ema_q, hyper, log2_decay),
        *(work["q"], work["bc"], work["slope_q"], work["slope_bc"], state.step, work.clock[META_K1.value :]),
        *(work.metrics, work.sums, problem.runs),
        PERIOD=spec.period,
        BETA1=spec.config.adam_beta1,
        BETA2=spec.config.adam_beta2,
        EPS=spec.config.adam_eps,
        B=problem.batch,
        BP=triton.next_power_of_2(problem.batch),
        num_warps=4,
        enable_fp_fusion=True,
    )
