"""Fields of results files that somebody may have edited or cut: the right type, or one sentence that says where."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from aspc_fast.errors import UserError

MAX_LINE_BYTES = 16 * 2**20
MAX_LABEL = 80

Record = dict[str, Any]


def record(value: Any, where: str) -> Record:
    """``value`` if it is a JSON object; UserError otherwise."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a JSON object, got {_short(value)}")
    return value


def objects(owner: Record, name: str, where: str) -> list[Record]:
    """Field ``name``: a list of JSON objects."""
    value = owner.get(name)
    if not isinstance(value, list):
        raise UserError(f"{where}: field {name!r} must be a list, got {_short(value)}")
    return [record(item, f"{where}: field {name!r}, entry {i}") for i, item in enumerate(value)]


def section(owner: Record, name: str, where: str) -> Record:
    """Field ``name``: a JSON object, empty where the field is missing or null."""
    value = owner.get(name)
    return {} if value is None else record(value, f"{where}: field {name!r}")


def whole(owner: Record, name: str, where: str, default: int | None = None) -> int:
    """Field ``name``: a whole number of at least 0; ``default`` where it is missing or null."""
    value = owner.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{where}: field {name!r} must be a whole number of at least 0, got {_short(value)}")
    return value


def number(owner: Record, name: str, where: str) -> float | None:
    """Field ``name``: a number; None where it is missing, null, NaN or infinite."""
    value = owner.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: field {name!r} must be a number, got {_short(value)}")
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def text(owner: Record, name: str, where: str, default: str | None = None) -> str:
    """Field ``name``: a string, cleaned for printing; ``default`` where it is missing or null."""
    value = owner.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise UserError(f"{where}: field {name!r} must be text, got {_short(value)}")
    return clean(value)


@lru_cache(maxsize=4096)  # the same few names come back in every record
def clean(value: str, longest: int = MAX_LABEL * 5) -> str:
    """``value`` without what no page or terminal should receive: control, direction and unpaired characters."""
    kept = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Cn") else c for c in value[:longest])
    return kept if len(value) <= longest else kept[:-1] + "\u2026"


def json_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """(line number, object) of each finished line; a last line without its end (a kill, or still being written) is not.

    A missing file is an empty one; a damaged line is a UserError that names it. Memory stays bounded by one line.
    """
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    with handle:
        for count in range(1, 2**62):
            line = handle.readline(MAX_LINE_BYTES)
            if not line.endswith(b"\n"):
                if len(line) == MAX_LINE_BYTES:
                    raise UserError(f"{path}: line {count} is longer than the {MAX_LINE_BYTES} bytes accepted")
                return
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                raise UserError(f"{path}: line {count} is not JSON: {_short(line.decode(errors='replace'))}") from None
            yield count, record(value, f"{path}: line {count}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
