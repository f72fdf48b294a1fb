"""A row of `aspc-fast doctor`, and how its checks run other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "missing", "failed"]


@dataclass(frozen=True)
class Row:
    """One finding. ``state``: ok; missing (training works without it); failed (it cannot). ``remedy``: what to do."""

    section: str
    name: str
    state: State
    value: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def told(error: BaseException) -> str:
    """An exception as one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def run_command(command: list[str], given: str, seconds: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; one that takes too long counts as failed."""
    try:
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=seconds, **options
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {seconds:.0f} s")


def run_python(code: str, *arguments: str, folder: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own that finds this package, in ``folder``, so that litter stays there."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return run_command([sys.executable, "-c", code, *arguments], "", seconds, cwd=folder, env=environment)
