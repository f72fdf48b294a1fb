"""D4RL's HDF5 files, read with h5py alone.

A file is not trusted: only plain arrays stored in the file itself are read, after their declared shapes, dtypes and
sizes have been judged, so neither a broken nor a hostile file can exhaust memory, reach other files or run code.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from aspc_fast.data import checks, inflate, ogbench
from aspc_fast.data.attributes import read_attributes
from aspc_fast.data.hdf5 import check_end, check_stored, plain_dataset
from aspc_fast.errors import UserError


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The known arrays of an HDF5 file, and its attributes as text.

    Returns (fields, attributes); names and meaning of the fields as in ``arrays.build``. Extra arrays and groups are
    ignored. Raises UserError for a file that is missing, truncated, not HDF5 or not such a dataset.
    """
    source = str(path)
    require_file(path)
    try:
        if not h5py.is_hdf5(path):
            raise UserError(f"{source}: is not an HDF5 file ({path.stat().st_size} bytes)")
        check_end(path)
        attributes = read_attributes(path)
        with h5py.File(path, "r", locking=False) as file:
            return _read_open(file, source), attributes
    except UserError:
        raise
    except Exception as error:
        # h5py reports damage by a dozen exception types, KeyError and RuntimeError among them
        raise UserError(f"{source}: cannot be read as HDF5, damaged or cut short: {one_line(error)}") from None


def require_file(path: Path) -> None:
    """UserError unless ``path`` is a regular file that can be opened."""
    if path.is_dir():
        raise UserError(f"{path}: is a directory, but a file is needed")
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    if not path.is_file():
        raise UserError(f"{path}: is not a regular file")
    try:
        with path.open("rb") as handle:
            if not handle.read(1):
                raise UserError(f"{path}: is empty (0 bytes)")
    except OSError as error:
        raise UserError(f"{path}: cannot be opened: {error.strerror or error}") from None


def one_line(error: BaseException, limit: int = 160) -> str:
    """An exception's text in one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _read_open(file: h5py.File, source: str) -> dict[str, np.ndarray]:
    datasets = {name: plain_dataset(file, name, source) for name in checks.FIELDS if name in file}
    ogbench.check_relabelled(source, Path(source).stem, list(file))
    checks.check_names(source, list(file))
    declared = {name: (tuple(map(int, dataset.shape)), dataset.dtype) for name, dataset in datasets.items()}
    checks.check_declared(source, declared)
    checks.check_unpacked(source, checks.declared_bytes(declared), Path(source).stat().st_size)
    for name, dataset in datasets.items():
        check_stored(dataset, source, name)
    fields = {}
    for name, dataset in datasets.items():
        try:
            fields[name] = inflate.read_array(dataset)
        except Exception as error:
            raise UserError(f"{source}: {name} cannot be read, damaged or cut short: {one_line(error)}") from None
    return fields
