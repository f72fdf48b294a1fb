"""Adam (Kingma & Ba 2015, eps outside the root) on flat vectors, and its derivative with respect to the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from aspc_fast.agent.state import Spec


def bias_corrections(spec: Spec, updates: Tensor) -> tuple[Tensor, Tensor]:
    """k1 = 1 - beta1**n and k2 = 1 - beta2**n, float64 [], for n = ``updates`` (int64 [], counting this update)."""
    n = updates.double()
    return 1.0 - spec.adam_beta1**n, 1.0 - spec.adam_beta2**n


def adam_(
    spec: Spec, weights: Tensor, gradient: Tensor, m: Tensor, v: Tensor, lr: Tensor, k1: Tensor, k2: Tensor
) -> Tensor:
    """One Adam step in place on weights, m, v (all [..., P], lr broadcastable); returns D = sqrt(v/k2) + eps."""
    m.lerp_(gradient, 1.0 - spec.adam_beta1)
    v.mul_(spec.adam_beta2).addcmul_(gradient, gradient, value=1.0 - spec.adam_beta2)
    denominator = (v / k2).sqrt_().add_(spec.adam_eps)
    weights.sub_((m / denominator).mul_(lr / k1))
    return denominator


def adam_derivative(
    spec: Spec, gradient: Tensor, m: Tensor, denominator: Tensor, k1: Tensor, k2: Tensor, textbook: bool = False
) -> Tensor:
    """d(update)/d(gradient) elementwise, the update being (m/k1)/D after ``adam_``; 0 where m = 0.

    As the authors' optimiser library differentiates it: (1-b1)/(k1 D) - (m/k1) (1-b2) g / (k2 D^3). ``textbook`` uses
    D^2 sqrt(v/k2) instead of D^3. The mask matters: units that never fired have v = 0, and 0 * inf would be NaN.
    """
    root = denominator - spec.adam_eps if textbook else denominator
    cube = denominator * denominator * root
    slope = (1.0 - spec.adam_beta1) / (k1 * denominator) - m * gradient * ((1.0 - spec.adam_beta2) / (k1 * k2)) / cube
    return torch.where(m == 0, torch.zeros_like(slope), slope)
