"""All datasets in one device-resident store; batches are drawn on the device.

Every dataset is a block of rows in one flat float32 buffer, stored once however many runs use it: [s, a, s', r, d], or
[s, a, r, d] where s' is read as the state of the next row; then a', for algorithms that ask for it. States are stored
normalised, (s - mean) / (std + eps) with the dataset's own statistics, and so is s'. Entry 0 of the buffer is a zero
that padded columns read.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.algorithm import Draw
from aspc_fast.agent.philox import STREAM_OUTER, sample_indices, standard_normals, symmetric_uniforms
from aspc_fast.agent.state import Hyper, Spec
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.data.packed import MAX_EXTRA_ROWS, Packed
from aspc_fast.data.packed import breaks as find_breaks
from aspc_fast.data.transitions import Transitions

DRAW_BYTES = 32 * 2**20  # what one draw of several steps' indices and noise may take for its int64 words
COPY_ENTRIES = 2**24  # to another device at a time: 64 MiB


class Replay:
    """Device-resident store of one or more datasets, read by R runs.

    ``dataset_of_run`` [R] names the dataset of each run. ``store_next`` false leaves s' out where it is (nearly) always
    the next row's state: rows whose s' is another are followed by an extra row that holds it. ``sample`` yields batches
    padded to the spec's dimensions, the same ones with and without s'.
    """

    def __init__(
        self,
        datasets: Sequence[Transitions],
        normalisers: Sequence[Normaliser],
        dataset_of_run: Sequence[int],
        spec: Spec,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        store_next: bool = True,
    ) -> None:
        self.dtype = dtype
        blocks = [_Block(data, store_next, "next_actions" in spec.algorithm.data) for data in datasets]
        starts = np.concatenate([[1], 1 + np.cumsum([b.rows * b.width for b in blocks])])
        self.buffer = torch.zeros(int(starts[-1]), dtype=torch.float32, device=device)
        for block, normalise, start in zip(blocks, normalisers, starts, strict=False):
            block.fill(self.buffer[start : start + block.rows * block.width].view(block.rows, block.width), normalise)
        self._lay_out(blocks, starts.tolist(), list(dataset_of_run), spec)

    @classmethod
    def of_store(
        cls,
        entries: np.ndarray,
        datasets: Sequence[Packed],
        dataset_of_run: Sequence[int],
        spec: Spec,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Replay:
        """On rows that are packed and normalised already: ``entries`` [n] float32 of a ``data.store.Store``.

        On a CPU they are used where they are; another device gets a copy of those that ``datasets`` need.
        """
        self = cls.__new__(cls)
        self.dtype = dtype
        starts = [data.start for data in datasets]
        if torch.device(device).type == "cpu":
            self.buffer = torch.from_numpy(entries)
        else:
            ends = np.cumsum([1, *(data.entries for data in datasets)]).tolist()
            self.buffer = torch.zeros(ends[-1], dtype=torch.float32, device=device)
            for data, start in zip(datasets, ends, strict=False):
                for lo in range(0, data.entries, COPY_ENTRIES):
                    own = slice(lo, min(lo + COPY_ENTRIES, data.entries))
                    piece = torch.from_numpy(entries[data.start + own.start : data.start + own.stop])
                    self.buffer[start + own.start : start + own.stop].copy_(piece)
            starts = ends[:-1]
        self._lay_out([_Block.of_packed(data) for data in datasets], starts, list(dataset_of_run), spec)
        return self

    def _lay_out(self, blocks: Sequence[_Block], starts: Sequence[int], runs: Sequence[int], spec: Spec) -> None:
        device = self.buffer.device
        columns = torch.stack([blocks[i].columns(spec) for i in runs])
        per_run = torch.tensor([[len(blocks[i].data), blocks[i].width, int(starts[i])] for i in runs])
        self.lengths, self.widths, self.starts = per_run.to(device).unbind(1)
        self.columns = columns.to(device)
        self._is_true = self.columns >= 0
        self.extra = _padded_extras([blocks[i].extra_before for i in runs]).to(device)

    def run(self, index: int) -> Replay:
        """The same store as seen by one run."""
        return self.part(slice(index, index + 1))

    def part(self, runs: slice) -> Replay:
        """The same store as seen by these runs."""
        own = copy.copy(self)
        for name in ("lengths", "widths", "starts", "columns", "_is_true", "extra"):
            setattr(own, name, getattr(self, name)[runs])
        return own

    def nbytes(self) -> int:
        """Bytes of the store on the device."""
        return sum(t.numel() * t.element_size() for t in (self.buffer, self.columns, self._is_true, self.extra))

    def steps_per_draw(self, spec: Spec) -> int:
        """How many steps' random numbers are drawn at once: more is faster, bounded by memory."""
        rows = 2 if "outer" in spec.algorithm.data else 1
        drawn = sum(_rows(spec, draw) * 4 * -(-_width(spec, draw) // 4) for draw in spec.draws)
        words_per_step = len(self.lengths) * (rows * spec.config.batch_size + drawn)
        return max(1, min(64, DRAW_BYTES // (8 * words_per_step)))

    def sample(self, spec: Spec, hyper: Hyper, first_step: int, steps: int) -> Iterator[Any]:
        """Batches of the training steps first_step, ..., first_step + steps - 1 for all runs."""
        drawn = self.draw(spec, hyper, torch.arange(first_step, first_step + steps, device=self.buffer.device))
        for t in range(steps):
            yield self.gather(spec, *(numbers[t] for numbers in drawn))

    def draw(self, spec: Spec, hyper: Hyper, numbers: Tensor) -> tuple[Tensor, ...]:
        """For training steps ``numbers`` [T] int64: dataset rows [T, R, B] int64 (of each batch), then the draws."""
        streams = (0, STREAM_OUTER) if "outer" in spec.algorithm.data else (0,)
        batch = spec.config.batch_size
        rows = [sample_indices(hyper.seeds, numbers, self.lengths, batch, stream) for stream in streams]
        drawn = []
        for draw in spec.draws:
            make = standard_normals if draw.kind == "normal" else symmetric_uniforms
            count, width = _rows(spec, draw), _width(spec, draw)
            values = make(hyper.seeds, numbers, count, width, self.dtype, draw.stream)
            sizes = [spec.dims.size(size) for size in draw.sizes]
            drawn.append(values.reshape(*values.shape[:2], batch, *sizes) if len(sizes) > 1 else values)
        return (*rows, *drawn)

    def gather(self, spec: Spec, rows: Tensor, *drawn: Tensor) -> Any:
        """The batch of dataset rows [R, B] int64, with what ``draw`` gave beside them."""
        observations, actions, next_observations, rewards, terminals, *further = self._read(spec, rows)
        fields = [observations, actions, rewards, next_observations, terminals, *further]
        if "outer" in spec.algorithm.data:
            outer, drawn = self._read(spec, drawn[0]), drawn[1:]
            fields += [outer[0], outer[1], outer[2], outer[4]]
        return spec.algorithm.batch(*fields, *drawn)

    def _read(self, spec: Spec, rows: Tensor) -> list[Tensor]:
        """s, a, s', r, d (and a', if stored) of dataset rows [R, B]."""
        if self.extra.shape[-1]:
            rows = rows + torch.searchsorted(self.extra, rows, right=True)  # extra rows lie between the dataset's own
        base = rows * self.widths[:, None] + self.starts[:, None]
        where = torch.where(self._is_true[:, None], base[..., None] + self.columns[:, None], 0)
        values = self.buffer.take(where).to(self.dtype)
        d, a = spec.dims
        further = (a,) if "next_actions" in spec.algorithm.data else ()
        parts = list(values.split((d, a, d, 1, 1, *further), dim=-1))
        return [*parts[:3], parts[3][..., 0], parts[4][..., 0], *parts[5:]]


def _width(spec: Spec, draw: Draw) -> int:
    """Entries of the draw's last axis: the one along which runs are padded."""
    return spec.dims.size(draw.sizes[-1])


def _rows(spec: Spec, draw: Draw) -> int:
    """How many rows of that width one step draws for a run."""
    return spec.config.batch_size * math.prod(spec.dims.size(size) for size in draw.sizes[:-1])


class _Block:
    """One dataset's rows in the store. ``extra_before`` [E]: rows of the dataset that have an extra row before them."""

    def __init__(self, data: Transitions, store_next: bool, next_actions: bool) -> None:
        self.data: Transitions | Packed = data
        self.next_actions = next_actions
        breaks = np.flatnonzero(find_breaks(data)) if not store_next else np.empty(0, dtype=np.int64)
        self.store_next = store_next or len(breaks) > MAX_EXTRA_ROWS * len(data)
        self.breaks = breaks if not self.store_next else np.empty(0, dtype=np.int64)
        self.extra_before = torch.from_numpy(self.breaks + 1)
        self.rows = len(data) + len(self.breaks)
        states, actions = (2 if self.store_next else 1), (2 if next_actions else 1)
        self.width = states * data.obs_dim + actions * data.act_dim + 2

    @classmethod
    def of_packed(cls, data: Packed) -> _Block:
        """The layout of rows that are in a store already."""
        self = cls.__new__(cls)
        self.data, self.store_next, self.breaks = data, data.store_next, data.breaks
        self.next_actions = data.next_actions
        self.extra_before = torch.from_numpy(data.breaks + 1)
        self.rows, self.width = data.stored_rows, data.width
        return self

    def fill(self, block: Tensor, normalise: Normaliser) -> None:
        """Write the rows, a slice at a time so that the host never holds a second copy."""
        data, d = self.data, self.data.obs_dim
        assert isinstance(data, Transitions)
        following = data.next_actions if self.next_actions else None
        for lo in range(0, len(data), 65536):
            rows = np.arange(lo, min(lo + 65536, len(data)))
            next_states = [normalise(data.next_observations[rows])] if self.store_next else []
            parts = (
                normalise(data.observations[rows]),
                data.actions[rows],
                *next_states,
                data.rewards[rows, None],
                data.terminals[rows, None].astype(np.float32),
                *([] if following is None else [following[rows]]),
            )
            at = rows + np.searchsorted(self.breaks + 1, rows, side="right")
            block[torch.from_numpy(at).to(block.device)] = torch.from_numpy(np.concatenate(parts, axis=1)).to(
                block.device
            )
        if len(self.breaks):
            after = torch.from_numpy(self.breaks + 1 + np.arange(len(self.breaks))).to(block.device)
            block[after, :d] = torch.from_numpy(normalise(data.next_observations[self.breaks])).to(block.device)

    def columns(self, spec: Spec) -> Tensor:
        """Offset from a row's first entry for each column of the padded [s, a, s', r, d, a'], -1 where padded."""
        d, a = self.data.obs_dim, self.data.act_dim

        def part(first: int, width: int, padded: int) -> Tensor:
            column = torch.arange(padded)
            return torch.where(column < width, column + first, -1)

        next_state = d + a if self.store_next else self.width
        padded_d, padded_a = spec.dims
        states = (part(0, d, padded_d), part(d, a, padded_a), part(next_state, d, padded_d))
        rewards = self.width - 2 - (a if self.next_actions else 0)
        following = [part(self.width - a, a, padded_a)] if self.next_actions else []
        return torch.cat((*states, part(rewards, 2, 2), *following))


def _padded_extras(extras: Sequence[Tensor]) -> Tensor:
    """[R, E] sorted, padded with a number no row reaches; E = 0 if no run has any."""
    widest = max(len(extra) for extra in extras)
    out = torch.full((len(extras), widest), torch.iinfo(torch.int64).max)
    for row, extra in zip(out, extras, strict=True):
        row[: len(extra)] = extra
    return out


def stored_bytes(rows: int, obs_dim: int, act_dim: int, store_next: bool, next_actions: bool = False) -> int:
    """Bytes a dataset takes in the store, extra rows aside."""
    return 4 * rows * ((2 if store_next else 1) * obs_dim + (2 if next_actions else 1) * act_dim + 2)
