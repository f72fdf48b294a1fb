"""A dataset as it lies in the store: rows [s, a, s', r, d], or [s, a, r, d] where s' is the state of the next row;
then a', for algorithms that ask for it.

``Compact`` is what a dataset is made of (and what the decoded cache keeps): s' is stored only where it is not the next
row's state. From it rows are packed, normalised, straight into memory that goes to the device. Numpy only: the
processes that decode import nothing heavier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aspc_fast.data.normaliser import Normaliser
from aspc_fast.data.transitions import Transitions, next_actions

MAX_EXTRA_ROWS = 0.2  # s' is stored after all where reading it as the next row would need more extra rows than this
_ROWS_AT_ONCE = 65536
TEXTS = (
    "source",
    "fingerprint",
    "max_action",
    "env",
    "dataset_id",
    "frame",
    "timeout_count",
    "return_range",
    "attributes",
)


@dataclass(frozen=True)
class Compact:
    """A dataset without what is there twice.

    observations [N, O], actions [N, A], rewards [N] float32, terminals [N] bool; ``breaks`` [E] int64: rows whose s' is
    not the next row's state, ``next_at_breaks`` [E, O] float32 that s'. mean, std [O] float64: of the observations.
    ``cuts``, ``cut_actions``: rows whose successor was dropped [C], and that one's action [C, A] (see ``Transitions``).
    episode_returns, episode_lengths and ``texts`` (source, fingerprint, max_action, env, ...) as in ``Transitions``.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    breaks: np.ndarray
    next_at_breaks: np.ndarray
    cuts: np.ndarray
    cut_actions: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    episode_returns: np.ndarray
    episode_lengths: np.ndarray
    texts: dict[str, Any]

    @classmethod
    def of(cls, data: Transitions) -> Compact:
        """The same dataset."""
        found = np.flatnonzero(breaks(data))
        cuts, cut_actions = data.cuts or (np.empty(0, np.int64), np.empty((0, data.act_dim), np.float32))
        return cls(
            *(data.observations, data.actions, data.rewards, data.terminals, found, data.next_observations[found]),
            cuts=cuts,
            cut_actions=cut_actions,
            mean=data.observations.mean(0, dtype=np.float64),
            std=data.observations.std(0, dtype=np.float64),
            episode_returns=data.episode_returns,
            episode_lengths=data.episode_lengths,
            texts={name: getattr(data, name) for name in TEXTS},
        )


@dataclass(frozen=True)
class Packed:
    """A dataset in a store, from entry ``start`` on: what ``Transitions`` tells of it, without the arrays.

    ``breaks`` [E] int64: rows that have an extra row behind them, which holds their s' (E = 0 with ``store_next``).
    """

    rows: int
    obs_dim: int
    act_dim: int
    store_next: bool
    breaks: np.ndarray
    normaliser: Normaliser
    episode_returns: np.ndarray
    episode_lengths: np.ndarray
    source: str
    fingerprint: str
    max_action: float
    env: str | None
    dataset_id: str | None
    frame: str
    timeout_count: int
    return_range: float
    attributes: dict[str, str]
    reward_mean: float
    next_actions: bool = False
    start: int = 0

    def __len__(self) -> int:
        return self.rows

    @property
    def width(self) -> int:
        """Entries of a row."""
        return (2 if self.store_next else 1) * self.obs_dim + (2 if self.next_actions else 1) * self.act_dim + 2

    @property
    def stored_rows(self) -> int:
        """Rows in the store, extra ones too."""
        return self.rows + len(self.breaks)

    @property
    def entries(self) -> int:
        """float32 numbers in the store."""
        return self.stored_rows * self.width


class Packing(NamedTuple):
    """How datasets lie in a store: normalised with ``eps`` (None: as they are), with s' and a' or without."""

    eps: float | None
    store_next: bool
    next_actions: bool = False


def describe(compact: Compact, packing: Packing) -> Packed:
    """How ``compact`` will lie in a store."""
    eps, store_next, next_actions = packing
    rows, obs_dim = compact.observations.shape
    store_next = store_next or len(compact.breaks) > MAX_EXTRA_ROWS * rows
    return Packed(
        *(rows, obs_dim, compact.actions.shape[1], store_next),
        breaks=np.empty(0, dtype=np.int64) if store_next else compact.breaks,
        normaliser=Normaliser.none(obs_dim)
        if eps is None
        else Normaliser(compact.mean.astype(np.float32), (compact.std + eps).astype(np.float32)),
        episode_returns=compact.episode_returns,
        episode_lengths=compact.episode_lengths,
        reward_mean=float(compact.rewards.mean(dtype="float64")),
        next_actions=next_actions,
        **compact.texts,
    )


def pack(compact: Compact, packed: Packed, block: np.ndarray) -> None:
    """Write the normalised rows into ``block`` [stored_rows, width] float32, a slice at a time."""
    d, a, rows = packed.obs_dim, packed.act_dim, packed.rows
    normalise, at_breaks = packed.normaliser, packed.breaks
    following = next_actions(compact.actions, compact.cuts, compact.cut_actions) if packed.next_actions else None
    for lo in range(0, rows, _ROWS_AT_ONCE):
        own = slice(lo, min(lo + _ROWS_AT_ONCE, rows))
        target: slice | np.ndarray = own
        if len(at_breaks):
            numbers = np.arange(own.start, own.stop)
            target = numbers + np.searchsorted(at_breaks + 1, numbers, side="right")
        block[target, :d] = normalise(compact.observations[own])
        block[target, d : d + a] = compact.actions[own]
        flags = packed.width - (a if packed.next_actions else 0)
        block[target, flags - 2] = compact.rewards[own]
        block[target, flags - 1] = compact.terminals[own]
        if following is not None:
            block[target, flags:] = following[own]
        if packed.store_next:
            first = max(lo, 1)
            block[first - 1 : own.stop - 1, d + a : 2 * d + a] = block[first : own.stop, :d]
    if packed.store_next:
        block[compact.breaks, d + a : 2 * d + a] = normalise(compact.next_at_breaks)
    elif len(at_breaks):
        after = at_breaks + 1 + np.arange(len(at_breaks))
        block[after] = 0.0
        block[after, :d] = normalise(compact.next_at_breaks)


def breaks(data: Transitions) -> np.ndarray:
    """Rows [N] bool whose s' is not the state of the next row, exactly."""
    broken = np.ones(len(data), dtype=bool)
    broken[:-1] = (data.next_observations[:-1] != data.observations[1:]).any(axis=1)
    return broken
