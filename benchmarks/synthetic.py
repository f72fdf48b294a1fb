"""Synthetic files of the suite's dimensions, packed as D4RL packs its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from aspc_fast.suite import SUITE, Dataset


def make_data(folder: Path, rows: int | None, datasets: Sequence[Dataset] | None = None) -> list[Path]:
    """One gzip HDF5 file for each of ``datasets`` (default: the suite's), of at most ``rows`` rows.

    Those that are there are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    bank = np.random.default_rng(0).standard_normal(4_000_037, dtype=np.float32)
    for number, row in enumerate(SUITE if datasets is None else datasets):
        count = min(rows or row.transitions, row.transitions)
        path = folder / f"{row.id}-{count}.hdf5"
        if not path.exists():
            print(f"  writing {path.name}", flush=True)
            _write(path, row, count, np.roll(bank, -number * 1013))
        paths.append(path)
    return paths


def _write(path: Path, row: Dataset, count: int, bank: np.ndarray) -> None:
    def take(width: int, shift: int) -> np.ndarray:
        return np.resize(np.roll(bank, -shift), (count, width) if width else (count,))

    observations = take(row.obs_dim, 0)
    fields = {
        "observations": observations,
        "actions": np.clip(take(row.act_dim, 7), -1, 1),
        "rewards": take(0, 11),
        "terminals": np.zeros(count, dtype=bool),
        "timeouts": np.arange(count) % row.horizon == row.horizon - 1,
    }
    if row.domain == "MuJoCo":  # as D4RL's files
        fields["next_observations"] = np.roll(observations, -1, axis=0)
    half = path.with_suffix(".part")
    with h5py.File(half, "w") as file:
        for name, array in fields.items():
            file.create_dataset(name, data=array, compression="gzip", compression_opts=1)
    half.rename(path)
