"""All datasets of a sweep in one piece of memory, read once, decoded by several processes side by side.

The memory has no name (memfd) and belongs to whoever holds its descriptor: decoding processes write the rows into it,
the training process reads them (on a CPU) or copies them to the device, and training processes beside it share them.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from aspc_fast.clock import CLOCK
from aspc_fast.data.decode import Job, decode, file_of, from_json, window
from aspc_fast.data.packed import Packed, Packing
from aspc_fast.errors import UserError

WORTH_PROCESSES = 64 * 2**20  # bytes of files: fewer are decoded here before a process has begun
EXPANSION = 1.5  # bytes in the store for one of a file; a guess that orders and bounds the work, no more
WORKING_COPIES = 2.5  # what decoding takes on the way, over what the dataset takes in the store
HEADROOM = 1.2  # memory while loading may be so much over the store's size

Progress = Callable[[int, int, str], None]


class Store:
    """float32 memory of ``datasets``; entry 0 is a zero. ``packing`` is how they lie there."""

    def __init__(self, packing: Packing) -> None:
        self.packing = packing
        self.datasets: list[Packed] = []
        self.fd = anonymous_memory()
        self.entries = 1
        os.ftruncate(self.fd, 4)

    def allocate(self, entries: int) -> int:
        """Room for so many entries; returns where it begins."""
        start = self.entries
        self.entries += entries
        os.ftruncate(self.fd, 4 * self.entries)
        return start

    def array(self) -> np.ndarray:
        """All of it, [entries] float32: a view that stays valid after ``close``."""
        return window(self.fd, 0, self.entries)

    def find(self, fingerprint: str) -> Packed | None:
        """The dataset with this fingerprint."""
        return next((data for data in self.datasets if data.fingerprint == fingerprint), None)

    def close(self) -> None:
        """Let go of the memory; it is freed when no view is left."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()


def load_store(
    sources: Sequence[tuple[str, str | None]],
    packing: Packing,
    processes: int | None = None,
    progress: Progress = lambda done, total, name: None,
) -> Store:
    """Read every (source, env) once. Raises UserError as ``load`` does.

    processes: how many decode side by side; default all cores, none for small files. progress: bytes of files read,
    bytes of all files, and the one that is done.
    """
    store = Store(packing)
    jobs = [Job(source, env, *packing) for source, env in sources]
    sizes = [_file_bytes(job.source) for job in jobs]
    if processes is None:
        processes = 0 if sum(sizes) < WORTH_PROCESSES else len(os.sched_getaffinity(0))
    processes = min(processes, len(jobs))
    found: dict[int, Packed] = {}
    with CLOCK.waiting("reading"):
        try:
            if processes < 2:
                for i, job in enumerate(jobs):
                    found[i] = decode(job, store.allocate, store.fd)
                    progress(sum(sizes[: i + 1]), sum(sizes), Path(job.source).name)
            else:
                _Decoders(store, jobs, sizes, progress, found).run(processes)
        except BaseException:
            store.close()
            raise
    store.datasets = [found[i] for i in range(len(jobs))]
    return store


class _Decoders:
    """Decoding processes: the largest files first, as many at a time as memory allows."""

    def __init__(
        self, store: Store, jobs: list[Job], sizes: list[int], progress: Progress, found: dict[int, Packed]
    ) -> None:
        self._store, self._jobs, self._sizes, self._progress, self._found = store, jobs, sizes, progress, found
        self._waiting = sorted(range(len(jobs)), key=lambda i: -sizes[i])
        self._busy: dict[subprocess.Popen[str], int] = {}
        self._room = HEADROOM * EXPANSION * sum(sizes)

    def run(self, processes: int) -> None:
        """Decode everything."""
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            idle = [stack.enter_context(_process(self._store.fd)) for _ in range(processes)]
            for process in idle:
                selector.register(_pipe(process.stdout), selectors.EVENT_READ, process)
            while self._waiting or self._busy:
                while idle and self._waiting and self._fits(self._waiting[0]):
                    process, i = idle.pop(), self._waiting.pop(0)
                    self._busy[process] = i
                    _tell(process, vars(self._jobs[i]))
                for key, _ in selector.select():
                    process = key.data
                    line = process.stdout.readline()
                    if self._answer(process, json.loads(line) if line else {"crash": "the process ended"}):
                        idle.append(process)

    def _fits(self, i: int) -> bool:
        """Whether decoding it now keeps within the memory; one always may, or nothing would ever go on."""
        working = WORKING_COPIES * EXPANSION * sum(self._sizes[k] for k in [i, *self._busy.values()])
        return not self._busy or 4 * self._store.entries + working <= self._room

    def _answer(self, process: subprocess.Popen[str], told: dict[str, Any]) -> bool:
        """Take in what a process says; whether it is idle now."""
        i = self._busy[process]
        if "entries" in told:
            _tell(process, {"start": self._store.allocate(told["entries"])})
            return False
        if "error" in told:
            raise UserError(told["error"])
        if "crash" in told:
            raise RuntimeError(f"{self._jobs[i].source}: decoding it failed: {told['crash']}")
        self._found[i] = from_json(told["packed"])
        del self._busy[process]
        self._progress(sum(self._sizes[k] for k in self._found), sum(self._sizes), Path(self._jobs[i].source).name)
        return True


@contextlib.contextmanager
def _process(fd: int) -> Any:
    command = [sys.executable, "-m", "aspc_fast.data.decode", str(fd)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, pass_fds=(fd,), env=environment
    )
    try:
        yield process
    finally:
        process.kill()  # after an answer it does nothing but wait
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _tell(process: subprocess.Popen[str], what: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # its end is seen where its answer is read
        _pipe(process.stdin).write(json.dumps(what) + "\n")
        _pipe(process.stdin).flush()


def _file_bytes(source: str) -> int:
    path = file_of(source)
    return path.stat().st_size if path is not None else 0


def anonymous_memory() -> int:
    """A descriptor of empty memory without a name, of which processes can share views."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("aspc_fast")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
