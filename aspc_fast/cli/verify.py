"""`aspc-fast verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from aspc_fast.cli.console import make_console, passing_bar
from aspc_fast.engine.kinds import ALGORITHMS, ENGINES
from aspc_fast.engine.select import make_engine, resolve_engine
from aspc_fast.errors import UserError
from aspc_fast.run.population import check_device
from aspc_fast.tools.trace import Trace, read_trace, shipped_traces
from aspc_fast.tools.verify import Check
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
        trace: a golden trace (.npz), shown quantity by quantity; without one, those that come with the package.
        dtype: float64 compares the whole trace to 1e-9; float32 the first 20 steps, and every step on its own.
        engine: engine to put to the proof.
        device: cpu, cuda or cuda:N.
        steps: replay only so many steps (final weights are then not compared).
    """
    console = make_console()
    if steps is not None and steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    check_device(device)

    def replay(path: Path) -> Replay:
        return _replay(console, path, dtype, engine, device, steps)

    if trace is not None:
        made = replay(trace)
        _show(console, made)
        return 0 if made.passed else 1
    own_kernels = engine in ENGINES
    summary = Table(title=f"The authors' trainers and this package, {dtype}, {engine} on {device}")
    summary.add_column("trace")
    for column in ("steps", "quantities agree", "largest deviation", "of the allowed", ""):
        summary.add_column(column, justify="right")
    replays = [replay(path) for path in shipped_traces(ALGORITHMS if own_kernels else ())]
    for made in replays:
        numbers = (f"{made.agreeing} of {len(made.checks)}", f"{max(c.deviation for c in made.checks):.1e}")
        share = f"{max(c.deviation / c.allowed for c in made.checks):.1e}"
        summary.add_row(made.trace.path.stem, str(made.steps), *numbers, share, _coloured(made.passed))
    console.print(summary)
    if own_kernels:
        console.print(f"engine {engine} has kernels for {' and '.join(ALGORITHMS)}: the other traces are left out")
    for made in replays:
        if not made.passed:
            _show(console, made)
    return 0 if all(made.passed for made in replays) else 1


@dataclass(frozen=True)
class Replay:
    """What came of one trace."""

    trace: Trace
    title: str
    steps: int
    checks: list[Check]
    notes: list[str]

    @property
    def agreeing(self) -> int:
        """Quantities within what is allowed."""
        return sum(check.passed for check in self.checks)

    @property
    def passed(self) -> bool:
        """Something was compared, and everything agrees."""
        return 0 < len(self.checks) == self.agreeing


def _coloured(passed: bool) -> str:
    return "[green]pass[/green]" if passed else "[red]FAIL[/red]"


def _replay(console: Console, path: Path, dtype: str, engine: str, device: str, steps: int | None) -> Replay:
    golden = read_trace(path)
    chosen = resolve_engine(engine, device, steps or 0, golden.config.algo)
    notes: list[str] = []
    replayed = min(steps or golden.steps, golden.steps)
    with passing_bar(console=console) as progress:
        task = progress.add_task(f"replaying {path.name}", total=replayed)
        checks = verify_trace(
            golden,
            getattr(torch, dtype),
            lambda learners: make_engine(chosen, learners, precision="fp32"),
            device,
            steps,
            lambda step: progress.update(task, completed=step),
            notes.append,
        )
    return Replay(golden, f"{path.name}: {golden.config.algo}, {dtype}, {chosen} on {device}", replayed, checks, notes)


def _show(console: Console, made: Replay) -> None:
    """Every quantity."""
    table = Table(title=made.title)
    table.add_column("quantity")
    for column in ("largest deviation", "allowed", ""):
        table.add_column(column, justify="right")
    for check in made.checks:
        table.add_row(check.quantity, f"{check.deviation:.1e}", f"{check.allowed:.0e}", _coloured(check.passed))
    console.print(table)
    for note in made.notes:
        console.print(note, highlight=False, markup=False)
    agree = f"{made.agreeing} of {len(made.checks)} quantities agree over {made.steps} steps"
    console.print(agree, highlight=False)


COMMANDS = {"verify": verify}
