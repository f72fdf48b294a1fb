"""Running means of metrics on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from aspc_fast.agent.td3bc import Metrics


class MetricMeans:
    """Sums of metrics [R] on the device; nothing is read back until somebody looks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Metrics) -> None:
        """Take in one step's metrics [R]."""
        for name, value in metrics.items():
            if name in self._sums:
                self._sums[name].add_(value)
                self._counts[name] += 1
            else:
                self._sums[name], self._counts[name] = value.to(torch.float64, copy=True), 1

    def take(self) -> dict[str, list[float]]:
        """Each metric's mean per run over the steps that had it, read back to the host; then start anew."""
        means = {name: (total / self._counts[name]).tolist() for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def to_json(self) -> dict[str, list[float]]:
        """Sums and counts as plain numbers ([*sums, count] by name): what a checkpoint between two log points keeps."""
        return {name: [*total.tolist(), self._counts[name]] for name, total in self._sums.items()}

    def load_json(self, values: dict[str, list[float]], device: torch.device | str) -> None:
        """The inverse of ``to_json``."""
        self._sums = {k: torch.tensor(v[:-1], dtype=torch.float64, device=device) for k, v in values.items()}
        self._counts = {k: int(v[-1]) for k, v in values.items()}
