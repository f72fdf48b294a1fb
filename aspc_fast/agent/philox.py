"""Counter-based random numbers: Philox 4x32-10 (Salmon et al., SC 2011) in tensor operations.

A number is a function of (seed, step, stream, position) alone, so every engine and device draws the same batches and
noise, a run does not depend on the population it sits in, and a resumed run needs no generator state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STREAM_INDEX, STREAM_NOISE, STREAM_INIT = 0, 1, 2
STREAM_OUTER, STREAM_OWN = 3, 8  # indices of a second batch; further draws of an algorithm begin at STREAM_OWN

_MASK = 0xFFFFFFFF
_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four 32-bit words for each counter.

    counter, key: int64 tensors holding values below 2**32, of shapes that broadcast. Returns four int64 tensors of the
    common shape, each below 2**32. 64-bit products wrap; the shifts and masks below read the right bits nevertheless.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product_0, product_1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (
            ((product_1 >> 32) & _MASK) ^ c1 ^ k0,
            product_1 & _MASK,
            ((product_0 >> 32) & _MASK) ^ c3 ^ k1,
            product_0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL_0) & _MASK, (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


def words(seeds: Tensor, steps: Tensor, stream: int, positions: int) -> Tensor:
    """Random words [T, R, positions, 4] int64 below 2**32, for seeds [R] and steps [T] (int64, non-negative)."""
    position = torch.arange(positions, device=seeds.device)
    seed, step = seeds[None, :, None], steps[:, None, None]
    counter = (position, step & _MASK, step >> 32, torch.full_like(position, stream))
    return torch.stack(torch.broadcast_tensors(*philox(counter, (seed & _MASK, (seed >> 32) & _MASK))), dim=-1)


def sample_indices(
    seeds: Tensor, steps: Tensor, lengths: Tensor, batch_size: int, stream: int = STREAM_INDEX
) -> Tensor:
    """Uniform indices [T, R, batch_size] int64; below lengths[r] each (multiply-shift, lengths < 2**31)."""
    draws = words(seeds, steps, stream, -(-batch_size // 4)).flatten(-2)[..., :batch_size]
    return (draws * lengths[None, :, None]) >> 32


def standard_normals(
    seeds: Tensor, steps: Tensor, batch_size: int, width: int, dtype: torch.dtype, stream: int = STREAM_NOISE
) -> Tensor:
    """Standard normals [T, R, batch_size, width]: Box-Muller in float64, rounded to ``dtype``.

    Entry (row, column) comes from the counter position row + batch_size * (column // 4): widening the action space by
    padding leaves the numbers of the true columns as they are.
    """
    return _in_columns(box_muller(words(seeds, steps, stream, -(-width // 4) * batch_size)), batch_size, width).to(
        dtype
    )


def symmetric_uniforms(
    seeds: Tensor, steps: Tensor, batch_size: int, width: int, dtype: torch.dtype, stream: int
) -> Tensor:
    """Uniform numbers in (-1, 1) [T, R, batch_size, width], placed as ``standard_normals`` are."""
    draws = words(seeds, steps, stream, -(-width // 4) * batch_size)
    return _in_columns((draws.double() + 0.5) * 2.0**-31 - 1.0, batch_size, width).to(dtype)


def _in_columns(numbers: Tensor, batch_size: int, width: int) -> Tensor:
    """[T, R, batch_size, width] from four numbers for each counter position [T, R, blocks * batch_size, 4]."""
    lead, blocks = numbers.shape[:2], -(-width // 4)
    rows = numbers.reshape(*lead, blocks, batch_size, 4).transpose(2, 3)
    return rows.reshape(*lead, batch_size, 4 * blocks)[..., :width]


def box_muller(draws: Tensor) -> Tensor:
    """Standard normals float64 [..., 4] from random words [..., 4]: pairs (0, 1) and (2, 3)."""
    uniform = (draws.double() + 0.5) * 2.0**-32
    radius = (-2.0 * uniform[..., 0::2].log()).sqrt()
    angle = (2.0 * math.pi) * uniform[..., 1::2]
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(-2)


def uniforms(seed: int, block: int, count: int) -> Tensor:
    """``count`` float64 numbers uniform in (0, 1) on the CPU, for initialisation; ``block`` names the tensor."""
    draws = words(torch.tensor([seed]), torch.tensor([block]), STREAM_INIT, -(-count // 4))
    return (draws.flatten()[:count].double() + 0.5) * 2.0**-32
