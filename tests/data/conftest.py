"""Small synthetic datasets in every form the readers must take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

Fields = dict[str, np.ndarray]


@pytest.fixture
def fields() -> Fields:
    """30 rows of a 5-entry, 2-action task: three episodes of ten rows, the first terminal, the others timed out."""
    rng = np.random.default_rng(0)
    rows = 30
    terminals = np.zeros(rows, bool)
    timeouts = np.zeros(rows, bool)
    terminals[9] = timeouts[19] = timeouts[29] = True
    return {
        "observations": rng.normal(size=(rows, 5)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "next_observations": rng.normal(size=(rows, 5)).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """save(fields, suffix=".hdf5", attributes={}) writes a dataset file and returns its path."""

    def write(
        data: Fields, suffix: str = ".hdf5", name: str = "mine", attributes: dict[str, Any] | None = None
    ) -> Path:
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".npz":
            np.savez(path, **data)
        else:
            with h5py.File(path, "w") as file:
                for key, value in data.items():
                    file.create_dataset(key, data=value)
                file.attrs.update(attributes or {})
        return path

    return write
