"""`aspc-fast export`."""

from __future__ import annotations

from pathlib import Path

import tyro

from aspc_fast.cli.console import make_console, say
from aspc_fast.results.export import export as export_policy


def export(results: tyro.conf.Positional[Path], format: str, out: Path | None = None, run: int | None = None) -> int:
    """Write a trained policy as one file that needs nothing of this package: raw observations in, actions out.

    Args:
        results: results folder of a training run or a sweep.
        format: onnx or safetensors.
        out: file to write; default policy.onnx or policy.safetensors in the results folder.
        run: number of the run, in a sweep's results folder.
    """
    path = export_policy(results, format, out, run)
    say(make_console(), f"written to {path} ({path.stat().st_size:,} bytes)")
    return 0


COMMANDS = {"export": export}
