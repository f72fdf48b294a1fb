"""Where results come from: versions, machine, commit and command."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from aspc_fast import __version__


def provenance() -> dict[str, Any]:
    """Versions, machine and commit, for config.json."""
    versions = {"aspc_fast": __version__, "python": platform.python_version()}
    for package in ("torch", "triton", "numpy", "envpool", "gymnasium", "gymnasium-robotics", "minari"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {"platform": platform.platform(), "cpus": os.cpu_count(), "gpu": gpu, "threads": torch.get_num_threads()}
    return {"versions": versions, "machine": machine, "commit": commit(), "command": command_line()}


def command_line() -> list[str]:
    """How this process was called, without the folder of the program."""
    program = Path(sys.argv[0]).name
    return ["aspc-fast" if program == "__main__.py" else program, *sys.argv[1:]]


def commit() -> str | None:
    """The git commit of the checkout this package runs from, with "+" if it has changes; None in an installation."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        ask = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None
