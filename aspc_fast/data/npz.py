"""A dataset as a plain .npz with D4RL's array names; never unpickles, never unpacks beyond what the archive states."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from aspc_fast.data import checks, ogbench
from aspc_fast.data.d4rl import one_line, require_file
from aspc_fast.errors import UserError

MAX_HEADER = 10_000
MAX_ENTRIES = 10_000

Entries = dict[str, zipfile.ZipInfo]
T = TypeVar("T")


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The known arrays of an .npz file; its scalar entries ``env_id``, ``frame``, ``max_action`` as text attributes.

    Returns (fields, attributes) as ``d4rl.read`` does. Raises UserError for a file that is missing, damaged, not an
    .npz or not such a dataset; arrays of Python objects are refused unread.
    """
    return _opened(path, _read_dataset)


def read_arrays(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """Every array of an .npz file, real numbers or text, at most ``max_bytes`` of them in memory. Raises UserError."""

    def read_all(archive: zipfile.ZipFile, entries: Entries, source: str) -> dict[str, np.ndarray]:
        declared = {name: _header(archive, source, name, info) for name, info in entries.items()}
        total = checks.declared_bytes(declared)
        if total > max_bytes:
            raise UserError(f"{source}: declares {total} bytes of arrays, more than the {max_bytes} accepted")
        checks.check_unpacked(source, total, path.stat().st_size)
        for name, (_, dtype) in declared.items():
            if dtype.kind not in "fiubU":
                raise UserError(f"{source}: {name} has dtype {dtype}, but numbers or text are needed")
        return {name: _array(archive, source, name, info) for name, info in entries.items()}

    return _opened(path, read_all)


def _opened(path: Path, work: Callable[[zipfile.ZipFile, Entries, str], T]) -> T:
    source = str(path)
    require_file(path)
    try:
        if not zipfile.is_zipfile(path):
            raise UserError(f"{source}: is not an .npz file, or is cut short ({path.stat().st_size} bytes)")
        with zipfile.ZipFile(path) as archive:
            return work(archive, _entries(archive, source), source)
    except UserError:
        raise
    except Exception as error:
        # zipfile, zlib and numpy report damage by many exception types
        raise UserError(f"{source}: cannot be read as .npz, damaged or cut short: {one_line(error)}") from None


def _entries(archive: zipfile.ZipFile, source: str) -> Entries:
    listed = archive.infolist()
    if len(listed) > MAX_ENTRIES:
        raise UserError(f"{source}: holds {len(listed)} entries, more than {MAX_ENTRIES}")
    entries = {info.filename.removesuffix(".npy"): info for info in listed if info.filename.endswith(".npy")}
    if len(entries) != sum(info.filename.endswith(".npy") for info in listed):
        raise UserError(f"{source}: holds two entries of the same name")
    for info in listed:
        archive.open(info).close()  # a damaged name differs from the one before the entry's own data
    return entries


def _read_dataset(
    archive: zipfile.ZipFile, entries: Entries, source: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    found = {name: entries[name] for name in checks.FIELDS if name in entries}
    ogbench.check_relabelled(source, Path(source).stem, entries)
    checks.check_names(source, entries)
    declared = {name: _header(archive, source, name, info) for name, info in found.items()}
    checks.check_declared(source, declared)
    checks.check_unpacked(source, checks.declared_bytes(declared), Path(source).stat().st_size)
    fields = {name: _array(archive, source, name, info) for name, info in found.items()}
    attributes = {}
    for name in ("env_id", "frame", "max_action"):
        info = entries.get(name)
        if info is not None and info.file_size <= MAX_HEADER:
            shape, dtype = _header(archive, source, name, info)
            if shape == () and dtype.kind in "Ufiu":
                attributes[name] = str(_array(archive, source, name, info)[()])
    return fields, attributes


def _header(
    archive: zipfile.ZipFile, source: str, name: str, info: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype an entry declares, once they agree with the archive's own sizes."""
    checks.check_expansion(source, name, info.compress_size, info.file_size)
    with archive.open(info) as handle:
        version = np.lib.format.read_magic(handle)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise UserError(f"{source}: {name} has the unknown .npy version {version}")
        shape, _, dtype = read_header(handle, max_header_size=MAX_HEADER)
        start = handle.tell()
    if dtype.hasobject:
        raise UserError(f"{source}: {name} has dtype {dtype}, but numbers are needed")
    size = dtype.itemsize * math.prod(map(int, shape))
    if min(shape, default=0) < 0 or start + size != info.file_size:
        raise UserError(f"{source}: {name} declares the shape {shape} but holds {info.file_size - start} bytes")
    return tuple(map(int, shape)), dtype


def _array(archive: zipfile.ZipFile, source: str, name: str, info: zipfile.ZipInfo) -> np.ndarray:
    try:
        with archive.open(info) as handle:
            return np.lib.format.read_array(handle, allow_pickle=False, max_header_size=MAX_HEADER)
    except Exception as error:
        raise UserError(f"{source}: {name} cannot be read, damaged or cut short: {one_line(error)}") from None
