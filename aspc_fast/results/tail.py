"""Following a metrics.jsonl that another process writes, and may cut back and write on when it goes on after a kill."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

from aspc_fast.results.fields import MAX_LINE_BYTES
from aspc_fast.results.records import Record

_IN_ORDER = ("train", "system")  # kinds whose steps only grow; evaluations come back in any order


def lines_after(handle: io.FileIO, at: int, last: bytes, limit: int = MAX_LINE_BYTES) -> bytes | None:
    """The whole lines from offset ``at`` on, out of at most ``limit`` bytes; what is being written is left out.

    handle: without a buffer, which might keep what is gone.
    last: the line that ended at ``at`` when it was read (empty at 0). None if it no longer does: the file was cut back
    meanwhile, and what it has grown to since, even past ``at``, need not have a line begin there.
    """
    handle.seek(at - len(last))
    piece = handle.read(len(last) + limit)
    if not piece.startswith(last):
        return None
    return piece[len(last) : max(piece.rfind(b"\n") + 1, len(last))]


def last_line(lines: bytes) -> bytes:
    """The last of whole ``lines``."""
    return lines[lines.rfind(b"\n", 0, -1) + 1 :]


class Tail:
    """The records that were added to the file ``path`` since they were last asked for, each once."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._last = path, 0, b""
        self._steps: dict[tuple[str, object], int] = {}
        self._others: set[tuple[object, ...]] = set()

    def new(self) -> list[Record]:
        """What is new; after the file was cut back, only what had not been written before."""
        lines: bytes | None = b""
        with contextlib.suppress(OSError), self._path.open("rb", buffering=0) as handle:
            lines = lines_after(handle, self._at, self._last)
            if lines is None:
                self._at, self._last = 0, b""
                lines = lines_after(handle, 0, b"")
        if not lines:
            return []
        try:
            found = [json.loads(line) for line in lines.splitlines()]
        except ValueError:  # cut back while it was read
            self._at, self._last = 0, b""
            return []
        self._at, self._last = self._at + len(lines), last_line(lines)
        return [record for record in found if isinstance(record, dict) and self._is_new(record)]

    def _is_new(self, record: Record) -> bool:
        kind, run, step = record.get("kind"), record.get("run"), int(record.get("step", 0))
        if kind in _IN_ORDER:
            new = step > self._steps.get((kind, run), -1)
            self._steps[kind, run] = max(step, self._steps.get((kind, run), -1))
            return new
        one = (kind, run, step, record.get("final"))
        new = one not in self._others
        self._others.add(one)
        return new
