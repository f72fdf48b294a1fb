"""Where datasets lie on this machine, and what to say of a name that is none."""

from __future__ import annotations

import os
from pathlib import Path

from aspc_fast.environments import KITCHEN_DATASETS
from aspc_fast.errors import nearest
from aspc_fast.suite import BY_ID, Dataset


def default_data_dir() -> Path:
    """Where the suite's files live: the environment variable ASPC_FAST_DATA, or ~/.cache/aspc_fast/datasets."""
    stated = os.environ.get("ASPC_FAST_DATA")
    return Path(stated).expanduser() if stated else Path.home() / ".cache" / "aspc_fast" / "datasets"


def suite_file(row: Dataset, data_dir: Path | None = None) -> Path | None:
    """The file of a suite's dataset in the data folder, as ID.hdf5 or under D4RL's own name, or None."""
    folder = data_dir or default_data_dir()
    names = (f"{row.id}.hdf5", Path(row.d4rl_file).name)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def unknown(name: str) -> str:
    """The sentence for a source that is neither file nor id, with the nearest ids."""
    if name in KITCHEN_DATASETS:
        return (
            f"{name} is D4RL's, but not of the suite: name its file, as {name}.hdf5, or take Minari's, as "
            f"D4RL/kitchen/{name.split('-')[1]}-v2"
        )
    known = [*BY_ID, *sorted({row.minari for row in BY_ID.values() if row.minari})]
    hint = nearest(name, known)
    return f"{name!r} is no file, suite id or Minari id{hint} (aspc-fast data ls shows all {len(BY_ID)})"
