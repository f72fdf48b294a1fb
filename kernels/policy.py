"""Policy pass: actor, Q1 of its actions and dQ1/da; at theta' also the actor's motion along d theta'/d alpha."""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.networks import actor_tangent
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.td3bc import bc_cotangent, bc_errors, per_run, policy_value
from aspc_fast.kernels.common import HYPER_COLUMNS, MAX_ACTION, TRUE_ACT_DIM, add_product, at_row, load_tile, store_tile
from aspc_fast.kernels.mlp import actor_forward, critic_backward, critic_forward, last_layer, q_value
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
    D: tl.constexpr,
    A: tl.constexpr,
    H: tl.constexpr,
    B: tl.constexpr,
    AP: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """d(pre-tanh output) [BM, AP] when the weights move along ``direction`` (forward mode); scratch [2, B, H]."""
    n = tl.arange(0, H)
    acc = tl.zeros([BM, H], actor.dtype.element_ty)
    acc = add_product(acc, observations, stride, direction, H, 1, count, D, D, H, BM, H, BK, PRECISION)
    acc += tl.load(direction + D * H + n)[None, :]
    store_tile(scratch, H, tl.where(load_tile(hidden, H, count, BM, H) <= 0, 0.0, acc), count, BM, H)
    tl.debug_barrier()
    w1: tl.constexpr = (D + 1) * H
    acc = tl.zeros([BM, H], actor.dtype.element_ty)
    acc = add_product(acc, scratch, H, actor + w1, H, 1, count, width, H, H, BM, H, BK, PRECISION)
    acc = add_product(acc, hidden, H, direction + w1, H, 1, count, width, H, H, BM, H, BK, PRECISION)
    acc += tl.load(direction + w1 + H * H + n)[None, :]
    hidden += B * H
    scratch += B * H
    store_tile(scratch, H, tl.where(load_tile(hidden, H, count, BM, H) <= 0, 0.0, acc), count, BM, H)
    tl.debug_barrier()
    w2: tl.constexpr = w1 + (H + 1) * H
    c = tl.arange(0, AP)
    acc = tl.zeros([BM, AP], actor.dtype.element_ty)
    acc = add_product(acc, scratch, H, actor + w2, A, 1, count, width, H, A, BM, AP, BK, PRECISION)
    acc = add_product(acc, hidden, H, direction + w2, A, 1, count, width, H, A, BM, AP, BK, PRECISION)
    return acc + tl.load(direction + w2 + H * A + c, mask=c < A, other=0.0)[None, :]


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
    D: tl.constexpr,
    A: tl.constexpr,
    H: tl.constexpr,
    L: tl.constexpr,
    NORM: tl.constexpr,
    B: tl.constexpr,
    KP: tl.constexpr,
    AP: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
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
    first, count = tile * BM, B - tile * BM
    LAST: tl.constexpr = 2 * L + 1
    at = run * B + first
    actor += run * actor_size
    critic += run * 2 * critic_size
    inputs = at_row(inputs, run, first, B, KP)
    hidden = at_row(hidden, run * 2, first, B, H)
    outputs = at_row(outputs, run * 2 * L, first, B, H)
    activated = at_row(activated, run * 2 * L, first, B, H)
    stats = at_row(stats, run * 2 * L * 2, first, B, 1)
    d_hidden = at_row(d_hidden, run * 2 * L, first, B, H)
    actions = at_row(actions, run, first, B, AP)
    squashed_out = at_row(squashed_out, run, first, B, AP)
    motion_out = at_row(motion_out, run, first, B, AP)
    hyper += run * HYPER_COLUMNS
    rows, c = tl.arange(0, BM), tl.arange(0, AP)
    exists = rows < count
    if FROM == 0:
        squashed = actor_forward(actor, inputs, KP, hidden, count, width, D, A, H, B, AP, BM, BK, PRECISION)
        store_tile(squashed_out, AP, squashed, count, BM, AP)
        store_tile(actions, AP, squashed * tl.load(hyper + MAX_ACTION), count, BM, AP)
        tl.debug_barrier()
    if TANGENT and FROM <= 1 and TO > 1:
        motion = actor_motion(
            *(actor, direction + run * actor_size, inputs, KP, hidden, outputs, count, width),
            *(D, A, H, B, AP, BM, BK, PRECISION),
        )
        squashed = load_tile(squashed_out, AP, count, BM, AP)
        store_tile(motion_out, AP, motion * (1.0 - squashed * squashed) * tl.load(hyper + MAX_ACTION), count, BM, AP)
        tl.debug_barrier()  # the critic writes where the tangent was read
    if FROM < L + 2 and TO > 2:
        x = critic_forward(
            critic,
            *(inputs, KP, actions, AP, outputs, activated, stats, count, width),
            *(FROM - 2 if FROM > 2 else 0, TO - 2 if TO < L + 2 else L, D, A, H, L, NORM, B, BM, BK, PRECISION, True),
        )
        if TO >= L + 2:
            tl.store(q_out + at + rows, q_value(x, last_layer(critic, D, A, H, L, NORM), H), mask=exists)
    if TO >= L + 2:
        ones = tl.where(exists, 1.0, 0.0).to(actor.dtype.element_ty)
        critic_backward(
            critic,
            *(ones, activated if NORM else outputs, stats, d_hidden, d_hidden, count, width),
            *(L if FROM < L + 2 else LAST - FROM, LAST - TO, D, A, H, L, NORM, B, BM, BK, PRECISION, False),
        )
    if TO == LAST:
        dq = tl.zeros([BM, AP], actor.dtype.element_ty)
        dq = add_product(dq, d_hidden, H, critic + D * H, 1, H, count, width, H, A, BM, AP, BK, PRECISION)
        store_tile(at_row(dq_out, run, first, B, AP), AP, dq, count, BM, AP)
        mask = exists[:, None] & (c < A)[None, :]
        difference = load_tile(actions, AP, count, BM, AP)
        difference -= tl.load(inputs + D + rows[:, None] * KP + c[None, :], mask=mask, other=0.0)
        entries = tl.load(hyper + TRUE_ACT_DIM)
        tl.store(bc_out + at + rows, tl.sum(difference * difference, 1) / entries, mask=exists)
        if TANGENT:
            motion = load_tile(motion_out, AP, count, BM, AP)
            tl.store(slope_q + at + rows, tl.sum(dq * motion, 1), mask=exists)
            tl.store(slope_bc + at + rows, tl.sum(difference * motion, 1) * (2.0 / (entries * B)), mask=exists)


def launch_policy(problem: Problem, work: Workspace, state: AgentState, hyper: Tensor, tangent: bool) -> None:
    """The policy pass on the batch in ``work``; ``tangent``: at theta', after the actor's step. hyper [R, 16]."""
    after = int(tangent)
    links = (1, 2 * after, 0, *(1,) * (2 * problem.layers - 2))
    for start, end in problem.cuts(links):
        has_motion = tangent and (start <= 1 < end or end == len(links))
        policy_kernel[(problem.row_tiles, problem.runs)](
            *(state.actor, work.direction, state.critic, hyper, work["inputs"], work["hidden"], work["squashed"]),
            *(
                work["actions"],
                work["outputs"],
                work["activated"],
                work["stats"],
                work["d_hidden"],
                work["dq"],
                work["motion"],
            ),
            *(work["q"][after], work["bc"][after], work["slope_q"], work["slope_bc"]),
            *(state.actor.shape[-1], state.critic.shape[-1], problem.shapes.hidden_dim),
            TANGENT=has_motion,
            FROM=start,
            TO=end,
            **problem.constants,
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
