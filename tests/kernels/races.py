"""A race detector in Triton's interpreter: what a program must not read, or overwrite, without a barrier in between.

A program's threads run at their own pace. What one stores another may load only after a barrier, even where both name
the same tile: the compiler gives loads and stores layouts of their own. Programs of one launch have no barrier at all,
so none may touch what another stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from triton.runtime.interpreter import InterpreterBuilder

Addresses = list[np.ndarray]


class Watch:
    """Memory traffic of the launches made while it is installed; ``found`` holds one sentence for each hazard."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.loads = 0
        self._new_launch()

    def program(self, x: int, y: int, z: int) -> None:
        """A program begins; the first one of a launch is (0, 0, 0)."""
        self._end_program()
        if (x, y, z) == (0, 0, 0):
            self._new_launch()
        self._program = (x, y, z)

    def barrier(self) -> None:
        """All threads have come here."""
        self._all_loaded += self._loaded
        self._loaded, self._stored = [], []

    def load(self, addresses: np.ndarray) -> None:
        """Some threads read."""
        self.loads += 1
        if _meet(addresses, self._stored):
            self.found.append(f"{self._program} loads {addresses.shape} that it stored with no barrier since")
        self._loaded.append(addresses)

    def store(self, addresses: np.ndarray) -> None:
        """Some threads write. Overwriting exactly what was read before is each thread's own affair (Adam in place)."""
        others = [a for a in self._loaded if not np.array_equal(a, addresses)]
        if _meet(addresses, others):
            self.found.append(f"{self._program} stores {addresses.shape} that it loaded with no barrier since")
        self._stored.append(addresses)
        self._all_stored.append(addresses)

    def end(self) -> None:
        """The last launch is over."""
        self._end_program()

    def _new_launch(self) -> None:
        self._program = (0, 0, 0)
        self._loaded: Addresses = []
        self._stored: Addresses = []
        self._all_loaded: Addresses = []
        self._all_stored: Addresses = []
        self._others_loaded, self._others_stored = np.empty(0, np.uint64), np.empty(0, np.uint64)

    def _end_program(self) -> None:
        self.barrier()
        mine, read = _joined(self._all_stored), _joined(self._all_loaded)
        for what, ours, theirs in (
            ("stores what another program loads", mine, self._others_loaded),
            ("stores what another program stores", mine, self._others_stored),
            ("loads what another program stores", read, self._others_stored),
        ):
            if len(np.intersect1d(ours, theirs, assume_unique=True)):
                self.found.append(f"{self._program} {what}")
        self._others_stored = np.union1d(self._others_stored, mine)
        self._others_loaded = np.union1d(self._others_loaded, read)
        self._all_loaded, self._all_stored = [], []


def _joined(parts: Addresses) -> np.ndarray:
    return np.unique(np.concatenate([np.ravel(p) for p in parts])) if parts else np.empty(0, np.uint64)


def _meet(addresses: np.ndarray, parts: Addresses) -> bool:
    return bool(len(parts)) and bool(np.isin(addresses, _joined(parts)).any())


@contextmanager
def watched() -> Iterator[Watch]:
    """Install a watch on the interpreter's loads, stores and barriers."""
    watch, originals = Watch(), {}
    for name in ("create_masked_load", "create_masked_store", "create_barrier", "set_grid_idx"):
        originals[name] = getattr(InterpreterBuilder, name)

    def load(self, ptrs, mask, *rest):  # type: ignore[no-untyped-def]
        watch.load(ptrs.data[mask.data])
        return originals["create_masked_load"](self, ptrs, mask, *rest)

    def store(self, ptrs, value, mask, *rest):  # type: ignore[no-untyped-def]
        watch.store(ptrs.data[mask.data])
        return originals["create_masked_store"](self, ptrs, value, mask, *rest)

    def barrier(self):  # type: ignore[no-untyped-def]
        watch.barrier()
        return originals["create_barrier"](self)

    def program(self, x, y, z):  # type: ignore[no-untyped-def]
        watch.program(x, y, z)
        return originals["set_grid_idx"](self, x, y, z)

    replaced = {
        "create_masked_load": load,
        "create_masked_store": store,
        "create_barrier": barrier,
        "set_grid_idx": program,
    }
    try:
        for name, function in replaced.items():
            setattr(InterpreterBuilder, name, function)
        yield watch
        watch.end()
    finally:
        for name, function in originals.items():
            setattr(InterpreterBuilder, name, function)
