"""A disk that fails at the n-th thing asked of it: creating, writing, syncing or renaming a file."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aspc_fast.results import checkpoint as ckpt


class Disk:
    """Counts what is asked of the disk under ``root``; at number ``fail_at`` it raises ``code``, and ever after."""

    def __init__(self, root: Path, fail_at: int | None, code: int) -> None:
        self.root, self.fail_at, self.code = root.resolve(), fail_at, code
        self.asked: list[str] = []

    def ask(self, what: str, half: Callable[[], object] = lambda: None) -> None:
        """One more thing is asked: raise if the disk is full by now, once ``half`` of it is done."""
        self.asked.append(what)
        if self.fail_at is not None and len(self.asked) > self.fail_at:
            half()
            self.fail()

    def fail(self) -> None:
        """What happens at number ``fail_at``."""
        raise OSError(self.code, os.strerror(self.code))


class PowerCut(Disk):
    """At number ``fail_at`` this process is killed."""

    def fail(self) -> None:
        """Not seen by anybody."""
        os.kill(os.getpid(), signal.SIGKILL)


class _Handle:
    """A file whose writes are asked for, and of which a failed one still leaves its first half behind."""

    def __init__(self, handle: Any, disk: Disk) -> None:
        self._handle, self._disk = handle, disk

    def write(self, data: Any) -> int:
        def half() -> None:
            self._handle.write(data[: len(data) // 2])
            self._handle.flush()

        self._disk.ask("write", half)
        return int(self._handle.write(data))

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


@contextlib.contextmanager
def failing(root: Path, fail_at: int | None, code: int = errno.ENOSPC, kind: type[Disk] = Disk) -> Iterator[Disk]:
    """Within the block the disk under ``root`` fails from its ``fail_at``-th operation on (None: it only counts)."""
    disk = kind(root, fail_at, code)

    def under(path: object) -> bool:
        return str(path).startswith(str(disk.root))

    def opening(real: Any) -> Any:
        def opened(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not under(self) or mode in ("r", "rb"):
                return real(self, mode, *arguments, **options)
            disk.ask("open")
            return _Handle(real(self, mode, *arguments, **options), disk)

        return opened

    def asking(what: str, position: int = 0, inside: Callable[[Any], bool] = under) -> Callable[[Any], Any]:
        def make(real: Any) -> Any:
            def asked(*arguments: Any, **options: Any) -> Any:
                if inside(options.get("dir", arguments[position] if len(arguments) > position else None)):
                    disk.ask(what)
                return real(*arguments, **options)

            return asked

        return make

    with pytest.MonkeyPatch.context() as patch:
        for owner, name, make in (
            (Path, "open", opening),
            (Path, "write_text", asking("write")),
            (Path, "replace", asking("rename")),
            (Path, "mkdir", asking("mkdir")),
            (os, "replace", asking("rename")),
            (os, "fsync", asking("fsync", inside=lambda handle: True)),
            (os, "truncate", asking("truncate")),
            (tempfile, "mkstemp", asking("create")),
            (ckpt, "save_file", asking("tensors", position=1)),
        ):
            patch.setattr(owner, name, make(getattr(owner, name)))
        yield disk
