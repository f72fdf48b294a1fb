"""One file of results that several commands add to, each its part, with commit, date, command and load average."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from aspc_fast.files import read_json, write_json
from aspc_fast.results.provenance import provenance


def keep_part(path: Path, name: str, told: dict[str, Any]) -> None:
    """Put ``told`` into the file as the part ``name``; parts that were measured on another machine go."""
    about = provenance()
    for package in ("h5py", "deflate"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            about["versions"][package] = metadata.version(package)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = read_json(path) if path.exists() else {}
    here = {key: about["machine"][key] for key in ("platform", "cpus", "gpu")}
    parts = found["parts"] if here.items() <= found.get("machine", {}).items() else {}
    own = {"date": now, "commit": about["commit"], "command": about.pop("command"), "load": list(os.getloadavg())}
    write_json(path, {"date": now, **about, "parts": {**parts, name: {**own, **told}}})
