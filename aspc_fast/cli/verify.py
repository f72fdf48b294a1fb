"""`aspc-fast verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from aspc_fast.cli.console import make_console, passing_bar
from aspc_fast.engine.select import make_engine, resolve_engine
from aspc_fast.errors import UserError
from aspc_fast.run.population import check_device
from aspc_fast.tools.trace import read_trace, shipped_traces
from aspc_fast.tools.verify import verify as verify_trace


def verify(
    trace: tyro.conf.Positional[Path | None] = None,
    dtype: Literal["float64", "float32"] = "float64",
    engine: str = "eager",
    device: str = "cpu",
    steps: int | None = None,
) -> int:
    """Replay golden traces of the authors' trainers and compare every recorded quantity; exit code 0 only if all pass.

    Args:
        trace: a golden trace (.npz); without one, those that come with the package.
        dtype: float64 compares the whole trace to 1e-9; float32 the first 20 steps, and every step on its own.
        engine: engine to put to the proof.
        device: cpu, cuda or cuda:N.
        steps: replay only so many steps (final weights are then not compared).
    """
    console = make_console()
    if steps is not None and steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    check_device(device)
    agree = [_agrees(console, path, dtype, engine, device, steps) for path in ([trace] if trace else shipped_traces())]
    return 0 if all(agree) else 1


def _agrees(console: Console, trace: Path, dtype: str, engine: str, device: str, steps: int | None) -> bool:
    golden = read_trace(trace)
    chosen = resolve_engine(engine, device, steps or 0, golden.config.algo)
    notes: list[str] = []
    with passing_bar(console=console) as progress:
        task = progress.add_task("replaying", total=min(steps or golden.steps, golden.steps))
        checks = verify_trace(
            golden,
            getattr(torch, dtype),
            lambda learners: make_engine(chosen, learners, precision="fp32"),
            device,
            steps,
            lambda step: progress.update(task, completed=step),
            notes.append,
        )
    table = Table(title=f"{trace.name}: {golden.config.algo}, {dtype}, {chosen} on {device}")
    table.add_column("quantity")
    for column in ("largest deviation", "allowed", ""):
        table.add_column(column, justify="right")
    for check in checks:
        verdict = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"
        table.add_row(check.quantity, f"{check.deviation:.1e}", f"{check.allowed:.0e}", verdict)
    console.print(table)
    failed = sum(not check.passed for check in checks)
    for note in notes:
        console.print(note, highlight=False, markup=False)
    replayed = f"{len(checks) - failed} of {len(checks)} quantities agree"
    console.print(f"{replayed} over {min(steps or golden.steps, golden.steps)} steps", highlight=False)
    return bool(checks) and not failed


COMMANDS = {"verify": verify}
