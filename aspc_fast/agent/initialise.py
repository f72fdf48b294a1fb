"""Initial weights: drawn from Philox by seed and block, the same on every device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aspc_fast.agent import philox
from aspc_fast.agent.layout import Layout


def torch_default(layout: Layout, seed: int, block: int) -> Tensor:
    """PyTorch's default Linear init: weight and bias U(+-1/sqrt(fan_in)); LayerNorm 1 and 0; extras 0."""
    tensors, fan_in = [], 1
    for i, (name, shape) in enumerate(zip(layout.names, layout.shapes, strict=True)):
        if not name.startswith(("w", "b")):
            tensors.append(torch.full(shape, float(name.startswith("gain"))))
            continue
        if not name.startswith("b"):
            fan_in = shape[0]
        tensors.append(symmetric(seed, block + i, shape, 1.0 / math.sqrt(fan_in)))
    return layout.flatten(tensors)


def small_last(layout: Layout, seed: int, block: int, last: float = 3e-3) -> Tensor:
    """The published robust critic's init: last layer U(+-last), hidden biases 0.1, identity LayerNorm."""
    tensors = []
    depth = sum(name.startswith("w") for name in layout.names) - 1
    for i, (name, shape) in enumerate(zip(layout.names, layout.shapes, strict=True)):
        if name in ("w_last", "b_last", f"w{depth}", f"b{depth}"):
            tensors.append(symmetric(seed, block + i, shape, last))
        elif name.startswith("w"):
            tensors.append(symmetric(seed, block + i, shape, 1.0 / math.sqrt(shape[0])))
        else:
            constant = {"b": 0.1, "gain": 1.0, "shift": 0.0}[name.rstrip("0123456789")]
            tensors.append(torch.full(shape, constant))
    return layout.flatten(tensors)


def symmetric(seed: int, block: int, shape: tuple[int, ...], bound: float) -> Tensor:
    """Uniform numbers in +-bound, float32."""
    count = math.prod(shape)
    return ((philox.uniforms(seed, block, count) * 2.0 - 1.0) * bound).float().reshape(shape)
