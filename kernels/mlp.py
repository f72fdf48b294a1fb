"""Networks on one row tile: the layers that the target, critic and policy kernels are made of.

A launch covers some layers of a network or all (FROM, TO, END). Activations go from layer to layer through memory (the
cache, in fact) with a barrier or a launch in between, and hidden layers run in a real loop: unrolled layers with tiles
kept in registers spill. Pointers are already at the tile's run, critic and first row; layers of stored activations are
B * H entries apart.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl

from aspc_fast.kernels.common import LAYER_NORM_EPS, add_product, load_tile, store_tile, tanh


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
    D: tl.constexpr,
    A: tl.constexpr,
    H: tl.constexpr,
    B: tl.constexpr,
    AP: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """tanh output [BM, AP] (0 beyond A) of observations [count, D], rows ``stride`` apart; keeps hidden [2, B, H]."""
    n = tl.arange(0, H)
    acc = tl.zeros([BM, H], params.dtype.element_ty)
    acc = add_product(acc, observations, stride, params, H, 1, count, D, D, H, BM, H, BK, PRECISION)
    store_tile(hidden, H, relu(acc + tl.load(params + D * H + n)[None, :]), count, BM, H)
    tl.debug_barrier()
    weights = params + (D + 1) * H
    acc = tl.zeros([BM, H], params.dtype.element_ty)
    acc = add_product(acc, hidden, H, weights, H, 1, count, width, H, H, BM, H, BK, PRECISION)
    store_tile(hidden + B * H, H, relu(acc + tl.load(weights + H * H + n)[None, :]), count, BM, H)
    tl.debug_barrier()
    weights += (H + 1) * H
    c = tl.arange(0, AP)
    acc = tl.zeros([BM, AP], params.dtype.element_ty)
    acc = add_product(acc, hidden + B * H, H, weights, A, 1, count, width, H, A, BM, AP, BK, PRECISION)
    return tanh(acc + tl.load(weights + H * A + c, mask=c < A, other=0.0)[None, :])


@triton.jit
def finish_layer(
    acc,
    vectors,
    outputs,
    activated,
    stats,
    count,
    is_stored,
    H: tl.constexpr,
    NORM: tl.constexpr,
    B: tl.constexpr,
    BM: tl.constexpr,
    KEEP: tl.constexpr,
):
    """The layer's output [BM, H] from x @ w: bias, ReLU (KEEP: stored in ``activated``), LayerNorm with gain and shift
    (KEEP: mean and 1 / standard deviation in ``stats`` [2, B]). ``is_stored``: also in ``outputs``."""
    m, n = tl.arange(0, BM), tl.arange(0, H)
    x = relu(acc + tl.load(vectors + n)[None, :])
    if NORM:
        mean = tl.sum(x, 1) / H
        centred = x - mean[:, None]
        rstd = tl.rsqrt(tl.sum(centred * centred, 1) / H + LAYER_NORM_EPS)
        if KEEP:
            store_tile(activated, H, x, count, BM, H)
            tl.store(stats + m, mean, mask=m < count)
            tl.store(stats + B + m, rstd, mask=m < count)
        x = centred * rstd[:, None] * tl.load(vectors + H + n)[None, :] + tl.load(vectors + 2 * H + n)[None, :]
    if is_stored:
        store_tile(outputs, H, x, count, BM, H)
    return x


@triton.jit
def read_output(
    vectors,
    outputs,
    activated,
    stats,
    count,
    layer: tl.constexpr,
    H: tl.constexpr,
    NORM: tl.constexpr,
    B: tl.constexpr,
    BM: tl.constexpr,
):
    """The last layer's output [BM, H] from what an earlier launch kept of it (see critic_forward): under LayerNorm it
    was not stored and is formed anew from the activation, by the same operations."""
    m, n = tl.arange(0, BM), tl.arange(0, H)
    if NORM:
        stats += layer * 2 * B
        mean = tl.load(stats + m, mask=m < count, other=0.0)
        rstd = tl.load(stats + B + m, mask=m < count, other=0.0)
        x = (load_tile(activated + layer * B * H, H, count, BM, H) - mean[:, None]) * rstd[:, None]
        x = x * tl.load(vectors + H + n)[None, :] + tl.load(vectors + 2 * H + n)[None, :]
    else:
        x = load_tile(outputs + layer * B * H, H, count, BM, H)
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
    D: tl.constexpr,
    A: tl.constexpr,
    H: tl.constexpr,
    L: tl.constexpr,
    NORM: tl.constexpr,
    B: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Hidden layers FROM to TO - 1 of L: the last one's output [BM, H]. Layer 0 reads observations [count, D] and
    actions [count, A], the others what the one before stored in ``outputs``.

    KEEP, for a backward pass: outputs and activated are [L, B, H], stats [L, 2, B], a layer each (what no one reads is
    not stored: the last layer's output under LayerNorm). Else outputs [B, H] holds one layer after the other, so that
    it stays in cache.
    """
    VECTORS: tl.constexpr = 3 if NORM else 1
    START: tl.constexpr = FROM if FROM > 0 else 1
    STORED: tl.constexpr = L if KEEP and not NORM else L - 1
    x = tl.zeros([BM, H], params.dtype.element_ty)
    if FROM == 0:
        acc = add_product(x, observations, obs_stride, params, H, 1, count, D, D, H, BM, H, BK, PRECISION)
        acc = add_product(acc, actions, act_stride, params + D * H, H, 1, count, A, A, H, BM, H, BK, PRECISION)
        x = finish_layer(acc, params + (D + A) * H, outputs, activated, stats, count, True, H, NORM, B, BM, KEEP)
    weights = params + (D + A + VECTORS) * H + (START - 1) * (H + VECTORS) * H
    if KEEP:
        outputs += (START - 1) * B * H
        activated += (START - 1) * B * H
        stats += (START - 1) * 2 * B
    for layer in range(START, TO):
        tl.debug_barrier()
        acc = tl.zeros([BM, H], params.dtype.element_ty)
        acc = add_product(acc, outputs, H, weights, H, 1, count, width, H, H, BM, H, BK, PRECISION)
        if KEEP:
            outputs += B * H
            activated += B * H
            stats += 2 * B
        else:
            tl.debug_barrier()  # all have read what is overwritten now
        x = finish_layer(acc, weights + H * H, outputs, activated, stats, count, layer < STORED, H, NORM, B, BM, KEEP)
        weights += (H + VECTORS) * H
    return x


@triton.jit
def last_layer(params, D: tl.constexpr, A: tl.constexpr, H: tl.constexpr, L: tl.constexpr, NORM: tl.constexpr):
    """The critic's last weight [H], its bias one entry behind."""
    VECTORS: tl.constexpr = 3 if NORM else 1
    return params + (D + A + VECTORS) * H + (L - 1) * (H + VECTORS) * H


@triton.jit
def q_value(x, last, H: tl.constexpr):
    """Q [BM] of the last hidden layer's output [BM, H]; ``last``: see last_layer."""
    return tl.sum(x * tl.load(last + tl.arange(0, H))[None, :], 1) + tl.load(last + H)


@triton.jit
def through_layer(
    d_x,
    vectors,
    activated,
    stats,
    d_hidden,
    sums,
    count,
    H: tl.constexpr,
    NORM: tl.constexpr,
    B: tl.constexpr,
    BM: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Backward through LayerNorm and ReLU: d_hidden gets the gradient before the activation; SUMS: also the sums over
    the tile's rows that are the gradients of bias, gain and shift, [V * H]."""
    m, n = tl.arange(0, BM), tl.arange(0, H)
    x = load_tile(activated, H, count, BM, H)
    if NORM:
        mean = tl.load(stats + m, mask=m < count, other=0.0)
        rstd = tl.load(stats + B + m, mask=m < count, other=0.0)
        if SUMS:
            tl.store(sums + H + n, tl.sum(d_x * ((x - mean[:, None]) * rstd[:, None]), 0))
            tl.store(sums + 2 * H + n, tl.sum(d_x, 0))
        # in terms of x, as PyTorch's: the normalised x would be one more tile in registers
        d_x = d_x * tl.load(vectors + H + n)[None, :]
        total = tl.sum(d_x, 1)
        slope = (total * mean - tl.sum(d_x * x, 1)) * rstd * rstd * rstd / H
        d_x = d_x * rstd[:, None] + x * slope[:, None] - (slope * mean + total * rstd / H)[:, None]
    d_x = tl.where(x <= 0, 0.0, d_x)
    if SUMS:
        tl.store(sums + n, tl.sum(d_x, 0))
    store_tile(d_hidden, H, d_x, count, BM, H)


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
    D: tl.constexpr,
    A: tl.constexpr,
    H: tl.constexpr,
    L: tl.constexpr,
    NORM: tl.constexpr,
    B: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Gradients before the activations, d_hidden [L, B, H], of the layers below FROM down to END: from d_q [BM] where
    FROM = L, else from the gradient of layer FROM; with SUMS the tile's part of the vectors' gradients. Ends with a
    barrier: d_hidden may be read at once."""
    VECTORS: tl.constexpr = 3 if NORM else 1
    HIGH: tl.constexpr = FROM if FROM < L else L - 1  # the layer whose gradient the loop starts from
    weights = params + (D + A + VECTORS) * H + HIGH * (H + VECTORS) * H  # of the layer above
    activated += HIGH * B * H
    stats += HIGH * 2 * B
    d_hidden += HIGH * B * H
    sums += HIGH * VECTORS * H
    if FROM == L:
        tl.debug_barrier()  # the forward pass of this launch stored what is read here, in a layout of its own
        d_x = d_q[:, None] * tl.load(weights + tl.arange(0, H))[None, :]
        through_layer(d_x, weights - VECTORS * H, activated, stats, d_hidden, sums, count, H, NORM, B, BM, SUMS)
        tl.debug_barrier()
    for _ in range(END, HIGH):
        weights -= (H + VECTORS) * H
        d_x = tl.zeros([BM, H], params.dtype.element_ty)
        d_x = add_product(d_x, d_hidden, H, weights, 1, H, count, width, H, H, BM, H, BK, PRECISION)
        activated -= B * H
        stats -= 2 * B
        d_hidden -= B * H
        sums -= VECTORS * H
        through_layer(d_x, weights - VECTORS * H, activated, stats, d_hidden, sums, count, H, NORM, B, BM, SUMS)
        tl.debug_barrier()
