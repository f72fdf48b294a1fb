"""Result files: a measurement with date, versions, machine, commit and command; or several, each its part of a file."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from aspc_fast.files import read_json, write_json
from aspc_fast.results.provenance import provenance


def write_result(path: Path, told: dict[str, Any]) -> None:
    """``told`` as JSON, with when, where and how it was measured."""
    write_json(path, origin() | told)


def origin() -> dict[str, Any]:
    """Date, versions, machine, commit and command of what is measured now."""
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), **provenance()}


def keep_part(path: Path, name: str, told: dict[str, Any]) -> None:
    """Put ``told`` into the file as the part ``name``, with its own date, commit, command and load average.

    Parts that were measured on another machine go.
    """
    about = origin()
    for package in ("h5py", "deflate"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            about["versions"][package] = metadata.version(package)
    found = read_json(path) if path.exists() else {}
    here = {key: about["machine"][key] for key in ("platform", "cpus", "gpu")}
    parts = found["parts"] if here.items() <= found.get("machine", {}).items() else {}
    own = {"command": about.pop("command"), "date": about["date"], "commit": about["commit"]}
    own["load"] = list(os.getloadavg())
    write_json(path, {**about, "parts": {**parts, name: own | told}})
