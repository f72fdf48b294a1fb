"""`aspc-fast bench`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.table import Table

from aspc_fast.cli.console import make_console, passing_bar
from aspc_fast.engine.select import ENGINES
from aspc_fast.errors import UserError
from aspc_fast.files import write_json
from aspc_fast.registry import algorithm
from aspc_fast.results.provenance import provenance
from aspc_fast.run.population import check_device
from aspc_fast.tools.bench import REFERENCES, ROUNDS, Measured, Rung, measure
from aspc_fast.tools.trials import find_for_bench, table_of


def bench(
    engines: tuple[str, ...] = (),
    runs: tuple[int, ...] = (1,),
    device: str = "auto",
    obs_dim: int = 17,
    act_dim: int = 6,
    seconds: float = 2.0,
    algo: tuple[str, ...] = ("td3bc", "aspc"),
    out: Path | None = None,
) -> int:
    """Time each way of running the same updates, against reference.py in the same process.

    Args:
        engines: engines to time; default all that work here.
        runs: numbers of runs trained at once.
        device: cpu, cuda or auto.
        obs_dim: observation entries of the synthetic data.
        act_dim: action entries.
        seconds: length of one window; every rung has nine, interleaved.
        algo: algorithms to time.
        out: also write everything as JSON.
    """
    console = make_console()
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    check_device(place)
    for name, value in (("obs-dim", obs_dim), ("act-dim", act_dim), *(("runs", r) for r in runs)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    absent = ("auto", "fused" if place == "cpu" else "native")
    chosen = engines or tuple(name for name in ENGINES if name not in absent)
    for name in chosen:
        if name not in ENGINES or name == "auto":
            raise UserError(f"engines are {', '.join(e for e in ENGINES if e != 'auto')}, got {name!r}")
    for name in algo:
        algorithm(name)  # says what is wrong with one that is none
    rungs = [Rung("reference", name) for name in algo if name in REFERENCES]
    rungs += [Rung(engine, name, r) for engine in chosen for r in runs for name in algo]
    with passing_bar(console=console) as progress:
        task = progress.add_task("measuring", total=(len(rungs) + 1) * ROUNDS)
        sizes = {"obs_dim": obs_dim, "act_dim": act_dim}
        measured = measure(rungs, **sizes, device=place, seconds=seconds, on_window=lambda: progress.advance(task))
    console.print(_table(measured, place, sizes))
    trials = [find_for_bench(r, place, **sizes) for r in runs] if place.startswith("cuda") else []
    for trial in trials:
        console.print(table_of(trial))
    if out is not None:
        about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "device": place, **sizes}
        ladder = [m.to_json() for m in measured]
        write_json(out, {**about, **provenance(), "ladder": ladder, "trials": list(map(asdict, trials))})
        console.print(f"written to {out}", highlight=False)
    return 0


def _table(measured: list[Measured], device: str, sizes: dict[str, int]) -> Table:
    where = torch.cuda.get_device_name() if device.startswith("cuda") else f"CPU, {torch.get_num_threads()} threads"
    title = f"run-updates per second, batch 256, {sizes['obs_dim']}/{sizes['act_dim']} dimensions, {where}"
    table = Table(title=title)
    table.add_column("way of running")
    for column in ("median", "best", "x reference", "TD3+BC / it", "MFLOP", "GFLOP/s", "of matmul", "ready after"):
        table.add_column(column, justify="right")
    base = {m.rung.algo: m.median for m in measured if m.rung.engine == "reference"}
    plain = {(m.rung.engine, m.rung.runs): m.median for m in measured if m.rung.algo == "td3bc"}
    for m in measured:
        cost = plain.get((m.rung.engine, m.rung.runs)) if m.rung.algo != "td3bc" else None
        table.add_row(
            m.rung.label,
            f"{m.median:,.1f}",
            f"{max(m.windows):,.1f}",
            f"{m.median / base[m.rung.algo]:.2f}" if m.rung.algo in base else "",
            f"{cost / m.median:.3f}" if cost else "",
            f"{m.flops / 1e6:,.0f}",
            f"{m.flops * m.median / 1e9:,.1f}",
            f"{m.share:.0%}",
            f"{m.start_seconds:.1f} s",
        )
    if measured:
        rate = f"{measured[0].matmul_rate / 1e9:,.1f} GFLOP/s"
        table.caption = f"of matmul: share of what one large float32 matrix product reached between the windows, {rate}"
    return table


COMMANDS = {"bench": bench}
