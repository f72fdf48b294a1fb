"""Initial weights that a golden trace names by their seed instead of holding them: torch's generator draws them again.

The authors' trainer makes its networks after ``torch.manual_seed(seed)``: actor, critic 1, critic 2. Their 1.3 MB of
noise cannot be compressed, so the traces that ship with the package leave them out and keep a hash, which is checked.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

HIDDEN = 256


def draw_weights(seed: int, obs_dim: int, act_dim: int, robust: bool) -> dict[str, np.ndarray]:
    """float32 arrays ``init/NETWORK/PARAMETER`` under the authors' names, weights [out, in]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = {"actor": _sequence([obs_dim, HIDDEN, HIDDEN, act_dim], robust=False)}
        for name in ("critic_1", "critic_2"):
            hidden = 3 if robust else 2
            networks[name] = _sequence([obs_dim + act_dim, *[HIDDEN] * hidden, 1], robust)
    return {
        f"init/{network}/net.{name}": value.detach().numpy()
        for network, module in networks.items()
        for name, value in module.state_dict().items()
    }


def _sequence(widths: list[int], robust: bool) -> nn.Sequential:
    """Linear and ReLU (and LayerNorm) layers; the robust critic draws its weights anew once all layers are made."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(width_in, width_out), nn.ReLU(), *([nn.LayerNorm(width_out)] if robust else [])]
    layers.append(nn.Linear(widths[-2], widths[-1]))
    if robust:
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for layer in linear[:-1]:
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.constant_(layer.bias, 0.1)
        nn.init.uniform_(linear[-1].weight, -3e-3, 3e-3)
        nn.init.uniform_(linear[-1].bias, -3e-3, 3e-3)
    return nn.Sequential(*layers)


def weights_hash(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and float32 bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name], dtype="<f4")
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
