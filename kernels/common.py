"""What every kernel uses: row-tile matmul, activations, per-run tables, the metrics' accumulation.

A *row tile* is ``BM`` consecutive samples of one run's batch; the program that owns it keeps all H columns of a layer,
so LayerNorm needs no other program. ``count`` is how many of its rows exist (the last tile of an odd batch has fewer).

Triton reads annotations of its functions' parameters as types of its own, so kernels have none for the type checker.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl
from triton.runtime.jit import JITFunction

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)  # how the kernels below were made; later changes come too late
MIXED: bool = isinstance(tl.sum, JITFunction) == INTERPRETED  # Triton's own functions were made the other way

# Columns of the table of per-run hyper-parameters [R, 16], in the state's dtype (see problem.hyper_table).
DISCOUNT = tl.constexpr(0)
TAU = tl.constexpr(1)
POLICY_NOISE = tl.constexpr(2)
NOISE_CLIP = tl.constexpr(3)
MAX_ACTION = tl.constexpr(4)
ACTOR_LR = tl.constexpr(5)
CRITIC_LR = tl.constexpr(6)
ALPHA_LR = tl.constexpr(7)
EMA = tl.constexpr(8)
WEIGHT_EQ2 = tl.constexpr(9)
WEIGHT_EQ3 = tl.constexpr(10)
LEARNS_ALPHA = tl.constexpr(11)
TRUE_ACT_DIM = tl.constexpr(12)
REWARD_FACTOR = tl.constexpr(13)
REWARD_SHIFT = tl.constexpr(14)
HYPER_COLUMNS = tl.constexpr(16)

# Entries of the clock, float64 [8]: bias corrections 1 - beta**n of the step in progress (written by the target pass).
CRITIC_K1 = tl.constexpr(0)
CRITIC_K2 = tl.constexpr(1)
ACTOR_K1 = tl.constexpr(2)
ACTOR_K2 = tl.constexpr(3)
META_K1 = tl.constexpr(4)
META_K2 = tl.constexpr(5)

IN_INTERPRETER = tl.constexpr(INTERPRETED)
LAYER_NORM_EPS = tl.constexpr(1e-5)


@triton.jit
def mma(x, w, acc, PRECISION: tl.constexpr):
    """acc + x @ w; PRECISION is tf32, ieee, or bf16 (operands rounded to bfloat16)."""
    if PRECISION == "bf16" and IN_INTERPRETER:  # its dot multiplies the bit patterns of bfloat16 operands
        x, w = x.to(tl.bfloat16).to(acc.dtype), w.to(tl.bfloat16).to(acc.dtype)
        acc = tl.dot(x, w, acc, input_precision="ieee", out_dtype=acc.dtype)
    elif PRECISION == "bf16":
        acc = tl.dot(x.to(tl.bfloat16), w.to(tl.bfloat16), acc)
    else:
        acc = tl.dot(x, w, acc, input_precision=PRECISION, out_dtype=acc.dtype)
    return acc


@triton.jit
def add_product(
    acc,
    x_ptr,
    x_stride,
    w_ptr,
    w_stride_k,
    w_stride_n,
    count,
    end,
    K: tl.constexpr,
    N: tl.constexpr,
    BK: tl.constexpr,
    S: tl.constexpr,
):
    """acc [BM, BN] + x [count, K] @ w [K, N]: x_ptr at the tile's first row, zeros beyond count, K and N.

    The transposed product is the same call with the weight's two strides exchanged. ``end`` equals K: as a number known
    only at run time it keeps the compiler from unrolling the loop, which costs registers and instruction cache.
    """
    BM: tl.constexpr = acc.shape[0]
    BN: tl.constexpr = acc.shape[1]
    PRECISION: tl.constexpr = S.PRECISION
    # Offsets are rebuilt inside the loop: kept alive, a 2-D offset costs as many registers as the tile it addresses.
    for start in range(0, end, BK):
        m, n, k = tl.arange(0, BM), tl.arange(0, BN), start + tl.arange(0, BK)
        x_mask, w_mask = (m < count)[:, None], None
        if K % BK:
            x_mask = x_mask & (k < K)[None, :]
            w_mask = (k < K)[:, None]
        if N < BN:
            w_mask = (n < N)[None, :] if w_mask is None else w_mask & (n < N)[None, :]
        x = tl.load(x_ptr + m[:, None] * x_stride + k[None, :], mask=x_mask, other=0.0)
        w_at = w_ptr + k[:, None] * w_stride_k + n[None, :] * w_stride_n
        w = tl.load(w_at) if w_mask is None else tl.load(w_at, mask=w_mask, other=0.0)
        acc = mma(x, w, acc, PRECISION)
    return acc


@triton.jit
def zeros(like, BM: tl.constexpr, BN: tl.constexpr):
    """A tile [BM, BN] of what ``like`` points to."""
    return tl.zeros([BM, BN], like.dtype.element_ty)


@triton.jit
def at_row(ptr, index, first, B: tl.constexpr, WIDTH: tl.constexpr):
    """Row ``first`` of table ``index`` of tables [..., B, WIDTH]."""
    return ptr + (index * B + first) * WIDTH


@triton.jit
def load_tile(ptr, count, BM: tl.constexpr, BN: tl.constexpr):
    """The tile [BM, BN] at ptr, whose rows lie BN apart; zeros in those from ``count`` on."""
    m, n = tl.arange(0, BM), tl.arange(0, BN)
    return tl.load(ptr + m[:, None] * BN + n[None, :], mask=(m < count)[:, None], other=0.0)


@triton.jit
def store_tile(ptr, value, count):
    """Write the first ``count`` rows of value [BM, BN] to ptr, BN apart."""
    BN: tl.constexpr = value.shape[1]
    m, n = tl.arange(0, value.shape[0]), tl.arange(0, BN)
    tl.store(ptr + m[:, None] * BN + n[None, :], value, mask=(m < count)[:, None])


@triton.jit
def tanh(x):
    """tanh to the last digits of either precision: a continued fraction near 0, where 1 - exp(-2|x|) would cancel."""
    size = tl.abs(x)
    square = tl.minimum(size, 0.5) * tl.minimum(size, 0.5)
    fraction = 13.0 + square / 15.0
    for odd in tl.static_range(6):
        fraction = (11.0 - 2.0 * odd) + square / fraction
    small = tl.minimum(size, 0.5) / fraction
    decay = tl.exp(-2.0 * size)
    value = tl.where(size < 0.5, small, (1.0 - decay) / (1.0 + decay))
    return tl.where(x < 0, -value, value)


@triton.jit
def softplus(x):
    """log(1 + exp(x)); x itself above 20, as PyTorch's (below, exp cannot overflow)."""
    e = tl.exp(tl.minimum(x, 20.0))
    one = 1.0 + e
    # log(1 + e) loses e's low digits in the sum; e / (one - 1) puts them back (Kahan's log1p).
    exact = tl.where(one == 1.0, e, tl.log(one) * (e / tl.where(one == 1.0, 1.0, one - 1.0)))
    return tl.where(x > 20.0, x, exact)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)) without overflow."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def record(metrics_ptr, sums_ptr, first: tl.constexpr, run, runs, values):
    """Metrics ``first``, ... of one run: metrics [M, R] takes the tuple of values, sums float64 [M, R] adds them."""
    for i in tl.static_range(len(values)):
        at = (first + i) * runs + run
        tl.store(metrics_ptr + at, values[i])
        tl.store(sums_ptr + at, tl.load(sums_ptr + at) + values[i].to(tl.float64))
