"""Checksums of downloaded files, noted beside them when they first came (trust on first use)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aspc_fast.data.d4rl import one_line
from aspc_fast.errors import UserError
from aspc_fast.files import sha256, write_json

CHECKSUMS = "checksums.json"


def recorded(path: Path) -> str | None:
    """The sha256 noted for a file when it first came, or None."""
    listing = path.parent / CHECKSUMS
    entry = _read_checksums(listing).get(path.name)
    if entry is None:
        return None
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(digest, str) or len(digest) != 64:
        raise UserError(f"{listing}: the entry of {path.name} is damaged; delete it to record the file anew")
    return digest


def record(path: Path, digest: str, origin: str) -> None:
    """Note a file's sha256 in its folder's checksums.json, atomically."""
    listing = path.parent / CHECKSUMS
    entries = _read_checksums(listing) | {path.name: {"sha256": digest, "origin": origin}}
    write_json(listing, entries)


def _read_checksums(listing: Path) -> dict[str, Any]:
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{listing}: cannot be read: {one_line(error)}; delete it to start a new one") from None
    if not isinstance(entries, dict):
        raise UserError(f"{listing}: is no list of checksums; delete it to start a new one")
    return entries


def verify_checksum(path: Path) -> None:
    """UserError if the file is not the one that was first recorded; a file without record passes."""
    expected = recorded(path)
    if expected is None:
        return
    found = sha256(path)
    if found != expected:
        raise UserError(
            f"{path}: sha256 is {found[:12]}..., but {expected[:12]}... was recorded when it came; "
            "delete the file and get it again"
        )
