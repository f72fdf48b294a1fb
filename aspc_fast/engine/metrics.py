"""Running means of metrics on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.algorithm import Metrics

Names = tuple[str, ...]


class MetricMeans:
    """Sums of metrics [R] on the device; nothing is read back until somebody looks.

    Steps of different kinds have different metrics: one sum [M, R] float64 and one count for each set of names.
    """

    def __init__(self) -> None:
        self._sums: dict[Names, Tensor] = {}
        self._counts: dict[Names, int] = {}

    def add(self, metrics: Metrics) -> None:
        """Take in one step's metrics [R]."""
        self.add_sums(tuple(metrics), torch.stack(tuple(metrics.values())), 1)

    def add_sums(self, names: Names, sums: Tensor, count: int) -> None:
        """Take in the sums [M, R] of ``count`` steps that had the metrics ``names``."""
        if names in self._sums:
            self._sums[names].add_(sums)
            self._counts[names] += count
        else:
            self._sums[names], self._counts[names] = sums.to(torch.float64, copy=True), count

    def add_side_by_side(self, parts: Sequence[MetricMeans]) -> None:
        """Take in the sums of several parts of a population, which had the same steps, joined along the run axis."""
        for names, count in parts[0]._counts.items():
            self.add_sums(names, torch.cat([part._sums[names] for part in parts], dim=1), count)

    def take(self) -> dict[str, list[float]]:
        """Each metric's mean per run over the steps that had it, read back to the host; then start anew."""
        return {name: values.tolist() for name, values in self.take_columns().items()}

    def take_columns(self) -> dict[str, np.ndarray]:
        """``take`` as arrays [R] float64, by one copy from the device."""
        if not self._sums:
            return {}
        totals: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        rows = iter(torch.cat(list(self._sums.values())).cpu().numpy())
        for names in self._sums:
            for name, total in zip(names, rows, strict=False):
                totals[name] = totals[name] + total if name in totals else total
                counts[name] = counts.get(name, 0) + self._counts[names]
        self._sums, self._counts = {}, {}
        return {name: total / counts[name] for name, total in totals.items()}

    def to_json(self) -> list[dict[str, Any]]:
        """Sums and counts as plain numbers: what a checkpoint between two log points keeps."""
        return [{"names": n, "sums": s.tolist(), "count": self._counts[n]} for n, s in self._sums.items()]

    def load_json(self, values: list[dict[str, Any]], device: torch.device | str) -> None:
        """The inverse of ``to_json``."""
        for value in values:
            names = tuple(value["names"])
            self._sums[names] = torch.tensor(value["sums"], dtype=torch.float64, device=device)
            self._counts[names] = int(value["count"])
