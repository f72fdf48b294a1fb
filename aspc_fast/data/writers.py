"""Writes collected arrays as a D4RL-style HDF5 file or a Minari dataset; nothing half-written is ever left in place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.files import replacing

CHUNK_ROWS = 8192


def write_d4rl(path: Path, fields: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> Path:
    """Write an HDF5 file as D4RL has it: one array per field ("infos/goal" makes a group), attributes on the root.

    The file appears under ``path`` only when it is whole. Returns ``path``; UserError if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            for name, array in fields.items():
                chunks = (min(CHUNK_ROWS, len(array)), *array.shape[1:])
                file.create_dataset(name, data=array, chunks=chunks, compression="lzf")
            for name, value in attributes.items():
                file.attrs[name] = value
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def check_writable(path: Path, *, new: bool = False) -> None:
    """UserError, before long work, if ``path`` is a folder (or, with ``new``, exists) or its folder takes no files."""
    if new and path.exists():
        raise UserError(f"{path}: is already there; remove it or choose another --out")
    if path.is_dir():
        raise UserError(f"{path}: is a directory, but a file name is needed")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def sync(path: Path) -> None:
    """Force a file's bytes to the disk."""
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def write_minari(dataset_id: str, fields: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> Path:
    """Write a maze's fields as the Minari dataset ``dataset_id``, one episode per segment between time-outs.

    Observations become PointMaze's dict (observation, achieved_goal, desired_goal); attributes become metadata. The
    dataset lands in Minari's own folder (MINARI_DATASETS_PATH) only when it is whole. Returns its folder; UserError if
    Minari is missing, the id is malformed or taken, or the folder cannot be written.
    """
    from aspc_fast.data.minari import datasets_root, import_minari, quiet_minari, valid_id

    minari = import_minari()
    valid_id(dataset_id)
    root = datasets_root()
    folder = root / dataset_id
    if folder.exists():
        raise UserError(f"{dataset_id}: Minari already has this dataset at {folder}; remove it or choose another --out")
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    observation_space = spaces.Dict(
        {
            "observation": spaces.Box(-np.inf, np.inf, (4,), np.float32),
            "achieved_goal": spaces.Box(-np.inf, np.inf, (2,), np.float32),
            "desired_goal": spaces.Box(-np.inf, np.inf, (2,), np.float32),
        }
    )
    buffers = [EpisodeBuffer(**episode) for episode in _episodes(fields)]
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".aspc-fast-", dir=root))
        try:
            with quiet_minari(staging):
                dataset = minari.create_dataset_from_buffers(
                    dataset_id,
                    buffers,
                    observation_space=observation_space,
                    action_space=spaces.Box(-1.0, 1.0, (2,), np.float32),
                    algorithm_name="waypoint controller",
                    ref_min_score=None,
                    description=str(attributes.get("how", "")),
                )
                dataset.storage.update_metadata({f"aspc_{key}": str(value) for key, value in attributes.items()})
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / dataset_id, folder)
            _keep_namespaces(staging, root, Path(dataset_id).parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return folder


def _keep_namespaces(staging: Path, root: Path, namespace: Path) -> None:
    for part in [namespace, *namespace.parents]:
        made = staging / part / "namespace_metadata.json"
        if part != Path(".") and made.exists() and not (root / part / made.name).exists():
            os.replace(made, root / part / made.name)


def _episodes(fields: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    start = 0
    for end in np.flatnonzero(fields["timeouts"]) + 1:
        rows = slice(start, int(end))
        states = np.concatenate([fields["observations"][rows], fields["next_observations"][rows][-1:]])
        goals = fields["infos/goal"][rows]
        count = int(end) - start
        yield {
            "observations": {
                "observation": states,
                "achieved_goal": states[:, :2].copy(),
                "desired_goal": np.concatenate([goals, goals[-1:]]),
            },
            "actions": fields["actions"][rows],
            "rewards": fields["rewards"][rows].tolist(),
            "terminations": [False] * count,
            "truncations": [False] * (count - 1) + [True],
        }
        start = int(end)
