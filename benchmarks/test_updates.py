"""Whole updates: every engine, ASPC against plain TD3+BC, and several runs at once. Rate in extra_info.

pytest benchmarks --benchmark-only; --benchmark-json=FILE keeps the numbers. ASPC_BENCH_STEPS lengthens each round.
"""

from __future__ import annotations

import pytest
import torch

from aspc_fast.tools.bench import Rung, prepare, synthetic_data
from benchmarks.conftest import DEVICE, ENGINES, ROUNDS, STEPS, synchronised

DATA = synthetic_data(20_000, 17, 6)


def bench_rung(benchmark, rung: Rung) -> None:
    advance, start_seconds, _ = prepare(rung, DATA, DEVICE)
    benchmark.pedantic(synchronised(lambda: advance(STEPS)), rounds=ROUNDS, warmup_rounds=1)
    per_second = rung.runs * STEPS / benchmark.stats.stats.median
    benchmark.extra_info.update(run_updates_per_second=per_second, ready_after_seconds=start_seconds, device=DEVICE)
    if DEVICE == "cuda":
        benchmark.extra_info["peak_bytes"] = torch.cuda.max_memory_allocated()


@pytest.mark.benchmark(group="one run")
@pytest.mark.parametrize("algo", ["td3bc", "aspc"])
@pytest.mark.parametrize("engine", ENGINES)
def test_engine(benchmark, engine, algo):
    bench_rung(benchmark, Rung(engine, algo))


@pytest.mark.benchmark(group="populations")
@pytest.mark.parametrize("runs", [1, 8] if DEVICE == "cpu" else [1, 8, 39, 195])
@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "reference"])
def test_population(benchmark, engine, runs):
    bench_rung(benchmark, Rung(engine, runs=runs))
