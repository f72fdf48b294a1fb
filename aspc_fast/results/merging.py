"""A sweep's metrics.jsonl out of those of its shards, while they are being written and at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from aspc_fast.clock import CLOCK
from aspc_fast.files import replacing
from aspc_fast.results.names import METRICS
from aspc_fast.results.records import Observer, Record
from aspc_fast.results.tail import last_line, lines_after

MERGE_SECONDS = 30.0


def merge(out: Path, shards: list[Path]) -> None:
    """Rewrite metrics.jsonl of the sweep ``out``, atomically: the whole lines of its shards' files, one by one.

    Raises OSError, with the old file intact, if a shard's file is cut back meanwhile.
    """
    with replacing(out / METRICS) as temporary, temporary.open("wb") as merged:
        for shard in shards:
            if not (shard / METRICS).exists():
                continue
            with (shard / METRICS).open("rb", buffering=0) as handle:
                at, last = 0, b""
                while lines := lines_after(handle, at, last):
                    merged.write(lines)
                    at, last = at + len(lines), last_line(lines)
                if lines is None:
                    raise OSError(f"{shard / METRICS}: was cut back while it was read")


class Merging(Observer):
    """Passes everything on, and refreshes the merged metrics now and then, so that a report can be made meanwhile."""

    def __init__(self, out: Path, shards: Callable[[], list[Path]], inner: Observer) -> None:
        self._out, self._shards, self._inner, self._merged = out, shards, inner, time.monotonic()
        self._thread: threading.Thread | None = None
        self.on_start, self.on_progress, self.on_message = inner.on_start, inner.on_progress, inner.on_message  # type: ignore[method-assign]
        self.on_restore, self.on_loading = inner.on_restore, inner.on_loading  # type: ignore[method-assign]

    def on_record(self, record: Record) -> None:
        """See Observer."""
        self.on_records([record])

    def on_records(self, records: list[Record]) -> None:
        """Pass on; merge beside training if the last time is long ago."""
        self._inner.on_records(records)
        busy = self._thread is not None and self._thread.is_alive()
        if not busy and time.monotonic() - self._merged > MERGE_SECONDS:
            self._merged = time.monotonic()
            self._thread = threading.Thread(target=self._merge, name="merging", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Merge for the last time."""
        if self._thread is not None:
            self._thread.join()
        with CLOCK.waiting("merging"):
            merge(self._out, self._shards())

    def _merge(self) -> None:
        with CLOCK.working("merging"):
            try:
                merge(self._out, self._shards())
            except OSError:
                self._merged = time.monotonic()  # a by-product: the last merge, which is waited for, complains
