"""A results folder: config.json, append-only metrics.jsonl, checkpoints/, and a lock against a second writer."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from aspc_fast.errors import UserError
from aspc_fast.files import remove_leftovers
from aspc_fast.results.names import CHECKPOINTS, CONFIG, METRICS


class ResultsFolder:
    """Opened by one process at a time (an flock, gone with the process however it ends)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        self._metrics: io.FileIO | None = None
        self._digest, self._bytes = hashlib.sha256(), 0

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / CHECKPOINTS

    def open(self) -> None:
        """Create the folder if need be and lock it; UserError if another process holds it or it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise UserError(f"{self.path}: cannot write here ({error.strerror})") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(f"{self.path}: another process is writing to this results folder") from None
        for folder in (self.path, self.checkpoints):
            remove_leftovers(folder)

    def close(self) -> None:
        """Release the lock."""
        handles, self._metrics, self._lock = (self._metrics, self._lock), None, None
        for handle in handles:
            if handle is not None:
                with contextlib.suppress(OSError):  # a line that did not fit on the disk was complained of when written
                    handle.close()

    def remove_lock(self) -> None:
        """Remove the lock's file, while it is held, so that a folder nothing was written into can go."""
        (self.path / ".lock").unlink(missing_ok=True)

    def has_run(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / CONFIG).exists()

    def start_metrics(self, keep_bytes: int, sha256: str | None = None) -> None:
        """Open metrics.jsonl for appending, cut to its first ``keep_bytes``, which a checkpoint vouches for.

        sha256: what those bytes must have. UserError if the file is shorter or other bytes.
        """
        path = self.path / METRICS
        size = path.stat().st_size if path.exists() else 0
        if not 0 <= keep_bytes <= size:
            raise UserError(f"{path}: {size} bytes long, but the checkpoint was written when it had {keep_bytes}")
        self._digest = hashlib.sha256()
        if keep_bytes:
            with path.open("rb") as handle:
                left = keep_bytes
                while block := handle.read(min(left, 1 << 20)):
                    self._digest.update(block)
                    left -= len(block)
        if sha256 is not None and sha256 != self._digest.hexdigest():
            raise UserError(
                f"{path}: damaged or changed since the checkpoint was written (its first {keep_bytes} bytes differ)"
            )
        self._metrics = path.open("ab", buffering=0)  # no buffer: what failed to be written must not come later
        os.truncate(path, keep_bytes)
        self._bytes = keep_bytes

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Lines of metrics.jsonl, handed to the system at once."""
        assert self._metrics is not None
        lines = "".join([json.dumps(record) + "\n" for record in records]).encode()
        left = memoryview(lines)
        while left:
            left = left[self._metrics.write(left) :]
        self._digest.update(lines)
        self._bytes += len(lines)

    @property
    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl."""
        return self._bytes

    def metrics_sha256(self) -> str:
        """The sha256 of metrics.jsonl as it is."""
        return self._digest.hexdigest()

    def sync_metrics(self) -> None:
        """Return when all of metrics.jsonl is on the disk."""
        assert self._metrics is not None
        os.fsync(self._metrics.fileno())
