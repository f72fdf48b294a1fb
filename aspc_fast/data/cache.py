"""Decoded datasets kept beside the downloads, so that a second start is a copy instead of a decompression.

One file per dataset: 8 bytes of header length, 8 of its CRC-32, a JSON header, the arrays' bytes. It counts only if
the file it was made of has the same size and time, the readers' code is the same and every array has its CRC-32; else
it is made anew. It is a copy: removing it costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from aspc_fast.data.inflate import crc32
from aspc_fast.data.packed import TEXTS, Compact
from aspc_fast.data.places import default_data_dir

SUFFIX = ".decoded"
WORTH_KEEPING = 8 * 2**20  # smaller files are decoded in no time
MAX_HEADER_BYTES = 64 * 2**20
_DTYPES = {"float32", "float64", "int64", "bool"}
_ARRAYS = [field.name for field in fields(Compact) if field.name != "texts"]


def cache_dir() -> Path:
    """$ASPC_FAST_CACHE, or the folder ``decoded`` beside the downloads."""
    stated = os.environ.get("ASPC_FAST_CACHE")
    return Path(stated).expanduser() if stated else default_data_dir() / "decoded"


def limit_bytes() -> int:
    """What the cache may take: $ASPC_FAST_CACHE_GB (default 16; 0 turns it off), in bytes."""
    try:
        return int(float(os.environ.get("ASPC_FAST_CACHE_GB", "16")) * 1e9)
    except ValueError:
        return 0


def read(path: Path, key: str) -> Compact | None:
    """The decoded form of the file ``path`` read as ``key`` says, or None if there is none that counts."""
    entry = _entry(path, key)
    try:
        with entry.open("rb") as handle:
            header = _header(handle)
            if header is None or header["made_of"] != _made_of(path, key) or header["texts"].keys() != set(TEXTS):
                return None
            arrays = {}
            for name in _ARRAYS:
                told = header["arrays"][name]
                if told["dtype"] not in _DTYPES or os.fstat(handle.fileno()).st_size < handle.tell() + told["bytes"]:
                    return None
                array = np.empty(tuple(told["shape"]), dtype=told["dtype"])
                if array.nbytes != told["bytes"] or handle.readinto(_bytes(array)) != array.nbytes:
                    return None
                if crc32(_bytes(array)) != told["crc32"]:
                    return None
                arrays[name] = array
            found = Compact(**arrays, texts=header["texts"])
        with contextlib.suppress(OSError):
            os.utime(entry)  # the least recently used goes first
        return found
    except (OSError, ValueError, KeyError, TypeError, MemoryError, AttributeError):
        return None


def write(path: Path, key: str, compact: Compact) -> None:
    """Keep the decoded form of ``path``, if the cache has room for it; a cache that cannot be written is none."""
    if path.stat().st_size < WORTH_KEEPING or not limit_bytes():
        return
    arrays = {name: np.ascontiguousarray(getattr(compact, name)) for name in _ARRAYS}
    size = sum(array.nbytes for array in arrays.values())
    told = {
        name: {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "bytes": array.nbytes,
            "crc32": crc32(_bytes(array)),
        }
        for name, array in arrays.items()
    }
    text = json.dumps({"made_of": _made_of(path, key), "arrays": told, "texts": compact.texts}).encode()
    entry = _entry(path, key)
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        if not _make_room(size + len(text)):
            return
        handle, name = tempfile.mkstemp(prefix=".", suffix=SUFFIX, dir=entry.parent)
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                numbers = b"".join(number.to_bytes(8, "little") for number in (len(text), crc32(text)))
                for piece in (numbers, text, *map(_bytes, arrays.values())):
                    left = memoryview(piece)  # type: ignore[arg-type]
                    while left:
                        left = left[file.write(left) :]
            os.replace(name, entry)  # not synced: what a power cut leaves behind has not its checksum
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)


@dataclass(frozen=True)
class Entry:
    """A file of the cache: its ``bytes``, the dataset's file it was made of, and whether that is still the same."""

    path: Path
    bytes: int
    source: str
    current: bool


def entries() -> Iterator[Entry]:
    """All files of the cache, by name."""
    for path in sorted(cache_dir().glob(f"*{SUFFIX}")):
        source, current = "unknown", False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as handle:
            header = _header(handle)
            if header is not None:
                made_of = header["made_of"]
                source = str(made_of["path"])
                current = made_of == _made_of(Path(source), made_of["key"])
        with contextlib.suppress(OSError):
            yield Entry(path, path.stat().st_size, source, current)


def clear(stale_only: bool = False) -> int:
    """Remove all files of the cache, or those that no longer count; returns the bytes freed."""
    freed = 0
    for entry in entries():
        if not (stale_only and entry.current):
            with contextlib.suppress(OSError):
                entry.path.unlink()
                freed += entry.bytes
    return freed


def _bytes(array: np.ndarray) -> memoryview:
    """A contiguous array's bytes, not copied."""
    return array.reshape(-1).view(np.uint8).data


def _header(handle: Any) -> dict[str, Any] | None:
    length, crc = (int.from_bytes(handle.read(8), "little") for _ in range(2))
    if not 0 < length <= MAX_HEADER_BYTES:
        return None
    text = handle.read(length)
    header = json.loads(text) if crc32(text) == crc else None
    return header if isinstance(header, dict) else None


def _make_room(size: int) -> bool:
    """Remove the least recently used until ``size`` bytes fit; False if they never will."""
    limit = limit_bytes()
    if size > limit:
        return False
    files = sorted(cache_dir().glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files) + size
    for path in files:
        if total <= limit:
            break
        total -= path.stat().st_size
        path.unlink(missing_ok=True)
    return True


def _entry(path: Path, key: str) -> Path:
    name = hashlib.sha256(f"{path.resolve()}\n{key}".encode()).hexdigest()[:16]
    return cache_dir() / f"{path.stem[:80]}-{name}{SUFFIX}"


def _made_of(path: Path, key: str) -> dict[str, Any]:
    stat = path.stat()
    return {
        "path": str(path.resolve()),
        "key": key,
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "readers": _readers(),
    }


@cache
def _readers() -> str:
    """A digest of the code that reads datasets: another reader may read another dataset."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in (*sorted((package / "data").glob("*.py")), package / "suite.py", package / "mazes.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()
