"""The published policies kept beside the repository for development: absent from a clone, so tests may skip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

POLICIES = Path(__file__).parents[2].parent / "shared" / "policies"
needs_policies = pytest.mark.skipif(not POLICIES.is_dir(), reason="pretrained policies (shared/policies) are absent")


class Pretrained:
    """Deterministic actions float64 [n, act_dim] of an MLP stored as arrays W0, b0, ... (out x in)."""

    def __init__(self, name: str) -> None:
        with np.load(POLICIES / f"{name}.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        self.layers = [(arrays[f"W{i}"], arrays[f"b{i}"]) for i in range(3)]
        self.mean, self.std, self.clip = arrays["obs_mean"], arrays["obs_std"], float(arrays["obs_clip"])
        self.squash = str(arrays["kind"]) == "tanh_gaussian"
        self.tanh = str(arrays["act"]) == "tanh"

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        x = np.clip((observations - self.mean) / self.std, -self.clip, self.clip)
        for weights, bias in self.layers[:-1]:
            x = x @ weights.T + bias
            x = np.tanh(x) if self.tanh else np.maximum(x, 0.0)
        weights, bias = self.layers[-1]
        x = x @ weights.T + bias
        return np.tanh(x) if self.squash else np.clip(x, -1.0, 1.0)


class Uniform:
    """Random actions, uniform in the box, seeded."""

    def __init__(self, act_dim: int, seed: int = 0) -> None:
        self.act_dim, self.rng = act_dim, np.random.default_rng(seed)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        return self.rng.uniform(-1.0, 1.0, (len(observations), self.act_dim))


def standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
