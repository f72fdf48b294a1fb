"""The ladder: what each way of running the same updates achieves, as ratios to ``reference.py``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aspc_fast import reference
from aspc_fast.agent.footprint import footprint
from aspc_fast.agent.state import RunShape, make_spec
from aspc_fast.config import AgentConfig, fields_of
from aspc_fast.data.arrays import from_arrays
from aspc_fast.data.transitions import Transitions
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.registry import algorithm
from aspc_fast.run.population import RunSpec, build_population

Advance = Callable[[int], None]
"""Does so many steps of whatever is timed."""
REFERENCES = ("td3bc", "aspc")  # what reference.py trains
PRODUCT_SIZES = {"cuda": 4096, "cpu": 1024}  # rows and columns of what stands for the fastest matrix product
ROUNDS = 9  # windows per rung, interleaved so that a slow moment of the machine hits all rungs alike


@dataclass(frozen=True)
class Rung:
    """One way of running: engine ("reference" for reference.py), algorithm and number of runs at once."""

    engine: str
    algo: str = "aspc"
    runs: int = 1

    @property
    def label(self) -> str:
        """How the table calls it."""
        return f"{self.engine}, {self.algo}" + (f", {self.runs} runs" if self.runs > 1 else "")


@dataclass(frozen=True)
class Measured:
    """Run-updates per second of one rung in each window, the seconds until its first updates were done, the device's
    peak memory, floating-point operations of the matrix products of one update, and such operations per second that
    one large product reaches in the same rounds."""

    rung: Rung
    windows: list[float]
    start_seconds: float
    peak_bytes: int | None
    flops: float
    matmul_rate: float

    @property
    def median(self) -> float:
        """Median over the windows, run-updates per second."""
        return statistics.median(self.windows)

    @property
    def share(self) -> float:
        """Achieved operations per second over those of one large product."""
        return self.flops * self.median / self.matmul_rate

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self.rung), "windows": self.windows, "median": self.median, "best": max(self.windows)} | {
            "start_seconds": self.start_seconds,
            "peak_bytes": self.peak_bytes,
            "flops": self.flops,
            "matmul_rate": self.matmul_rate,
        }


def bench_config(algo: str) -> AgentConfig:
    """The algorithm's defaults, but the robust critic where there is a choice: so that work is compared with like."""
    kind = algorithm(algo).config
    own: dict[str, Any] = {"critic": "robust"} if "critic" in fields_of(kind) else {}
    return kind(algo=algo, **own)


def synthetic_data(rows: int, obs_dim: int, act_dim: int, seed: int = 0) -> Transitions:
    """Random transitions of given dimensions: speed does not depend on what they say."""
    rng = np.random.default_rng(seed)
    return from_arrays(
        rng.standard_normal(size=(rows, obs_dim), dtype=np.float32),
        2 * rng.random(size=(rows, act_dim), dtype=np.float32) - 1,
        rng.standard_normal(size=rows, dtype=np.float32),
        np.arange(rows) % 1000 == 999,
        name="synthetic",
    )


def measure(
    rungs: Sequence[Rung],
    *,
    obs_dim: int = 17,
    act_dim: int = 6,
    rows: int = 100_000,
    device: str = "cpu",
    seconds: float = 2.0,
    on_window: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Run-updates per second of every rung, in interleaved windows of about ``seconds`` each, synchronised."""
    data = synthetic_data(rows, obs_dim, act_dim)
    prepared = [prepare(rung, data, device) for rung in rungs]
    product, flops = matrix_product(device)
    advances = [advance for advance, _, _ in prepared]
    *speeds, products = take_turns([*advances, product], seconds, device, on_window, ROUNDS)
    rate = flops * statistics.median(products)
    return [
        Measured(rung, [rung.runs * speed for speed in own], start, peak, _flops(rung, data), rate)
        for rung, own, (_, start, peak) in zip(rungs, speeds, prepared, strict=True)
    ]


def take_turns(
    advances: Sequence[Advance], seconds: float, device: str, on_window: Callable[[], None], rounds: int
) -> list[list[float]]:
    """Steps per second of each function in each of ``rounds`` windows of about ``seconds``; they take turns."""
    sizes = [_window_size(advance, seconds, device) for advance in advances]
    windows: list[list[float]] = [[] for _ in advances]
    for _ in range(rounds):
        for own, advance, size in zip(windows, advances, sizes, strict=True):
            own.append(size / timed(advance, size, device))
            on_window()
    return windows


def matrix_product(device: str) -> tuple[Advance, float]:
    """A function that multiplies two large float32 matrices n times, and the operations of one such product: what the
    machine's matrix products reach where nothing else is to do (in the precision that the engines were given)."""
    size = PRODUCT_SIZES["cuda" if device.startswith("cuda") else "cpu"]
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    result = torch.empty_like(left)

    def advance(count: int) -> None:
        for _ in range(count):
            torch.mm(left, right, out=result)

    return advance, 2.0 * size**3


def _flops(rung: Rung, data: Transitions) -> float:
    return footprint(make_spec([bench_config(rung.algo)], [RunShape(data.obs_dim, data.act_dim)])).flops


def prepare(rung: Rung, data: Transitions, device: str) -> tuple[Advance, float, int | None]:
    """A function that advances by n steps, the seconds until it ran warm, and peak device memory."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    config = bench_config(rung.algo)
    begin = time.perf_counter()
    engine = "eager" if rung.engine == "reference" else rung.engine
    population = build_population(
        [data], [RunSpec(0, config, i) for i in range(rung.runs)], device=device, engine=engine
    )
    if rung.engine == "reference":
        advance = _reference_loop(rung, data, device)
    else:
        means = MetricMeans()

        def advance(steps: int) -> None:
            population.engine.advance(steps, means)

    advance(2 * population.spec.period)
    _synchronise(device)
    peak = torch.cuda.max_memory_allocated() if device.startswith("cuda") else None
    return advance, time.perf_counter() - begin, peak


def _reference_loop(rung: Rung, data: Transitions, device: str) -> Advance:
    """reference.py as its user would run it: a buffer on the device, torch's own random batches."""
    trainer = reference.Trainer(data.obs_dim, data.act_dim, 1.0, reference.Config(algo=rung.algo), device)
    arrays = (data.observations, data.actions, data.rewards[:, None], data.next_observations, data.terminals[:, None])
    buffer = [torch.as_tensor(np.ascontiguousarray(a), dtype=torch.float32, device=device) for a in arrays]

    def advance(steps: int) -> None:
        for _ in range(steps):
            rows = torch.randint(len(data), (256,), device=device)
            trainer.train_step(*(array[rows] for array in buffer))

    return advance


def _window_size(advance: Advance, seconds: float, device: str) -> int:
    """Steps that take about ``seconds``, a multiple of 20: of whole periods, for most algorithms."""
    return max(1, round(seconds / timed(advance, 20, device))) * 20


def timed(advance: Advance, steps: int, device: str) -> float:
    """Seconds that so many steps take, synchronised."""
    _synchronise(device)
    begin = time.perf_counter()
    advance(steps)
    _synchronise(device)
    return time.perf_counter() - begin


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
