"""Policy pass: actor, Q1 of its actions and dQ1/da; at theta' also the actor's motion along d theta'/d alpha."""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.networks import actor_tangent
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.td3bc import bc_cotangent, bc_errors, per_run, policy_value
from aspc_fast.kernels.common import (
    HYPER_COLUMNS,
    MAX_ACTION,
    TRUE_ACT_DIM,
    add_product,
    at_row,
    load_tile,
    store_tile,
    zeros,
)
from aspc_fast.kernels.mlp import actor_forward, critic_backward, critic_forward, q_value
from aspc_fast.kernels.problem import Problem, Workspace


@triton.jit
def actor_motion(
    actor,
    direction,
    observations,
    stride,
    hidden,
    scratch,
    count,
    width,
    S: tl.constexpr,
):
    """d(pre-tanh output) [BM, AP] when the weights move along ``direction`` (forward mode); scratch [2, B, H]."""
    n = tl.arange(0, S.H)
    acc = zeros(actor, S.BM, S.H)
    acc = add_product(acc, observations, stride, direction, S.H, 1, count, S.D, S.D, S.H, S.BK, S)
    acc += tl.load(direction + S.D * S.H + n)[None, :]
    store_tile(scratch, tl.where(load_tile(hidden, count, S.BM, S.H) <= 0, 0.0, acc), count)
    tl.debug_barrier()
    w1: tl.constexpr = (S.D + 1) * S.H
    acc = zeros(actor, S.BM, S.H)
    acc = add_product(acc, scratch, S.H, actor + w1, S.H, 1, count, width, S.H, S.H, S.BK, S)
    acc = add_product(acc, hidden, S.H, direction + w1, S.H, 1, count, width, S.H, S.H, S.BK, S)
    acc += tl.load(direction + w1 + S.H * S.H + n)[None, :]
    hidden += S.B * S.H
    scratch += S.B * S.H
    store_tile(scratch, tl.where(load_tile(hidden, count, S.BM, S.H) <= 0, 0.0, acc), count)
    tl.debug_barrier()
    w2: tl.constexpr = w1 + (S.H + 1) * S.H
    c = tl.arange(0, S.AP)
    acc = zeros(actor, S.BM, S.AP)
    acc = add_product(acc, scratch, S.H, actor + w2, S.A, 1, count, width, S.H, S.A, S.BK, S)
    acc = add_product(acc, hidden, S.H, direction + w2, S.A, 1, count, width, S.H, S.A, S.BK, S)
    return acc + tl.load(direction + w2 + S.H * S.A + c, mask=c < S.A, other=0.0)[None, :]


@triton.jit
def policy_kernel(
    actor,
    direction,
    critic,
    hyper,
    inputs,
    hidden,
    squashed_out,
    actions,
    outputs,
    activated,
    stats,
    d_hidden,
    dq_out,
    motion_out,
    q_out,
    bc_out,
    slope_q,
    slope_bc,
    actor_size,
    critic_size,
    width,
    TANGENT: tl.constexpr,
    FROM: tl.constexpr,
    TO: tl.constexpr,
    S: tl.constexpr,
):
    """Program (row tile, run); links FROM to TO - 1 of the chain: actor, its motion, then the critic's as in
    critic_kernel, ending with dQ/da and what is made of it.

    Reads actor and (TANGENT) direction [R, P_actor], critic [R, 2, P_critic] of which Q1 is used, hyper [R, 16] and
    inputs [R, B, KP]. Writes hidden [R, 2, B, H], squashed_out, actions, dq_out [R, B, AP], q_out, bc_out [R, B]
    (cloning error per sample) and with TANGENT slope_q, slope_bc [R, B]: the actions' motion with alpha times dQ/da and
    times the gradient of MSE(pi, a), summed over action entries. outputs, activated, d_hidden [R, 2, L, B, H], stats
    [R, 2, L, 2, B] and motion_out [R, B, AP] are scratch.
    """
    tile, run = tl.program_id(0), tl.program_id(1).to(tl.int64)
    first, count = tile * S.BM, S.B - tile * S.BM
    LAST: tl.constexpr = 2 * S.L + 1
    at = run * S.B + first
    actor += run * actor_size
    critic += run * 2 * critic_size
    inputs = at_row(inputs, run, first, S.B, S.KP)
    hidden = at_row(hidden, run * 2, first, S.B, S.H)
    outputs = at_row(outputs, run * 2 * S.L, first, S.B, S.H)
    activated = at_row(activated, run * 2 * S.L, first, S.B, S.H)
    stats = at_row(stats, run * 2 * S.L * 2, first, S.B, 1)
    d_hidden = at_row(d_hidden, run * 2 * S.L, first, S.B, S.H)
    actions = at_row(actions, run, first, S.B, S.AP)
    squashed_out = at_row(squashed_out, run, first, S.B, S.AP)
    motion_out = at_row(motion_out, run, first, S.B, S.AP)
    hyper += run * HYPER_COLUMNS
    rows, c = tl.arange(0, S.BM), tl.arange(0, S.AP)
    exists = rows < count
    if FROM == 0:
        squashed = actor_forward(actor, inputs, S.KP, hidden, count, width, S)
        store_tile(squashed_out, squashed, count)
        store_tile(actions, squashed * tl.load(hyper + MAX_ACTION), count)
        tl.debug_barrier()
    if TANGENT and FROM <= 1 and TO > 1:
        along = direction + run * actor_size
        motion = actor_motion(actor, along, inputs, S.KP, hidden, outputs, count, width, S)
        squashed = load_tile(squashed_out, count, S.BM, S.AP)
        store_tile(motion_out, motion * (1.0 - squashed * squashed) * tl.load(hyper + MAX_ACTION), count)
        tl.debug_barrier()  # the critic writes where the tangent was read
    if FROM < S.L + 2 and TO > 2:
        x = critic_forward(
            critic,
            *(inputs, S.KP, actions, S.AP, outputs, activated, stats, count, width),
            *(FROM - 2 if FROM > 2 else 0, TO - 2 if TO < S.L + 2 else S.L, S, True),
        )
        if TO >= S.L + 2:
            tl.store(q_out + at + rows, q_value(x, critic, S), mask=exists)
    if TO >= S.L + 2:
        ones = tl.where(exists, 1.0, 0.0).to(actor.dtype.element_ty)
        critic_backward(
            critic,
            *(ones, activated if S.NORM else outputs, stats, d_hidden, d_hidden, count, width),
            *(S.L if FROM < S.L + 2 else LAST - FROM, LAST - TO, S, False),
        )
    if TO == LAST:
        dq = zeros(actor, S.BM, S.AP)
        dq = add_product(dq, d_hidden, S.H, critic + S.D * S.H, 1, S.H, count, width, S.H, S.A, S.BK, S)
        store_tile(at_row(dq_out, run, first, S.B, S.AP), dq, count)
        mask = exists[:, None] & (c < S.A)[None, :]
        difference = load_tile(actions, count, S.BM, S.AP)
        difference -= tl.load(inputs + S.D + rows[:, None] * S.KP + c[None, :], mask=mask, other=0.0)
        entries = tl.load(hyper + TRUE_ACT_DIM)
        tl.store(bc_out + at + rows, tl.sum(difference * difference, 1) / entries, mask=exists)
        if TANGENT:
            motion = load_tile(motion_out, count, S.BM, S.AP)
            tl.store(slope_q + at + rows, tl.sum(dq * motion, 1), mask=exists)
            tl.store(slope_bc + at + rows, tl.sum(difference * motion, 1) * (2.0 / (entries * S.B)), mask=exists)


def launch_policy(problem: Problem, work: Workspace, state: AgentState, hyper: Tensor, tangent: bool) -> None:
    """The policy pass on the batch in ``work``; ``tangent``: at theta', after the actor's step. hyper [R, 16]."""
    after = int(tangent)
    links = (1, 2 * after, 0, *(1,) * (2 * problem.layers - 2))
    for start, end in problem.cuts(links):
        has_motion = tangent and (start <= 1 < end or end == len(links))
        policy_kernel[(problem.row_tiles, problem.runs)](
            *(state.actor, work.direction, state.critic, hyper, work["inputs"], work["hidden"], work["squashed"]),
            *(work[name] for name in ("actions", "outputs", "activated", "stats", "d_hidden", "dq", "motion")),
            *(work["q"][after], work["bc"][after], work["slope_q"], work["slope_bc"]),
            *(state.actor.shape[-1], state.critic.shape[-1], problem.shapes.hidden_dim),
            TANGENT=has_motion,
            FROM=start,
            TO=end,
            S=problem.sizes,
            **problem.options,
        )


def policy_twin(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, direction: Tensor) -> dict[str, Tensor]:
    """q, bc, slope_q, slope_bc [R, B], actions and dq [R, B, A] by name, in plain PyTorch; direction [R, P_actor]."""
    policy = policy_value(spec, state, hyper, batch)
    along = spec.shapes.actor_params(direction)
    motion = actor_tangent(policy.params, policy.tape, along, per_run(hyper.max_action, 3))
    return {
        "q": policy.q,
        "bc": bc_errors(hyper, policy.actions, batch.actions),
        "slope_q": (policy.dq * motion).sum(-1),
        "slope_bc": (bc_cotangent(hyper, policy.actions, batch.actions) * motion).sum(-1),
        "actions": policy.actions,
        "dq": policy.dq,
    }
