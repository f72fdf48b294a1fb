"""Networks on one row tile: the layers that the target, critic and policy kernels are made of.

A launch covers some layers of a network or all (FROM, TO, END). Activations go from layer to layer through memory (the
cache, in fact) with a barrier or a launch in between, and hidden layers run in a real loop: unrolled layers with tiles
kept in registers spill. Pointers are already at the tile's run, critic and first row; layers of stored activations are
B * H entries apart. S is what all of them are compiled for: ``problem.Sizes``.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl

from aspc_fast.kernels.common import LAYER_NORM_EPS, add_product, load_tile, store_tile, tanh, zeros


@triton.jit
def relu(x):
    """max(x, 0), but NaN stays NaN, so that a run that diverged is seen."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def actor_forward(
    params,
    observations,
    stride,
    hidden,
    count,
    width,
    S: tl.constexpr,
):
    """tanh output [BM, AP] (0 beyond A) of observations [count, D], rows ``stride`` apart; keeps hidden [2, B, H]."""
    n = tl.arange(0, S.H)
    acc = zeros(params, S.BM, S.H)
    acc = add_product(acc, observations, stride, params, S.H, 1, count, S.D, S.D, S.H, S.BK, S)
    store_tile(hidden, relu(acc + tl.load(params + S.D * S.H + n)[None, :]), count)
    tl.debug_barrier()
    weights = params + (S.D + 1) * S.H
    acc = zeros(params, S.BM, S.H)
    acc = add_product(acc, hidden, S.H, weights, S.H, 1, count, width, S.H, S.H, S.BK, S)
    store_tile(hidden + S.B * S.H, relu(acc + tl.load(weights + S.H * S.H + n)[None, :]), count)
    tl.debug_barrier()
    weights += (S.H + 1) * S.H
    c = tl.arange(0, S.AP)
    acc = zeros(params, S.BM, S.AP)
    acc = add_product(acc, hidden + S.B * S.H, S.H, weights, S.A, 1, count, width, S.H, S.A, S.BK, S)
    return tanh(acc + tl.load(weights + S.H * S.A + c, mask=c < S.A, other=0.0)[None, :])


@triton.jit
def finish_layer(
    acc,
    vectors,
    outputs,
    activated,
    stats,
    count,
    is_stored,
    S: tl.constexpr,
    KEEP: tl.constexpr,
):
    """The layer's output [BM, H] from x @ w: bias, ReLU (KEEP: stored in ``activated``), LayerNorm with gain and shift
    (KEEP: mean and 1 / standard deviation in ``stats`` [2, B]). ``is_stored``: also in ``outputs``."""
    m, n = tl.arange(0, S.BM), tl.arange(0, S.H)
    x = relu(acc + tl.load(vectors + n)[None, :])
    if S.NORM:
        mean = tl.sum(x, 1) / S.H
        centred = x - mean[:, None]
        rstd = tl.rsqrt(tl.sum(centred * centred, 1) / S.H + LAYER_NORM_EPS)
        if KEEP:
            store_tile(activated, x, count)
            tl.store(stats + m, mean, mask=m < count)
            tl.store(stats + S.B + m, rstd, mask=m < count)
        x = centred * rstd[:, None] * tl.load(vectors + S.H + n)[None, :] + tl.load(vectors + 2 * S.H + n)[None, :]
    if is_stored:
        store_tile(outputs, x, count)
    return x


@triton.jit
def read_output(
    vectors,
    outputs,
    activated,
    stats,
    count,
    layer: tl.constexpr,
    S: tl.constexpr,
):
    """The last layer's output [BM, H] from what an earlier launch kept of it (see critic_forward): under LayerNorm it
    was not stored and is formed anew from the activation, by the same operations."""
    m, n = tl.arange(0, S.BM), tl.arange(0, S.H)
    if S.NORM:
        stats += layer * 2 * S.B
        mean = tl.load(stats + m, mask=m < count, other=0.0)
        rstd = tl.load(stats + S.B + m, mask=m < count, other=0.0)
        x = (load_tile(activated + layer * S.B * S.H, count, S.BM, S.H) - mean[:, None]) * rstd[:, None]
        x = x * tl.load(vectors + S.H + n)[None, :] + tl.load(vectors + 2 * S.H + n)[None, :]
    else:
        x = load_tile(outputs + layer * S.B * S.H, count, S.BM, S.H)
    return x


@triton.jit
def critic_forward(
    params,
    observations,
    obs_stride,
    actions,
    act_stride,
    outputs,
    activated,
    stats,
    count,
    width,
    FROM: tl.constexpr,
    TO: tl.constexpr,
    S: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Hidden layers FROM to TO - 1 of L: the last one's output [BM, H]. Layer 0 reads observations [count, D] and
    actions [count, A], the others what the one before stored in ``outputs``.

    KEEP, for a backward pass: outputs and activated are [L, B, H], stats [L, 2, B], a layer each (what no one reads is
    not stored: the last layer's output under LayerNorm). Else outputs [B, H] holds one layer after the other, so that
    it stays in cache.
    """
    START: tl.constexpr = FROM if FROM > 0 else 1
    STORED: tl.constexpr = S.L if KEEP and not S.NORM else S.L - 1
    x = zeros(params, S.BM, S.H)
    if FROM == 0:
        acc = add_product(x, observations, obs_stride, params, S.H, 1, count, S.D, S.D, S.H, S.BK, S)
        acc = add_product(acc, actions, act_stride, params + S.D * S.H, S.H, 1, count, S.A, S.A, S.H, S.BK, S)
        x = finish_layer(acc, params + (S.D + S.A) * S.H, outputs, activated, stats, count, True, S, KEEP)
    weights = params + (S.D + S.A + S.VECTORS) * S.H + (START - 1) * (S.H + S.VECTORS) * S.H
    if KEEP:
        outputs += (START - 1) * S.B * S.H
        activated += (START - 1) * S.B * S.H
        stats += (START - 1) * 2 * S.B
    for layer in range(START, TO):
        tl.debug_barrier()
        acc = zeros(params, S.BM, S.H)
        acc = add_product(acc, outputs, S.H, weights, S.H, 1, count, width, S.H, S.H, S.BK, S)
        if KEEP:
            outputs += S.B * S.H
            activated += S.B * S.H
            stats += 2 * S.B
        else:
            tl.debug_barrier()  # all have read what is overwritten now
        x = finish_layer(acc, weights + S.H * S.H, outputs, activated, stats, count, layer < STORED, S, KEEP)
        weights += (S.H + S.VECTORS) * S.H
    return x


@triton.jit
def last_layer(params, S: tl.constexpr):
    """The critic's last weight [H], its bias one entry behind."""
    return params + (S.D + S.A + S.VECTORS) * S.H + (S.L - 1) * (S.H + S.VECTORS) * S.H


@triton.jit
def q_value(x, params, S: tl.constexpr):
    """Q [BM] of the last hidden layer's output [BM, H]."""
    last = last_layer(params, S)
    return tl.sum(x * tl.load(last + tl.arange(0, S.H))[None, :], 1) + tl.load(last + S.H)


@triton.jit
def through_layer(
    d_x,
    vectors,
    activated,
    stats,
    d_hidden,
    sums,
    count,
    S: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Backward through LayerNorm and ReLU: d_hidden gets the gradient before the activation; SUMS: also the sums over
    the tile's rows that are the gradients of bias, gain and shift, [V * H]."""
    m, n = tl.arange(0, S.BM), tl.arange(0, S.H)
    x = load_tile(activated, count, S.BM, S.H)
    if S.NORM:
        mean = tl.load(stats + m, mask=m < count, other=0.0)
        rstd = tl.load(stats + S.B + m, mask=m < count, other=0.0)
        if SUMS:
            tl.store(sums + S.H + n, tl.sum(d_x * ((x - mean[:, None]) * rstd[:, None]), 0))
            tl.store(sums + 2 * S.H + n, tl.sum(d_x, 0))
        # in terms of x, as PyTorch's: the normalised x would be one more tile in registers
        d_x = d_x * tl.load(vectors + S.H + n)[None, :]
        total = tl.sum(d_x, 1)
        slope = (total * mean - tl.sum(d_x * x, 1)) * rstd * rstd * rstd / S.H
        d_x = d_x * rstd[:, None] + x * slope[:, None] - (slope * mean + total * rstd / S.H)[:, None]
    d_x = tl.where(x <= 0, 0.0, d_x)
    if SUMS:
        tl.store(sums + n, tl.sum(d_x, 0))
    store_tile(d_hidden, d_x, count)


@triton.jit
def critic_backward(
    params,
    d_q,
    activated,
    stats,
    d_hidden,
    sums,
    count,
    width,
    FROM: tl.constexpr,
    END: tl.constexpr,
    S: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Gradients before the activations, d_hidden [L, B, H], of the layers below FROM down to END: from d_q [BM] where
    FROM = L, else from the gradient of layer FROM; with SUMS the tile's part of the vectors' gradients. Ends with a
    barrier: d_hidden may be read at once."""
    HIGH: tl.constexpr = FROM if FROM < S.L else S.L - 1  # the layer whose gradient the loop starts from
    weights = params + (S.D + S.A + S.VECTORS) * S.H + HIGH * (S.H + S.VECTORS) * S.H  # of the layer above
    activated += HIGH * S.B * S.H
    stats += HIGH * 2 * S.B
    d_hidden += HIGH * S.B * S.H
    sums += HIGH * S.VECTORS * S.H
    if FROM == S.L:
        tl.debug_barrier()  # the forward pass of this launch stored what is read here, in a layout of its own
        d_x = d_q[:, None] * tl.load(weights + tl.arange(0, S.H))[None, :]
        through_layer(d_x, weights - S.VECTORS * S.H, activated, stats, d_hidden, sums, count, S, SUMS)
        tl.debug_barrier()
    for _ in range(END, HIGH):
        weights -= (S.H + S.VECTORS) * S.H
        d_x = zeros(params, S.BM, S.H)
        d_x = add_product(d_x, d_hidden, S.H, weights, 1, S.H, count, width, S.H, S.H, S.BK, S)
        activated -= S.B * S.H
        stats -= 2 * S.B
        d_hidden -= S.B * S.H
        sums -= S.VECTORS * S.H
        through_layer(d_x, weights - S.VECTORS * S.H, activated, stats, d_hidden, sums, count, S, SUMS)
        tl.debug_barrier()
