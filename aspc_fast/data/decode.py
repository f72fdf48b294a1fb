"""One dataset from its file (or the decoded cache) into the store: the work of a decoding process, and of its parent.

As a program (`python -m aspc_fast.data.decode FD`) it takes lines of JSON and answers with lines of JSON, and writes
rows into the memory of the file descriptor it inherited. Nothing is pickled, and no module of the parent is imported.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aspc_fast.data import cache
from aspc_fast.data.load import load
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.data.packed import Compact, Packed, Packing, describe, pack
from aspc_fast.data.places import suite_file
from aspc_fast.errors import UserError
from aspc_fast.suite import BY_ID

_ARRAYS = {"breaks": np.int64, "episode_returns": np.float64, "episode_lengths": np.int64}


@dataclasses.dataclass(frozen=True)
class Job:
    """Which dataset, and how it lies in the store."""

    source: str
    env: str | None
    eps: float | None
    store_next: bool
    next_actions: bool = False


def file_of(source: str) -> Path | None:
    """The file a source is read from, or None (Minari, or nothing there)."""
    path = Path(source).expanduser()
    if source in BY_ID and not path.exists():
        return suite_file(BY_ID[source])
    return path if path.is_file() else None


def decode(job: Job, allocate: Callable[[int], int], fd: int) -> Packed:
    """Read, normalise and place a dataset; ``allocate`` gives the place (in entries) of so many. Raises UserError."""
    compact = _compact(job)
    packed = describe(compact, Packing(job.eps, job.store_next, job.next_actions))
    packed = dataclasses.replace(packed, start=allocate(packed.entries))
    pack(compact, packed, window(fd, packed.start, packed.entries).reshape(packed.stored_rows, packed.width))
    return packed


def window(fd: int, start: int, count: int) -> np.ndarray:
    """``count`` float32 entries [count] from entry ``start`` on of the memory behind ``fd``; freed with the array."""
    first = 4 * start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    memory = mmap.mmap(fd, 4 * (start + count) - first, offset=first)
    return np.frombuffer(memory, np.float32, count, offset=4 * start - first)


def _compact(job: Job) -> Compact:
    path, key = file_of(job.source), json.dumps([job.source in BY_ID and job.source, job.env])
    found = cache.read(path, key) if path is not None else None
    if found is None:
        found = Compact.of(load(job.source, env=job.env))
        if path is not None:
            cache.write(path, key, found)
    # what messages call it is how it was asked for this time
    return dataclasses.replace(found, texts=found.texts | {"source": str(path) if path is not None else job.source})


def to_json(packed: Packed) -> dict[str, Any]:
    """Plain values."""
    told = {field.name: getattr(packed, field.name) for field in dataclasses.fields(packed)}
    for name in _ARRAYS:
        told[name] = told[name].tolist()
    told["normaliser"] = [packed.normaliser.mean.tolist(), packed.normaliser.std.tolist()]
    return told


def from_json(told: dict[str, Any]) -> Packed:
    """The inverse of ``to_json``."""
    arrays = {name: np.array(told[name], dtype=dtype) for name, dtype in _ARRAYS.items()}
    mean, std = (np.array(values, dtype=np.float32) for values in told["normaliser"])
    return Packed(**{**told, **arrays, "normaliser": Normaliser(mean, std)})


def main(fd: int) -> None:
    """Serve jobs until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def say(**told: Any) -> None:
        answers.write(json.dumps(told) + "\n")
        answers.flush()

    def allocate(entries: int) -> int:
        say(entries=entries)
        return int(json.loads(sys.stdin.readline())["start"])

    for line in sys.stdin:
        try:
            say(packed=to_json(decode(Job(**json.loads(line)), allocate, fd)))
        except UserError as error:
            say(error=str(error))
        except MemoryError:
            say(error=f"{json.loads(line)['source']}: not enough memory to decode it")
        except OSError as error:
            say(error=f"{error.filename or json.loads(line)['source']}: {error.strerror or error}")
        except Exception:
            say(crash=traceback.format_exc())


if __name__ == "__main__":
    main(int(sys.argv[1]))
