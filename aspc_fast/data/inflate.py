"""Datasets that HDF5 keeps in gzip chunks, unpacked by libdeflate instead of zlib: the same bytes in half the time.

D4RL's files are of this kind, and unpacking them is most of what reading costs. Whatever is unusual or damaged is left
to HDF5, which reads it or says what is wrong with it. Without the package ``deflate`` (extra ``data``) all is.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import h5py
import numpy as np

try:
    import deflate
except ImportError:
    deflate = None  # type: ignore[assignment]

_GZIP = ((h5py.h5z.FILTER_DEFLATE,), (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE))

crc32: Callable[[Any], int] = zlib.crc32 if deflate is None else deflate.crc32
"""The CRC-32 of zlib, of any buffer."""


def read_array(dataset: h5py.Dataset) -> np.ndarray:
    """All of ``dataset``, bit for bit what ``dataset[()]`` gives; raises what that raises.

    The dataset must have been found plain and whole (``plain_dataset``, ``check_stored``). No more than a chunk's size
    is unpacked of any chunk.
    """
    filters = _filters(dataset)
    if deflate is not None and dataset.dtype.isnative and dataset.chunks is not None and filters in _GZIP:
        made = _read_chunks(dataset, shuffled=len(filters) > 1)
        if made is not None:
            return made
    return np.asarray(dataset[()])


def _filters(dataset: h5py.Dataset) -> tuple[int, ...]:
    plan = dataset.id.get_create_plist()
    return tuple(plan.get_filter(i)[0] for i in range(plan.get_nfilters()))


def _read_chunks(dataset: h5py.Dataset, shuffled: bool) -> np.ndarray | None:
    """None if a chunk is not packed as the others are, or not of its size: HDF5 knows more of such a file."""
    dtype, chunks = dataset.dtype, dataset.chunks
    entries = math.prod(chunks)
    made = np.empty(dataset.shape, dtype)
    for offset in _offsets(dataset.shape, chunks):
        try:
            skipped, packed = dataset.id.read_direct_chunk(offset)
            unpacked = None if skipped else deflate.zlib_decompress(packed, entries * dtype.itemsize)
        except (deflate.DeflateError, OSError, RuntimeError, ValueError):
            return None
        if unpacked is None or len(unpacked) != entries * dtype.itemsize:
            return None
        numbers = np.frombuffer(unpacked, np.uint8)
        if shuffled:  # the first bytes of all numbers, then the second ones, ...
            numbers = np.ascontiguousarray(numbers.reshape(dtype.itemsize, entries).T).reshape(-1)
        block = numbers.view(dtype).reshape(chunks)
        place = tuple(slice(o, o + c) for o, c in zip(offset, chunks, strict=True))
        target = made[place]
        target[...] = block[tuple(map(slice, target.shape))]  # chunks at the edge reach beyond it
    return made


def _offsets(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return product(*(range(0, length, chunk) for length, chunk in zip(shape, chunks, strict=True)))
