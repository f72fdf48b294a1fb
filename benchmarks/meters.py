"""What a benchmark of the host measures with: the memory of a process and its children, a disk of a stated speed."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path


class Memory(threading.Thread):
    """Peak of the memory of this process and its children, shared pages counted once, in bytes.

    Pages of the store that no process has mapped belong to it all the same: they are counted where they are held.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._ended = 0, threading.Event()
        self.before = _bytes_used()

    def run(self) -> None:
        """Look four times a second."""
        while not self._ended.wait(0.25):
            self.peak = max(self.peak, _bytes_used())

    def stop(self) -> int:
        """Bytes above what there was at the beginning."""
        self._ended.set()
        self.join()
        return max(self.peak, _bytes_used()) - self.before


def _bytes_used() -> int:
    total, waiting = _anonymous_files(), [os.getpid()]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError, ValueError, StopIteration):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            kinds = [line.split() for line in rollup.splitlines() if line.startswith(("Pss_Anon:", "Pss_File:"))]
            total += sum(int(words[1]) for words in kinds) * 1024
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return total


def _anonymous_files() -> int:
    held: dict[int, int] = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith("/memfd:"):
                stat = path.stat()
                held[stat.st_ino] = stat.st_blocks * 512
    return sum(held.values())


@contextlib.contextmanager
def slow_disk(rate: float) -> Iterator[None]:
    """Every fsync of a file takes at least its bytes over ``rate``, one after the other, as one disk would."""
    real, lock = os.fsync, threading.Lock()

    def slowed(handle: int) -> None:
        with lock:
            begin = time.perf_counter()
            real(handle)
            time.sleep(max(0.0, os.fstat(handle).st_size / rate - (time.perf_counter() - begin)))

    os.fsync = slowed  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync = real
