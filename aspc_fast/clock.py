"""Where the wall time goes: seconds by name, of work that training waits for and of work done beside it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Counts seconds by name; any thread may count. ``waited``: the caller's own thread; ``beside``: other threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waited: dict[str, float] = defaultdict(float)
        self.beside: dict[str, float] = defaultdict(float)

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Count the block as work that training waits for."""
        with self._counted(self.waited, name):
            yield

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """Count the block as work beside training."""
        with self._counted(self.beside, name):
            yield

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds waited and worked by name since the last call."""
        with self._lock:
            taken = dict(self.waited), dict(self.beside)
            self.waited.clear()
            self.beside.clear()
        return taken

    @contextmanager
    def _counted(self, seconds: dict[str, float], name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                seconds[name] += time.perf_counter() - begin


CLOCK = Clock()
"""This process's clock."""
