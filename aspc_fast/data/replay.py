"""All datasets in one device-resident store; batches are drawn on the device.

Every dataset is a block of rows [s, a, s', r, d] in one flat float32 buffer, stored once however many runs use it.
States are stored normalised, (s - mean) / (std + eps) with the dataset's own statistics, and so is s'. Entry 0 of the
buffer is a zero that padded columns read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.philox import sample_indices, standard_normals
from aspc_fast.agent.state import Batch, Hyper, Spec
from aspc_fast.data.transitions import Transitions

DRAW_BYTES = 32 * 2**20  # what one draw of several steps' indices and noise may take for its int64 words


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

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Normalised float32 observations of the same shape."""
        return ((observations - self.mean) / self.std).astype(np.float32, copy=False)


class Replay:
    """Device-resident store of one or more datasets, read by R runs.

    ``dataset_of_run`` [R] names the dataset of each run. ``sample`` yields batches padded to the spec's dimensions.
    """

    def __init__(
        self,
        datasets: Sequence[Transitions],
        normalisers: Sequence[Normaliser],
        dataset_of_run: Sequence[int],
        spec: Spec,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        widths = [2 * d.obs_dim + d.act_dim + 2 for d in datasets]
        sizes = [len(d) * w for d, w in zip(datasets, widths, strict=True)]
        starts = np.concatenate([[1], 1 + np.cumsum(sizes)])
        self.buffer = torch.zeros(int(starts[-1]), dtype=torch.float32, device=device)
        for data, normalise, start, width in zip(datasets, normalisers, starts, widths, strict=False):
            block = self.buffer[start : start + len(data) * width].view(len(data), width)
            _fill(block, data, normalise)
        runs = list(dataset_of_run)
        columns = torch.stack([_columns(datasets[i], spec) for i in runs])
        per_run = torch.tensor([[len(datasets[i]), widths[i], int(starts[i])] for i in runs])
        self.lengths, self._widths, self._starts = per_run.to(device).unbind(1)
        self._columns = columns.to(device)
        self._is_true = self._columns >= 0

    def nbytes(self) -> int:
        """Bytes of the store on the device."""
        return self.buffer.numel() * self.buffer.element_size()

    def steps_per_draw(self, spec: Spec) -> int:
        """How many steps' random numbers are drawn at once: more is faster, bounded by memory."""
        words_per_step = len(self.lengths) * spec.batch_size * (1 + 4 * -(-spec.shapes.act_dim // 4))
        return max(1, min(64, DRAW_BYTES // (8 * words_per_step)))

    def sample(self, spec: Spec, hyper: Hyper, first_step: int, steps: int) -> Iterator[Batch]:
        """Batches of the training steps first_step, ..., first_step + steps - 1 for all runs."""
        rows, noise = self.draw(spec, hyper, torch.arange(first_step, first_step + steps, device=self.buffer.device))
        for t in range(steps):
            yield self.gather(spec, rows[t], noise[t])

    def draw(self, spec: Spec, hyper: Hyper, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Dataset rows [T, R, B] int64 and standard normals [T, R, B, A] of training steps ``numbers`` [T] int64."""
        rows = sample_indices(hyper.seeds, numbers, self.lengths, spec.batch_size)
        return rows, standard_normals(hyper.seeds, numbers, spec.batch_size, spec.shapes.act_dim, self.dtype)

    def gather(self, spec: Spec, rows: Tensor, noise: Tensor) -> Batch:
        """The batch of dataset rows [R, B] int64, with noise [R, B, A]."""
        base = rows * self._widths[:, None] + self._starts[:, None]
        where = torch.where(self._is_true[:, None], base[..., None] + self._columns[:, None], 0)
        values = self.buffer.take(where).to(self.dtype)
        d, a = spec.shapes.obs_dim, spec.shapes.act_dim
        obs, actions, next_obs, rewards, terminals = values.split((d, a, d, 1, 1), dim=-1)
        return Batch(obs, actions, rewards[..., 0], next_obs, terminals[..., 0], noise)


def _fill(block: Tensor, data: Transitions, normalise: Normaliser) -> None:
    """Write the rows [s, a, s', r, d] of one dataset, a slice at a time so that the host never holds a second copy."""
    for lo in range(0, len(data), 65536):
        rows = slice(lo, lo + 65536)
        parts = (
            normalise(data.observations[rows]),
            data.actions[rows],
            normalise(data.next_observations[rows]),
            data.rewards[rows, None],
            data.terminals[rows, None].astype(np.float32),
        )
        block[rows] = torch.from_numpy(np.concatenate(parts, axis=1))


def _columns(data: Transitions, spec: Spec) -> Tensor:
    """Column of the dataset's row for each column of the padded row, -1 where padded."""
    d, a = data.obs_dim, data.act_dim
    padded_d, padded_a = spec.shapes.obs_dim, spec.shapes.act_dim

    def part(first: int, width: int, padded: int) -> Tensor:
        column = torch.arange(padded)
        return torch.where(column < width, column + first, -1)

    return torch.cat((part(0, d, padded_d), part(d, a, padded_a), part(d + a, d, padded_d), part(2 * d + a, 2, 2)))
