"""A results folder: config.json, append-only metrics.jsonl, checkpoints/, and a lock against a second writer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch

from aspc_fast import __version__
from aspc_fast.errors import UserError

CONFIG, METRICS, SUMMARY, CHECKPOINTS = "config.json", "metrics.jsonl", "summary.json", "checkpoints"
FORMAT_VERSION = 1


class ResultsFolder:
    """Opened by one process at a time (an flock, gone with the process however it ends)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        self._metrics: IO[str] | None = None

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

    def close(self) -> None:
        """Release the lock."""
        for handle in (self._metrics, self._lock):
            if handle is not None:
                handle.close()

    def has_run(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / CONFIG).exists()

    def start_metrics(self, keep_bytes: int) -> None:
        """Open metrics.jsonl for appending, cut to its first ``keep_bytes`` (what a checkpoint vouches for)."""
        path = self.path / METRICS
        size = path.stat().st_size if path.exists() else 0
        if size < keep_bytes:
            raise UserError(f"{path}: {size} bytes long, but the checkpoint was written when it had {keep_bytes}")
        self._metrics = path.open("a", encoding="utf-8")
        os.truncate(path, keep_bytes)

    def append(self, record: dict[str, Any]) -> None:
        """One line of metrics.jsonl, handed to the system at once."""
        assert self._metrics is not None
        self._metrics.write(json.dumps(record) + "\n")
        self._metrics.flush()

    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl, all of it on disk when this returns."""
        assert self._metrics is not None
        os.fsync(self._metrics.fileno())
        return os.fstat(self._metrics.fileno()).st_size


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The records of metrics.jsonl; an unfinished last line (a kill) is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as handle:
        for line in handle:
            if line.endswith("\n"):
                with contextlib.suppress(ValueError):
                    yield json.loads(line)


def provenance() -> dict[str, Any]:
    """Versions, machine and commit, for config.json."""
    versions = {"aspc_fast": __version__, "python": platform.python_version()}
    for package in ("torch", "triton", "numpy", "envpool", "gymnasium", "gymnasium-robotics", "minari"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {"platform": platform.platform(), "cpus": os.cpu_count(), "gpu": gpu, "threads": torch.get_num_threads()}
    return {"versions": versions, "machine": machine, "commit": commit(), "command": sys.argv}


def commit() -> str | None:
    """The git commit of the checkout this package runs from, with "+" if it has changes; None in an installation."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        ask = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None
