"""Datasets of an HDF5 file that can be read without trust: plain numbers, stored whole, in the file itself.

HDF5 is forgiving where a reader of training data must not be. A chunk that its index has lost reads as zeros, a chunk
whose filter mask is damaged reads as its compressed bytes, a damaged shape reads rows at the wrong stride, a damaged
number format converts every value. None of that raises, so each is looked for here before a number is read.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aspc_fast.data import checks
from aspc_fast.errors import UserError

MAX_CHUNK_BYTES = 2**28  # a chunk is unpacked whole, however little of it is asked for

CHECKSUM_BYTES = 4
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def plain_dataset(group: h5py.Group, name: str, source: str, label: str | None = None) -> h5py.Dataset:
    """The dataset ``name`` of ``group``; UserError unless it is an array of numbers that lies in this very file.

    label: what messages call it, default ``name``. Links, virtual datasets and external storage are refused unread.
    """
    label = label or name
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{source}: {label} is a link to elsewhere, but arrays must be stored in the file itself")
    node = group[name]
    if not isinstance(node, h5py.Dataset):
        raise UserError(f"{source}: {label} is a group, but an array is needed")
    if node.external or node.is_virtual:
        raise UserError(
            f"{source}: {label} keeps its data in other files, but arrays must be stored in the file itself"
        )
    if node.shape is None:
        raise UserError(f"{source}: {label} is a null dataset without shape")
    try:
        dtype = node.dtype
        same = node.id.get_type().equal(h5py.h5t.py_create(dtype, logical=True))
    except Exception:
        raise UserError(f"{source}: {label} has a dtype that is no number") from None
    if dtype.kind in "fiub" and not same:
        raise UserError(f"{source}: {label} has a number format that numpy does not know, close to {dtype}")
    return node


def plain_group(group: h5py.Group, name: str, source: str) -> h5py.Group:
    """The group ``name`` of ``group``, or UserError if it is missing, a link to elsewhere or no group."""
    link = group.get(name, getlink=True) if name in group else None
    if not isinstance(link, h5py.HardLink):
        raise UserError(f"{source}: the group {name!r} is {'missing' if link is None else 'a link to elsewhere'}")
    node = group[name]
    if not isinstance(node, h5py.Group):
        raise UserError(f"{source}: {name} is an array, but a group is needed")
    return node


def check_end(path: Path) -> None:
    """UserError if the file does not end where its superblock says: the library minds a missing tail, not a longer one.

    What lies beyond the end was put there by something else, and may well have moved what lies before it.
    """
    with path.open("rb") as handle:
        head = handle.read(64)
    at = {0: 24, 1: 28, 2: 12, 3: 12}.get(head[8] if len(head) == 64 else -1)  # where version N keeps its base address
    if head[:8] != SIGNATURE or at is None or (head[13] if head[8] < 2 else head[9]) != 8:
        return  # behind a user block, or of a layout this does not know
    base, _, end = struct.unpack_from("<QQQ", head, at)
    if base == 0 and end != path.stat().st_size:
        raise UserError(f"{path}: {path.stat().st_size} bytes long, but its header says {end}; damaged or cut short")


def check_stored(dataset: h5py.Dataset, source: str, label: str) -> None:
    """UserError unless all of ``dataset`` is stored, and no more than is claimed would be unpacked."""
    stored, needed = int(dataset.id.get_storage_size()), int(dataset.nbytes)
    checks.check_expansion(source, label, stored, needed)
    if stored == 0 and needed:
        if label in checks.FLAGS and not np.any(dataset.fillvalue):
            return  # flags that were declared and never set: all False
        raise UserError(f"{source}: {label} declares the shape {dataset.shape} but nothing of it is stored")
    if dataset.chunks is not None:
        _check_chunks(dataset, source, label)
    elif stored != needed:
        raise UserError(f"{source}: {label} declares the shape {dataset.shape} but {stored} bytes are stored")


def _check_chunks(dataset: h5py.Dataset, source: str, label: str) -> None:
    chunks = tuple(map(int, dataset.chunks))
    size = dataset.dtype.itemsize * math.prod(chunks)
    if size > max(MAX_CHUNK_BYTES, 2 * int(dataset.nbytes)):
        raise UserError(f"{source}: {label} is stored in chunks of {size} bytes, more than {MAX_CHUNK_BYTES}")
    filters = dataset.id.get_create_plist().get_nfilters()
    grid = math.prod(-(-int(length) // chunk) for length, chunk in zip(dataset.shape, chunks, strict=True))
    found: set[tuple[int, ...]] = set()
    damaged: list[str] = []

    def look(info: Any) -> None:
        offset = tuple(map(int, info.chunk_offset))
        inside = all(o < n and o % c == 0 for o, n, c in zip(offset, dataset.shape, chunks, strict=True))
        if not inside:
            return  # left over from a dataset that was cut shorter
        found.add(offset)
        # a filter that did not pay is skipped and says so; such a chunk has its full size (and perhaps a checksum)
        whole = int(info.size) in (size, size + CHECKSUM_BYTES)
        if (not whole and (info.filter_mask or not filters)) or size > checks.MAX_RATIO * max(int(info.size), 64):
            damaged.append(f"the chunk at {offset} is damaged")

    dataset.id.chunk_iter(look)
    if damaged:
        raise UserError(f"{source}: {label}: {damaged[0]}")
    if len(found) != grid:
        raise UserError(f"{source}: {label} has {len(found)} of {grid} chunks, the rest is missing")
