"""The headline numbers on one GPU: one run, 39 runs and 195 runs of the suite's true sizes and shapes (synthetic data).

python -m benchmarks.headline --out FILE.json [--engines compiled fused] [--runs 1 39 195] [--seconds 20] [--minutes 7]

``fused`` has the tiles that it tunes for itself (timing them is part of "ready after"); ``fused:latency`` and
``fused:throughput`` have those named, ``fused:all`` is a row for every candidate. Rows that FILE.json has already are
not measured again, and none is begun after ``--minutes``: the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from aspc_fast.agent.footprint import footprint
from aspc_fast.config import AgentConfig
from aspc_fast.data.transitions import Transitions
from aspc_fast.engine.base import graph_steps
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.files import read_json
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.suite import SUITE
from aspc_fast.tools.bench import synthetic_data
from benchmarks.parts import write_result

MILLION = 1_000_000


@lru_cache(maxsize=1)
def suite_data(runs: int, rows: int | None) -> list[Transitions]:
    """Random datasets of the suite's shapes, made once for all engines; ``rows`` caps each."""
    used = SUITE[: min(runs, len(SUITE))] if runs > 1 else [row for row in SUITE if row.id == "walker2d-medium-v2"]
    sizes = [min(row.transitions, rows) if rows else row.transitions for row in used]
    return [synthetic_data(n, row.obs_dim, row.act_dim) for n, row in zip(sizes, used, strict=True)]


def measure(
    engine: str,
    runs: int,
    seconds: float,
    rows: int | None,
    device: str,
    algo: str = "aspc",
    precision: Any = "tf32",
) -> dict[str, Any]:
    """Updates per second of ``runs`` runs spread over the suite's shapes; ``rows`` caps each dataset. ``engine`` may
    name the fused engine's tiles after a colon. ``seconds`` 0: only build, compile and run two periods."""
    name, _, tiles = engine.partition(":")
    os.environ["ASPC_FAST_TILES"] = tiles or "tuned"
    datasets = suite_data(runs, rows)
    config = AgentConfig(algo=algo, critic="robust")
    specs = [RunSpec(i % len(datasets), config, i // len(datasets)) for i in range(runs)]
    begin = time.perf_counter()
    made = build_population(datasets, specs, device=device, engine=name, store_next=False, precision=precision)
    means, period = MetricMeans(), graph_steps(made.spec)
    made.engine.advance(2 * period, means)
    _synchronise(device)
    ready = time.perf_counter() - begin
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        made.engine.advance(5 * period, means)
        done += 5 * period
        _synchronise(device)
    rate = done / (time.perf_counter() - begin)
    cost = footprint(made.spec)
    return {
        "engine": engine,
        "algo": algo,
        "precision": precision,
        "tiles": getattr(made.engine, "tiles", None),
        "compiled": getattr(made.engine, "compiles", None),
        "runs": runs,
        "updates_per_second": rate,
        "run_updates_per_second": rate * runs,
        "minutes_for_a_million_updates": MILLION / rate / 60 if rate else None,
        "ready_after_seconds": ready,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "tflops": rate * runs * cost.flops / 1e12,
        "state_gb_per_second": rate * runs * cost.traffic / 1e9,
    }


def expand(engines: Sequence[str], runs: int, device: str) -> list[str]:
    """``fused:all`` replaced by one name for each of the tiles worth timing with so many runs."""
    if "fused:all" not in engines:
        return list(engines)
    from aspc_fast.engine.fused_tiles import candidates, compute_capability

    every = [f"fused:{name}" for name in candidates(runs, compute_capability(torch.device(device)))]
    return [name for engine in engines for name in (every if engine == "fused:all" else [engine])]


def told(row: dict[str, Any]) -> str:
    """One row in one line."""
    return (
        f"{row['engine']:32} {row['algo']:6} {row['runs']:4} runs:"
        f" {row['run_updates_per_second']:12,.0f} run-updates/s,"
        f" {row['minutes_for_a_million_updates']:8.2f} min per 1e6 updates, {row['tflops']:6.1f} TFLOP/s,"
        f" {row['state_gb_per_second']:8.1f} GB/s of state, ready after {row['ready_after_seconds']:.0f} s"
        + (f", tiles: {row['tiles']}" if row["tiles"] else "")
    )


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure, print one line each, write JSON after each so that a time limit loses one row at most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engines", nargs="*", default=["compiled", "fused"])
    parser.add_argument("--runs", nargs="*", type=int, default=[1, 39, 195])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--minutes", type=float, default=7.0, help="begin no row after that")
    parser.add_argument("--rows", type=int, help="cap on rows per dataset, for small machines")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    begin = time.perf_counter()
    rows: list[dict[str, Any]] = read_json(options.out)["rows"] if options.out.exists() else []
    had = {(row["engine"], row["runs"]) for row in rows}
    for runs in options.runs:
        for engine in expand(options.engines, runs, options.device):
            if (engine, runs) in had:
                print(f"{engine}, {runs} runs: in {options.out} already")
                continue
            if time.perf_counter() - begin > 60 * options.minutes:
                print(f"{engine}, {runs} runs: not begun after {options.minutes:g} minutes; the same command goes on")
                continue
            if options.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            rows.append(measure(engine, runs, options.seconds, options.rows, options.device))
            print(told(rows[-1]), flush=True)
            write_result(options.out, {"rows": rows})


if __name__ == "__main__":
    main()
