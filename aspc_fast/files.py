"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aspc_fast.errors import UserError

MAX_JSON_BYTES = 64 * 2**20
CHECKSUM = "checksum"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; when the block ends well it is fsynced and renamed onto ``path``."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any, seal: bool = False) -> None:
    """``value`` as indented JSON, atomically; with ``seal`` (of an object) it carries a checksum for ``read_json``."""
    if seal:
        value = {**value, CHECKSUM: _checksum(value)}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path, check: bool = True) -> Any:
    """Parsed JSON; UserError if it is missing, too large, damaged, or (with ``check``) not what its checksum says."""
    try:
        if not path.is_file():
            raise UserError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path}: larger than the {MAX_JSON_BYTES} bytes accepted")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON ({error})") from None
    if check:
        check_seal(path, value)
    return value


def check_seal(path: Path, value: Any) -> None:
    """UserError if ``value``, read from ``path``, carries a checksum that is not its own."""
    if isinstance(value, dict) and CHECKSUM in value and value[CHECKSUM] != _checksum(value):
        raise UserError(f"{path}: damaged or changed by hand (its content does not fit its field {CHECKSUM!r})")


def sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed writer left in ``folder``; for the one process that may write there."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def _checksum(value: dict[str, Any]) -> str:
    # dumped, parsed and dumped again: keys that JSON turns into text must count as what a reader will see
    plain = json.loads(json.dumps({name: entry for name, entry in value.items() if name != CHECKSUM}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _fsync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder; the rename stands all the same
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
