"""Actor's backward pass: the loss's gradient at the actions, then down to the gradients before the activations."""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import softplus as torch_softplus

from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.td3bc import (
    Metrics,
    actor_gradient,
    bc_cotangent,
    bc_errors,
    per_run,
    policy_value,
    rl_cotangent,
)
from aspc_fast.kernels.common import (
    HYPER_COLUMNS,
    MAX_ACTION,
    TRUE_ACT_DIM,
    add_product,
    load_tile,
    record,
    softplus,
    store_tile,
    zeros,
)
from aspc_fast.kernels.problem import ACTOR_METRICS, METRICS, Problem, Workspace

FIRST = tl.constexpr(METRICS.index(ACTOR_METRICS[0]))  # row of this stage's first metric
ALPHA_AFTER = tl.constexpr(METRICS.index("alpha_after"))


@triton.jit
def actor_kernel(
    actor,
    rho,
    hyper,
    inputs,
    hidden,
    squashed_in,
    actions,
    dq,
    q,
    bc,
    d_squashed,
    d_hidden,
    sums,
    metrics,
    metric_sums,
    actor_size,
    sums_size,
    width,
    BP: tl.constexpr,
    S: tl.constexpr,
):
    """Program (row tile, set, run) with T row tiles; set 0 is the whole gradient alpha gQ + gBC, set 1 (only launched
    on meta steps) gQ alone. BP is the power of two from B.

    Reads actor [R, P_actor], rho [R], hyper [R, 16], inputs [R, B, KP], hidden [R, 2, B, H], squashed_in, actions, dq
    [R, B, AP], q, bc [R, B]. Writes d_squashed [R, 2, B, AP], d_hidden [R, 2, 2, B, H] (set, layer) and sums
    [R, 2, T, N], the tile's part of the three biases' gradients. metrics [M, R], metric_sums float64 [M, R].
    """
    tile, part, run = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    first, count = tile * S.BM, S.B - tile * S.BM
    at = run * S.B + first
    hyper += run * HYPER_COLUMNS
    actor += run * actor_size
    inputs += at * S.KP
    hidden += (run * 2 * S.B + first) * S.H
    d_squashed += ((run * 2 + part) * S.B + first) * S.AP
    d_hidden += ((run * 2 + part) * 2 * S.B + first) * S.H
    sums += ((run * 2 + part) * tl.num_programs(0) + tile) * sums_size

    sample = tl.arange(0, BP)
    values = tl.load(q + run * S.B + sample, mask=sample < S.B, other=0.0)
    q_scale = tl.sum(tl.abs(values), 0) / S.B
    alpha = softplus(tl.load(rho + run))
    if (tile == 0) & (part == 0):
        q_mean = tl.sum(values, 0) / S.B
        bc_mse = tl.sum(tl.load(bc + run * S.B + sample, mask=sample < S.B, other=0.0), 0) / S.B
        runs = tl.num_programs(2)
        scale = alpha / q_scale
        told = (bc_mse - scale * q_mean, q_mean, q_scale, bc_mse, alpha, scale)
        record(metrics, metric_sums, FIRST, run, runs, told)
        if tl.num_programs(1) == 1:  # no meta step follows that would change alpha
            record(metrics, metric_sums, ALPHA_AFTER, run, runs, (alpha,))

    rows, c, n = tl.arange(0, S.BM), tl.arange(0, S.AP), tl.arange(0, S.H)
    mask = (rows < count)[:, None] & (c < S.A)[None, :]
    difference = load_tile(actions + at * S.AP, count, S.BM, S.AP)
    difference -= tl.load(inputs + S.D + rows[:, None] * S.KP + c[None, :], mask=mask, other=0.0)
    d_rl = load_tile(dq + at * S.AP, count, S.BM, S.AP) * (-1.0 / (q_scale * S.B))
    d_bc = difference * (2.0 / (tl.load(hyper + TRUE_ACT_DIM) * S.B))
    d_actions = tl.where(part == 0, d_rl * alpha + d_bc, d_rl)
    squashed = load_tile(squashed_in + at * S.AP, count, S.BM, S.AP)
    d_x = d_actions * tl.load(hyper + MAX_ACTION) * (1.0 - squashed * squashed)
    store_tile(d_squashed, d_x, count)
    tl.store(sums + 2 * S.H + c, tl.sum(d_x, 0))
    tl.debug_barrier()

    w1: tl.constexpr = (S.D + 1) * S.H
    w2: tl.constexpr = w1 + (S.H + 1) * S.H
    d_x = zeros(actor, S.BM, S.H)
    d_x = add_product(d_x, d_squashed, S.AP, actor + w2, 1, S.A, count, S.A, S.A, S.H, S.AP, S)
    d_x = tl.where(load_tile(hidden + S.B * S.H, count, S.BM, S.H) <= 0, 0.0, d_x)
    store_tile(d_hidden + S.B * S.H, d_x, count)
    tl.store(sums + S.H + n, tl.sum(d_x, 0))
    tl.debug_barrier()
    d_x = zeros(actor, S.BM, S.H)
    d_x = add_product(d_x, d_hidden + S.B * S.H, S.H, actor + w1, 1, S.H, count, width, S.H, S.H, S.BK, S)
    d_x = tl.where(load_tile(hidden, count, S.BM, S.H) <= 0, 0.0, d_x)
    store_tile(d_hidden, d_x, count)
    tl.store(sums + n, tl.sum(d_x, 0))


def launch_actor(problem: Problem, work: Workspace, state: AgentState, hyper: Tensor, meta: bool) -> None:
    """The actor's backward pass after the policy pass; ``meta``: gQ as well. hyper [R, 16]."""
    actor_kernel[(problem.row_tiles, 1 + meta, problem.runs)](
        *(state.actor, state.rho, hyper, work["inputs"], work["hidden"], work["squashed"], work["actions"]),
        *(work["dq"], work["q"][0], work["bc"][0], work["d_squashed"], work["d_actor"], work["actor_sums"]),
        *(work.metrics, work.sums, state.actor.shape[-1], problem.actor_partials, problem.shapes.hidden_dim),
        BP=triton.next_power_of_2(problem.batch),
        S=problem.sizes,
        **problem.options,
    )


def actor_twin(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
    """The whole gradient and gQ [R, P_actor] each, and the stage's metrics [R], in plain PyTorch."""
    policy = policy_value(spec, state, hyper, batch)
    alpha, q_scale = torch_softplus(state.rho), policy.q.abs().mean(-1)
    d_rl = rl_cotangent(policy, q_scale)
    d_actions = d_rl * per_run(alpha, 3) + bc_cotangent(hyper, policy.actions, batch.actions)
    q_mean, bc_mse = policy.q.mean(-1), bc_errors(hyper, policy.actions, batch.actions).mean(-1)
    values = (bc_mse - alpha / q_scale * q_mean, q_mean, q_scale, bc_mse, alpha, alpha / q_scale)
    gradient, gradient_q = (actor_gradient(spec, hyper, policy, d) for d in (d_actions, d_rl))
    return gradient, gradient_q, dict(zip(ACTOR_METRICS, values, strict=True))


def actor_gradients(problem: Problem, work: Workspace, part: int) -> Tensor:
    """The whole gradient (part 0) or gQ (part 1), [R, P_actor], from what the backward pass left in ``work``."""
    s, h = problem.shapes, problem.shapes.hidden_dim
    sums, d_hidden = work["actor_sums"][:, part].sum(1), work["d_actor"][:, part]
    layers = (
        (work["inputs"][..., : s.obs_dim], d_hidden[:, 0], sums[:, :h]),
        (work["hidden"][:, 0], d_hidden[:, 1], sums[:, h : 2 * h]),
        (work["hidden"][:, 1], work["d_squashed"][:, part, :, : s.act_dim], sums[:, 2 * h : 2 * h + s.act_dim]),
    )
    return s.actor.flatten([t for x, d, bias in layers for t in (torch.matmul(x.mT, d), bias)])
