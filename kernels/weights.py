"""Weight gradients with Adam, target update and d theta'/d alpha in the epilogue: no gradient is written to memory.

One launch per network. A *plan* [E, 16] int64 tells each program which block of the flat parameter vector it owns and
which stored activations make its gradient, so that all layers and vectors share one launch.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.adam import adam_, adam_derivative
from aspc_fast.agent.layout import Layout
from aspc_fast.agent.state import Spec
from aspc_fast.kernels.common import ACTOR_K1 as _ACTOR_K1
from aspc_fast.kernels.common import ACTOR_LR, CRITIC_LR, HYPER_COLUMNS, TAU, mma, record
from aspc_fast.kernels.common import CRITIC_K1 as _CRITIC_K1
from aspc_fast.kernels.problem import CRITIC_METRICS, METRICS, Problem, Workspace

MATRIX, VECTOR, LOSS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
PLAN_COLUMNS = tl.constexpr(16)
VECTOR_BLOCK = 1024
FIRST = tl.constexpr(METRICS.index(CRITIC_METRICS[0]))


@triton.jit
def adam_epilogue(
    at,
    mask,
    g,
    g_q,
    weights,
    m_ptr,
    v_ptr,
    target,
    direction,
    clock,
    hyper,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    EPS: tl.constexpr,
    LR: tl.constexpr,
    MOVE: tl.constexpr,
    DUAL: tl.constexpr,
):
    """Adam on the entries ``at``, given gradient g; MOVE: the target follows by tau; DUAL: direction gets
    -lr du/dg g_q, the authors' form with D^3 and 0 where m = 0 (units that never fired would give 0 * inf)."""
    k1, k2 = tl.load(clock), tl.load(clock + 1)
    lr = tl.load(hyper + LR)
    kind = lr.dtype
    step = (lr / k1).to(kind)
    m = tl.load(m_ptr + at, mask=mask, other=0.0)
    v = tl.load(v_ptr + at, mask=mask, other=0.0)
    w = tl.load(weights + at, mask=mask, other=0.0)
    m += (g - m) * (1.0 - BETA1)
    v = v * BETA2 + g * g * (1.0 - BETA2)
    denominator = tl.sqrt(v) * (1.0 / tl.sqrt(k2)).to(kind) + EPS
    w -= m / denominator * step
    tl.store(m_ptr + at, m, mask=mask)
    tl.store(v_ptr + at, v, mask=mask)
    tl.store(weights + at, w, mask=mask)
    if MOVE:
        old = tl.load(target + at, mask=mask, other=0.0)
        tl.store(target + at, old + tl.load(hyper + TAU) * (w - old), mask=mask)
    if DUAL:
        curve = m * g * ((1.0 - BETA2) / (k1 * k2)).to(kind) / (denominator * denominator * denominator)
        slope = ((1.0 - BETA1) / k1).to(kind) / denominator - curve
        tl.store(direction + at, -lr * tl.where(m == 0, 0.0, slope) * g_q, mask=mask)


@triton.jit
def weights_kernel(
    tape,
    plan,
    weights,
    m_ptr,
    v_ptr,
    target,
    direction,
    clock,
    hyper,
    metrics,
    metric_sums,
    size,
    T: tl.constexpr,
    B: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    BB: tl.constexpr,
    BV: tl.constexpr,
    ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    EPS: tl.constexpr,
    LR: tl.constexpr,
    MOVE: tl.constexpr,
    DUAL: tl.constexpr,
):
    """Program (plan entry, network of the run, run): one block of the parameters, read and written once.

    tape: the workspace, of which the entry names x [B, rows] and d [B, cols] (MATRIX: gradient x^T d) or partial sums
    [T, cols] (VECTOR). plan int64 [E, 16]. weights, m_ptr, v_ptr, target [R, C, P]; direction [R, P] (DUAL only);
    clock: two float64 bias corrections of this network; hyper [R, 16]. metrics [M, R], metric_sums float64 [M, R]
    (LOSS).
    """
    entry, which, run = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    plan += entry * PLAN_COLUMNS
    kind = tl.load(plan)
    hyper += run * HYPER_COLUMNS
    network = (run * tl.num_programs(1) + which) * size
    d_ptr = tape + tl.multiple_of(tl.load(plan + 5) + run * tl.load(plan + 6) + which * tl.load(plan + 7), 16)
    d_stride = tl.multiple_of(tl.load(plan + 8).to(tl.int32), 16)
    offset = network + tl.multiple_of(tl.load(plan + 9), 16)
    cols = tl.multiple_of(tl.load(plan + 11).to(tl.int32), ALIGN)
    other = tl.load(plan + 14)  # from the whole gradient's tape to gQ's
    if kind == MATRIX:
        x_ptr = tape + tl.multiple_of(tl.load(plan + 1) + run * tl.load(plan + 2) + which * tl.load(plan + 3), 16)
        x_stride = tl.multiple_of(tl.load(plan + 4).to(tl.int32), 16)
        rows = tl.load(plan + 10).to(tl.int32)
        row0 = tl.multiple_of(tl.load(plan + 12).to(tl.int32), 16)
        col0 = tl.multiple_of(tl.load(plan + 13).to(tl.int32), 16)
        g = tl.zeros([BR, BC], weights.dtype.element_ty)
        g_q = tl.zeros([BR, BC], weights.dtype.element_ty)
        for start in range(0, B, BB):
            b, i, j = start + tl.arange(0, BB), row0 + tl.arange(0, BR), col0 + tl.arange(0, BC)
            # columns up to the stride exist (padding or a neighbour): what they give is not stored
            x_mask, d_mask = (i < x_stride)[None, :], (j < d_stride)[None, :]
            if B % BB:
                x_mask, d_mask = x_mask & (b < B)[:, None], d_mask & (b < B)[:, None]
            x = tl.load(x_ptr + b[:, None] * x_stride + i[None, :], mask=x_mask, other=0.0)
            d_at = d_ptr + b[:, None] * d_stride + j[None, :]
            g = mma(tl.trans(x), tl.load(d_at, mask=d_mask, other=0.0), g, PRECISION)
            if DUAL:
                g_q = mma(tl.trans(x), tl.load(d_at + other, mask=d_mask, other=0.0), g_q, PRECISION)
        i, j = row0 + tl.arange(0, BR), col0 + tl.arange(0, BC)
        at = i[:, None] * cols + j[None, :]
        mask = (i < rows)[:, None] & (j < cols)[None, :]
        adam_epilogue(
            *(at, mask, g, g_q, weights + offset, m_ptr + offset, v_ptr + offset, target + offset, direction + offset),
            *(clock, hyper, BETA1, BETA2, EPS, LR, MOVE, DUAL),
        )
    elif kind == VECTOR:
        j = tl.load(plan + 13).to(tl.int32) + tl.arange(0, BV)
        mask = j < cols
        g = tl.zeros([BV], weights.dtype.element_ty)
        g_q = tl.zeros([BV], weights.dtype.element_ty)
        for t in range(0, T):
            g += tl.load(d_ptr + t * d_stride + j, mask=mask, other=0.0)
            if DUAL:
                g_q += tl.load(d_ptr + other + t * d_stride + j, mask=mask, other=0.0)
        adam_epilogue(
            *(j, mask, g, g_q, weights + offset, m_ptr + offset, v_ptr + offset, target + offset, direction + offset),
            *(clock, hyper, BETA1, BETA2, EPS, LR, MOVE, DUAL),
        )
    elif which == 0:
        loss = tl.zeros([], weights.dtype.element_ty)
        q_sum = tl.zeros([], weights.dtype.element_ty)
        second = tl.load(plan + 7)
        for t in range(0, T):
            loss += tl.load(d_ptr + t * d_stride) + tl.load(d_ptr + second + t * d_stride)
            q_sum += tl.load(d_ptr + t * d_stride + 1)
        record(metrics, metric_sums, FIRST, run, tl.num_programs(2), (loss / B, q_sum / B))


def critic_plan(problem: Problem, work: Workspace) -> Tensor:
    """Plan of the critics' launch."""
    p, h = problem, problem.shapes.hidden_dim
    hidden, layer = p.layers * p.batch * h, p.batch * h
    starts = _starts(p.shapes.critic)
    sums = (work.offsets["critic_sums"], 2 * p.row_tiles * p.critic_partials, p.row_tiles * p.critic_partials)
    entries = []
    for depth in range(p.layers):
        if depth:
            x = (work.offsets["outputs"] + (depth - 1) * layer, 2 * hidden, hidden, h)
        else:
            x = (work.offsets["inputs"], p.batch * p.input_stride, 0, p.input_stride)
        d = (work.offsets["d_hidden"] + depth * layer, 2 * hidden, hidden, h)
        rows = h if depth else p.shapes.obs_dim + p.shapes.act_dim
        entries += _blocks(p, x, d, starts[f"w{depth}"], rows, h, p.tiles.weight_cols, 0)
        part = (sums[0] + depth * p.vectors * h, *sums[1:], p.critic_partials)
        entries += _vector(part, starts[f"b{depth}"], p.vectors * h, 0)
    last = p.layers * p.vectors * h
    entries += _vector((sums[0] + last, *sums[1:], p.critic_partials), starts["w_last"], h + 1, 0)
    entries.append([LOSS.value, *(0,) * 4, sums[0] + last + h + 1, *sums[1:], p.critic_partials, *(0,) * 7])
    return torch.tensor(entries, device=work.tape.device)


def actor_plan(problem: Problem, work: Workspace) -> Tensor:
    """Plan of the actor's launch."""
    p, h, ap = problem, problem.shapes.hidden_dim, problem.action_stride
    layer, starts, width = p.batch * h, _starts(p.shapes.actor), p.tiles.actor_weight_cols
    d, a, at = p.shapes.obs_dim, p.shapes.act_dim, work.offsets
    hidden = [(at["hidden"] + i * layer, 2 * layer, 0, h) for i in (0, 1)]
    d_hidden = [(at["d_actor"] + i * layer, 4 * layer, 0, h) for i in (0, 1)]
    inputs = (at["inputs"], p.batch * p.input_stride, 0, p.input_stride)
    d_squashed = (at["d_squashed"], 2 * p.batch * ap, 0, ap)
    part = p.row_tiles * p.actor_partials
    entries = _blocks(p, inputs, d_hidden[0], starts["w0"], d, h, width, 2 * layer)
    entries += _blocks(p, hidden[0], d_hidden[1], starts["w1"], h, h, width, 2 * layer)
    entries += _blocks(p, hidden[1], d_squashed, starts["w2"], h, a, width, p.batch * ap)
    for i, (name, size) in enumerate((("b0", h), ("b1", h), ("b2", a))):
        sums = (at["actor_sums"] + i * h, 2 * part, 0, p.actor_partials)
        entries += _vector(sums, starts[name], size, part)
    return torch.tensor(entries, device=work.tape.device)


def _starts(layout: Layout) -> dict[str, int]:
    start, starts = 0, {}
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        starts[name] = start
        start += torch.Size(shape).numel()
    return starts


def _blocks(
    p: Problem, x: tuple[int, ...], d: tuple[int, ...], start: int, rows: int, cols: int, width: int, other: int
) -> list[list[int]]:
    """Plan entries of one weight matrix: x and d are (tape offset, run stride, network stride, row stride)."""
    return [
        [MATRIX.value, *x, *d, start, rows, cols, row, col, other, 0]
        for row in range(0, rows, p.tiles.weight_rows)
        for col in range(0, cols, width)
    ]


def _vector(sums: tuple[int, ...], start: int, size: int, other: int) -> list[list[int]]:
    return [[VECTOR.value, *(0,) * 4, *sums, start, 0, size, 0, col, other, 0] for col in range(0, size, VECTOR_BLOCK)]


def launch_weights(
    problem: Problem,
    work: Workspace,
    spec: Spec,
    plan: Tensor,
    params: Tensor,
    m: Tensor,
    v: Tensor,
    target: Tensor,
    hyper: Tensor,
    *,
    move: bool,
    dual: bool = False,
) -> None:
    """Adam on the critics (params [R, 2, P]) or the actor ([R, P]) from the tape. ``move``: the target follows;
    ``dual`` (actor): work.direction becomes d theta'/d alpha. hyper [R, 16]."""
    t, is_actor = problem.tiles, params.ndim == 2
    clock = work.clock[(_ACTOR_K1 if is_actor else _CRITIC_K1).value :]
    columns = problem.shapes.act_dim if is_actor else problem.shapes.hidden_dim
    weights_kernel[(len(plan), 1 if is_actor else 2, problem.runs)](
        *(work.tape, plan, params, m, v, target, work.direction, clock, hyper, work.metrics, work.sums),
        params.shape[-1],
        T=problem.row_tiles,
        B=problem.batch,
        BR=t.weight_rows,
        BC=t.actor_weight_cols if is_actor else t.weight_cols,
        BB=t.weight_depth,
        BV=VECTOR_BLOCK,
        ALIGN=1 if columns % 16 else 16,
        PRECISION=problem.precision,
        BETA1=spec.config.adam_beta1,
        BETA2=spec.config.adam_beta2,
        EPS=spec.config.adam_eps,
        LR=(ACTOR_LR if is_actor else CRITIC_LR).value,
        MOVE=move,
        DUAL=dual,
        num_warps=t.weight_warps,
        num_stages=t.weight_stages,
        enable_fp_fusion=True,
    )


def weights_twin(
    spec: Spec,
    gradient: Tensor,
    params: Tensor,
    m: Tensor,
    v: Tensor,
    target: Tensor,
    lr: Tensor,
    tau: Tensor,
    updates: Tensor,
    gradient_q: Tensor | None = None,
) -> Tensor | None:
    """In plain PyTorch, in place on params, m, v, target [R, ..., P]: Adam, then the target by tau; lr, tau broadcast.
    Returns d theta'/d alpha if gQ is given. ``updates`` int64 [] counts this update."""
    adam_(spec, params, gradient, m, v, lr, updates)
    target.lerp_(params, tau)
    return None if gradient_q is None else -lr * adam_derivative(spec, gradient, m, v, updates) * gradient_q
