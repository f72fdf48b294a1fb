"""Normalised observations: (s - mean) / (std + eps) with the dataset's own statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Normaliser:
    """(s - mean) / std with float32 mean, std [obs_dim]; ``std`` already includes the eps that was added to it."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, observations: np.ndarray, eps: float) -> Normaliser:
        """Statistics of observations [N, obs_dim], computed in float64."""
        mean = observations.mean(0, dtype=np.float64)
        std = observations.std(0, dtype=np.float64) + eps
        return cls(mean.astype(np.float32), std.astype(np.float32))

    @classmethod
    def none(cls, obs_dim: int) -> Normaliser:
        """Leaves observations as they are."""
        return cls(np.zeros(obs_dim, np.float32), np.ones(obs_dim, np.float32))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Normalised float32 observations of the same shape."""
        return ((observations - self.mean) / self.std).astype(np.float32, copy=False)
