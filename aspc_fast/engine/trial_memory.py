"""What trials of engines found on this machine's GPUs: one small file per GPU, driver, versions and population size.

Files live in the user's cache folder, are written atomically and at most KEPT of them stay. A damaged one counts as not
there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aspc_fast.errors import UserError
from aspc_fast.files import read_json, write_json

KEPT = 64
FORMAT = 1

Verdict = Literal["right", "wrong", "failed", "not tried"]


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate. ``error``: largest deviation from the float64 truth as a multiple of PyTorch's own;
    ``microseconds`` per training step of the whole population, where it was right; ``reason`` where it was not."""

    name: str
    verdict: Verdict
    error: float | None = None
    microseconds: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """A finished trial: what was asked, what came of each candidate, and the name that was chosen."""

    key: dict[str, Any]
    outcomes: tuple[Outcome, ...]
    chosen: str


def folder() -> Path:
    """$XDG_CACHE_HOME or ~/.cache, then aspc_fast/engines."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aspc_fast" / "engines"


def file_of(where: Path, key: Mapping[str, Any]) -> Path:
    """The file of one key."""
    return where / f"{hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()[:16]}.json"


def recall(where: Path, key: Mapping[str, Any]) -> Found | None:
    """The trial of exactly this key, if there is a readable one; a damaged file costs a warning."""
    path = file_of(where, key)
    found = _read(path) if path.is_file() else None
    return found if found is not None and found.key == dict(key) else None


def recall_all(where: Path) -> list[Found]:
    """Every readable trial, the newest first."""
    with contextlib.suppress(OSError):
        paths = sorted(where.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)[:KEPT]
        return [found for found in map(_read, paths) if found is not None]
    return []


def remember(where: Path, found: Found) -> None:
    """Write the trial, and forget the oldest beyond KEPT; where that cannot be done, a warning."""
    path = file_of(where, found.key)
    try:
        where.mkdir(parents=True, exist_ok=True)
        outcomes = [asdict(outcome) for outcome in found.outcomes]
        write_json(path, {"format": FORMAT, "key": found.key, "outcomes": outcomes, "chosen": found.chosen}, seal=True)
        for old in sorted(where.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"{path}: the choice of an engine cannot be remembered ({error})", stacklevel=2)


def mark(where: Path, key: Mapping[str, Any], name: str) -> None:
    """Note that ``name`` is being tried: should it take the process down, the next trial leaves it out."""
    with contextlib.suppress(OSError):
        where.mkdir(parents=True, exist_ok=True)
        write_json(_marker(where, key), {"trying": [*fallen(where, key), name]})


def unmark(where: Path, key: Mapping[str, Any], before: Sequence[str]) -> None:
    """The candidate came back; ``before`` were marked when the trial began and stay so."""
    with contextlib.suppress(OSError):
        if before:
            write_json(_marker(where, key), {"trying": list(before)})
        else:
            _marker(where, key).unlink(missing_ok=True)


def fallen(where: Path, key: Mapping[str, Any]) -> list[str]:
    """Candidates whose trial never came back."""
    with contextlib.suppress(UserError, OSError, KeyError, TypeError):
        return [str(name) for name in read_json(_marker(where, key))["trying"]]
    return []


def _marker(where: Path, key: Mapping[str, Any]) -> Path:
    return file_of(where, key).with_suffix(".trying")


def _read(path: Path) -> Found | None:
    try:
        value = read_json(path)
        if value["format"] != FORMAT:
            return None
        outcomes = tuple(Outcome(**entry) for entry in value["outcomes"])
        if not all(isinstance(o.microseconds, int | float | None) for o in outcomes):
            raise TypeError("microseconds is no number")
        return Found(dict(value["key"]), outcomes, str(value["chosen"]))
    except (UserError, OSError, KeyError, TypeError, ValueError) as error:
        warnings.warn(f"{path}: not a readable trial of engines, trying again ({error})", stacklevel=2)
        return None
