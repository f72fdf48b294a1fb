"""Sampling: Philox row indices, the gather of those rows into padded batches, and the target policy's noise.

Its twin is ``Replay.sample``.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.philox import STREAM_INDEX, STREAM_NOISE
from aspc_fast.agent.state import AgentState, Hyper
from aspc_fast.engine.replay import Replay
from aspc_fast.kernels.common import INTERPRETED
from aspc_fast.kernels.problem import Problem, Workspace

_INDEX = tl.constexpr(STREAM_INDEX)
_NOISE = tl.constexpr(STREAM_NOISE)
_HALF_PI = tl.constexpr(math.pi / 2)
_MASK = tl.constexpr(0xFFFFFFFF)


@triton.jit
def random_words(seed, step, stream: tl.constexpr, position):
    """The four Philox 4x32-10 words uint32 of (seed, step, stream, position): ``aspc_fast.agent.philox.words``."""
    zero = position * 0
    return tl.philox(
        seed,
        position,
        zero + (step & _MASK).to(tl.uint32, bitcast=False).to(tl.int32, bitcast=True),
        zero + (step >> 32).to(tl.int32),
        zero + stream,
    )


@triton.jit
def uniform(word):
    """float64 in (0, 1) of a word."""
    return (word.to(tl.float64) + 0.5) * 2.3283064365386963e-10  # 2**-32


@triton.jit
def cos_sin_turns(turns):
    """cos and sin of 2 pi times float64 turns in [0, 1): Taylor on +-pi/4 after exact reduction to a quadrant. The
    library's own would put a table for huge arguments on the stack."""
    quadrant = tl.floor(turns * 4.0 + 0.5)
    angle = (turns * 4.0 - quadrant) * _HALF_PI
    z = angle * angle
    cos = 1.0 - z * (1.0 / (16 * 15))
    sin = 1.0 - z * (1.0 / (16 * 17))
    for i in tl.static_range(7):
        cos = 1.0 - z * (1.0 / ((14 - 2 * i) * (13 - 2 * i))) * cos
        sin = 1.0 - z * (1.0 / ((14 - 2 * i) * (15 - 2 * i))) * sin
    sin *= angle
    q = quadrant.to(tl.int32) & 3
    swapped = (q & 1) == 1
    c, s = tl.where(swapped, sin, cos), tl.where(swapped, cos, sin)
    return tl.where((q == 1) | (q == 2), -c, c), tl.where(q >= 2, -s, s)


@triton.jit
def gather_kernel(
    seeds,
    step,
    buffer,
    lengths,
    widths,
    starts,
    columns,
    extra,
    extras,
    halvings,
    inputs,
    next_inputs,
    rewards,
    terminals,
    noise,
    D: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    KP: tl.constexpr,
    AP: tl.constexpr,
    WP: tl.constexpr,
    BG: tl.constexpr,
):
    """Program (block of BG samples, run); draws for training step ``step`` + 1.

    Reads seeds [R], step [], lengths, widths, starts [R] int64, buffer float32 (rows of the datasets), columns int64
    [R, W] (offset from the row's first entry for each of W = 2 D + A + 2 padded columns, -1 where padded), extra int64
    [R, E], sorted: rows that have one more stored row before them; E = ``extras`` < 2**``halvings``. Writes inputs and
    next_inputs [R, B, KP], rewards, terminals [R, B], noise [R, B, AP] (standard normals).
    """
    run = tl.program_id(1).to(tl.int64)
    sample = tl.program_id(0) * BG + tl.arange(0, BG)
    exists = sample < B
    seed, now = tl.load(seeds + run), tl.load(step) + 1
    kind = inputs.dtype.element_ty

    w_0, w_1, w_2, w_3 = random_words(seed, now, _INDEX, sample // 4)
    word = sample % 4
    draw = tl.where(word < 2, tl.where(word == 0, w_0, w_1), tl.where(word == 2, w_2, w_3))
    row = tl.umulhi(draw, tl.load(lengths + run).to(tl.uint32)).to(tl.int64)
    low, high = sample * 0, sample * 0 + extras  # how many of ``extra`` are not above the row: by bisection
    for _ in range(halvings):
        middle = (low + high) // 2
        is_below = (low < high) & (tl.load(extra + run * extras + middle, mask=low < high, other=0) <= row)
        low, high = tl.where(is_below, middle + 1, low), tl.where(is_below, high, middle)
    row += low
    base = row * tl.load(widths + run) + tl.load(starts + run)

    W: tl.constexpr = 2 * D + A + 2
    c = tl.arange(0, WP)
    column = tl.load(columns + run * W + c, mask=c < W, other=-1)
    true = exists[:, None] & (column >= 0)[None, :]
    values = tl.load(buffer + base[:, None] + column[None, :], mask=true, other=0.0).to(kind)
    at = run * B + sample
    here = exists[:, None]
    tl.store(inputs + at[:, None] * KP + c[None, :], values, mask=here & (c < D + A)[None, :])
    following = (c >= D + A) & (c < 2 * D + A)
    tl.store(next_inputs + at[:, None] * KP + c[None, :] - (D + A), values, mask=here & following[None, :])
    tl.store(rewards + at[:, None] + c[None, :] * 0, values, mask=here & (c == W - 2)[None, :])
    tl.store(terminals + at[:, None] + c[None, :] * 0, values, mask=here & (c == W - 1)[None, :])

    noise += at * AP
    for first in range(0, A, 4):
        w_0, w_1, w_2, w_3 = random_words(seed, now, _NOISE, sample + B * (first // 4))
        radius = tl.sqrt(-2.0 * tl.log(uniform(w_0)))
        cos, sin = cos_sin_turns(uniform(w_1))
        tl.store(noise + first, (radius * cos).to(kind), mask=exists)
        tl.store(noise + first + 1, (radius * sin).to(kind), mask=exists & (first + 1 < A))
        radius = tl.sqrt(-2.0 * tl.log(uniform(w_2)))
        cos, sin = cos_sin_turns(uniform(w_3))
        tl.store(noise + first + 2, (radius * cos).to(kind), mask=exists & (first + 2 < A))
        tl.store(noise + first + 3, (radius * sin).to(kind), mask=exists & (first + 3 < A))


class Source(NamedTuple):
    """What the kernel reads of a replay store: buffer float32 [N]; lengths, widths, starts int64 [R]; columns int64
    [R, W] with W = 2 D + A + 2; extra int64 [R, E], E at least 1. See ``gather_kernel``."""

    buffer: Tensor
    lengths: Tensor
    widths: Tensor
    starts: Tensor
    columns: Tensor
    extra: Tensor


def make_source(replay: Replay) -> Source:
    """The store's buffer (shared) and contiguous copies of its small per-run tables."""
    never = replay.lengths.new_full((len(replay.lengths), 1), torch.iinfo(torch.int64).max)
    extra = replay.extra if replay.extra.shape[-1] else never
    tables = (replay.lengths, replay.widths, replay.starts, replay.columns, extra)
    return Source(replay.buffer, *(table.to(torch.int64).contiguous() for table in tables))


def launch_gather(
    problem: Problem, work: Workspace | Mapping[str, Tensor], state: AgentState, hyper: Hyper, source: Source
) -> None:
    """Sample the batch of the step after ``state.step`` into ``work``: a workspace, or a batch's arrays by name."""
    s = problem.shapes
    block, extras = 256 if INTERPRETED else 32, source.extra.shape[-1]
    gather_kernel[(-(-problem.batch // block), problem.runs)](
        *(hyper.seeds, state.step, *source, extras, extras.bit_length()),
        *(work["inputs"], work["next_inputs"], work["rewards"], work["terminals"], work["noise"]),
        D=s.obs_dim,
        A=s.act_dim,
        B=problem.batch,
        KP=problem.input_stride,
        AP=problem.action_stride,
        WP=triton.next_power_of_2(2 * s.obs_dim + s.act_dim + 2),
        BG=block,
        num_warps=4,
        enable_fp_fusion=True,
    )
