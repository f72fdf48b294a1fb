"""Records to one logger, in order, on a thread of its own: training never waits for it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from aspc_fast.clock import CLOCK
from aspc_fast.results.logged_run import first_line
from aspc_fast.results.records import Record

WAITING = 512  # moments that may wait for a logger before it gets fewer of the training records


class Sink(Protocol):
    """Takes in records; on_restore comes before the first record of a process that goes on with a run."""

    def on_restore(self, step: int, records: list[Record], pending: list[int]) -> None:
        """See Observer."""
        ...

    def on_records(self, records: list[Record]) -> None:
        """See Observer."""
        ...

    def close(self, failed: bool = False) -> None:
        """No more records come; ``failed`` if training did not reach its end."""
        ...


class Feed:
    """Hands ``sink`` what is put in here. ``sentences``: what the user should know of it, oldest first."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.sentences: deque[str] = deque()
        self._name, self._sink = name, sink
        self._waiting: deque[list[Record] | Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._ended = self._broken = self._thinned = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def restore(self, step: int, records: list[Record], pending: list[int]) -> None:
        """See Observer.on_restore."""
        before = list(records)  # training goes on with the list itself, and may add to it before the sink has its turn
        self._put(lambda: self._sink.on_restore(step, before, pending))

    def put(self, records: list[Record]) -> None:
        """The records of one moment; where too many wait, every second moment of training records goes."""
        self._put(records)

    def close(self, failed: bool) -> None:
        """Hand over what waits, then close the sink."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        if not self._broken:
            self._do(lambda: self._sink.close(failed))

    def _put(self, task: list[Record] | Callable[[], None]) -> None:
        with self._changed:
            if self._broken:
                return
            if len(self._waiting) >= WAITING:
                self._thin_out()
            self._waiting.append(task)
            self._changed.notify()

    def _thin_out(self) -> None:
        kept: deque[list[Record] | Callable[[], None]] = deque()
        drop = False
        for task in self._waiting:
            plain = isinstance(task, list) and all(record["kind"] in ("train", "system") for record in task)
            drop = plain and not drop
            if not drop:
                kept.append(task)
        self._waiting = kept
        if not self._thinned:
            self._thinned = True
            text = f"{self._name} cannot keep up and gets fewer of the training records; metrics.jsonl has all of them"
            self.sentences.append(text)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait()
                if not self._waiting:
                    return
                task = self._waiting.popleft()
            with CLOCK.working(self._name):
                if isinstance(task, list):
                    self._do(lambda task=task: self._sink.on_records(task))  # type: ignore[misc]
                else:
                    self._do(task)

    def _do(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a logger trips over, the training is worth more
            with self._changed:
                self._broken = True
                self._waiting.clear()
            with contextlib.suppress(Exception):
                self._sink.close(True)
            why = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
            self.sentences.append(f"no more {self._name}: {why}; training goes on, metrics.jsonl has everything")
