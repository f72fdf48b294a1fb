"""Networks on one row tile: the chained layers that the target, critic and policy kernels are made of.

Activations go from layer to layer through memory (the cache, in fact) with a barrier in between, and hidden layers run
in a real loop: unrolled layers with tiles kept in registers spill. Pointers are already at the tile's run, critic and
first row; layers of stored activations are B * H entries apart.
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
    count,
    H: tl.constexpr,
    NORM: tl.constexpr,
    BM: tl.constexpr,
    KEEP: tl.constexpr,
):
    """From x @ w to the layer's output: bias, ReLU (KEEP: stored in ``activated``), LayerNorm with gain and shift."""
    n = tl.arange(0, H)
    x = relu(acc + tl.load(vectors + n)[None, :])
    if NORM:
        if KEEP:
            store_tile(activated, H, x, count, BM, H)
        centred = x - (tl.sum(x, 1) / H)[:, None]
        rstd = tl.rsqrt(tl.sum(centred * centred, 1) / H + LAYER_NORM_EPS)
        x = centred * rstd[:, None] * tl.load(vectors + H + n)[None, :] + tl.load(vectors + 2 * H + n)[None, :]
    store_tile(outputs, H, x, count, BM, H)


@triton.jit
def critic_forward(
    params,
    observations,
    obs_stride,
    actions,
    act_stride,
    outputs,
    activated,
    count,
    width,
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
    """Q [BM] of observations [count, D] and actions [count, A]; writes outputs [L, B, H], with KEEP (for a backward
    pass) activated [L, B, H] too."""
    VECTORS: tl.constexpr = 3 if NORM else 1
    acc = tl.zeros([BM, H], params.dtype.element_ty)
    acc = add_product(acc, observations, obs_stride, params, H, 1, count, D, D, H, BM, H, BK, PRECISION)
    acc = add_product(acc, actions, act_stride, params + D * H, H, 1, count, A, A, H, BM, H, BK, PRECISION)
    finish_layer(acc, params + (D + A) * H, outputs, activated, count, H, NORM, BM, KEEP)
    weights = params + (D + A + VECTORS) * H
    for _ in range(1, L):
        tl.debug_barrier()
        acc = tl.zeros([BM, H], params.dtype.element_ty)
        acc = add_product(acc, outputs, H, weights, H, 1, count, width, H, H, BM, H, BK, PRECISION)
        outputs += B * H
        activated += B * H
        finish_layer(acc, weights + H * H, outputs, activated, count, H, NORM, BM, KEEP)
        weights += (H + VECTORS) * H
    tl.debug_barrier()
    x = load_tile(outputs, H, count, BM, H)
    return tl.sum(x * tl.load(weights + tl.arange(0, H))[None, :], 1) + tl.load(weights + H)


@triton.jit
def through_layer(
    d_x,
    vectors,
    activated,
    d_hidden,
    sums,
    count,
    H: tl.constexpr,
    NORM: tl.constexpr,
    BM: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Backward through LayerNorm and ReLU: d_hidden gets the gradient before the activation; SUMS: also the sums over
    the tile's rows that are the gradients of bias, gain and shift, [V * H]."""
    n = tl.arange(0, H)
    x = load_tile(activated, H, count, BM, H)
    if NORM:
        centred = x - (tl.sum(x, 1) / H)[:, None]
        rstd = tl.rsqrt(tl.sum(centred * centred, 1) / H + LAYER_NORM_EPS)
        normalised = centred * rstd[:, None]
        if SUMS:
            tl.store(sums + H + n, tl.sum(d_x * normalised, 0))
            tl.store(sums + 2 * H + n, tl.sum(d_x, 0))
        d_x = d_x * tl.load(vectors + H + n)[None, :]
        along = (tl.sum(d_x * normalised, 1) / H)[:, None]
        d_x = (d_x - (tl.sum(d_x, 1) / H)[:, None] - normalised * along) * rstd[:, None]
    d_x = tl.where(x <= 0, 0.0, d_x)
    if SUMS:
        tl.store(sums + n, tl.sum(d_x, 0))
    store_tile(d_hidden, H, d_x, count, BM, H)


@triton.jit
def critic_backward(
    params,
    d_q,
    activated,
    d_hidden,
    sums,
    count,
    width,
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
    """d_hidden [L, B, H], the gradients before the activations, from d_q [BM]; with SUMS the tile's part of the
    vectors' gradients. Ends with a barrier: d_hidden may be read at once."""
    VECTORS: tl.constexpr = 3 if NORM else 1
    weights = params + (D + A + VECTORS) * H + (L - 1) * (H + VECTORS) * H  # the last layer's
    d_x = d_q[:, None] * tl.load(weights + tl.arange(0, H))[None, :]
    activated += (L - 1) * B * H
    d_hidden += (L - 1) * B * H
    sums += (L - 1) * VECTORS * H
    for _ in range(1, L):
        vectors = weights - VECTORS * H
        through_layer(d_x, vectors, activated, d_hidden, sums, count, H, NORM, BM, SUMS)
        tl.debug_barrier()
        weights -= (H + VECTORS) * H
        d_x = tl.zeros([BM, H], params.dtype.element_ty)
        d_x = add_product(d_x, d_hidden, H, weights, 1, H, count, width, H, H, BM, H, BK, PRECISION)
        activated -= B * H
        d_hidden -= B * H
        sums -= VECTORS * H
    through_layer(d_x, params + (D + A) * H, activated, d_hidden, sums, count, H, NORM, BM, SUMS)
    tl.debug_barrier()
