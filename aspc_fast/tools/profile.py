"""Where an update's time goes, by torch.profiler: ASPC and plain TD3+BC side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from aspc_fast.agent.footprint import Footprint, footprint
from aspc_fast.data.transitions import Transitions
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.tools.bench import bench_config, matrix_product, timed

PRODUCTS = 20  # large matrix products before, and after, what is timed


@dataclass(frozen=True)
class Profiled:
    """One algorithm's profile over ``steps`` updates of ``runs`` runs.

    seconds: per update, measured without the profiler. launches: device kernels per update on CUDA (graph replays count
    the kernels inside), operators called per update on a CPU. busy: share of the time the device computes (CUDA), or
    that operators compute as the profiler saw it (CPU). top: (name, share of the computing time, calls per update).
    matmul_rate: floating-point operations per second of one large matrix product, measured just before and after.
    """

    algo: str
    runs: int
    steps: int
    seconds: float
    launches: float
    busy: float
    top: list[tuple[str, float, float]]
    cost: Footprint
    matmul_rate: float

    @property
    def flops_per_second(self) -> float:
        """Achieved floating-point operations per second, all runs."""
        return self.runs * self.cost.flops / self.seconds

    @property
    def share(self) -> float:
        """Achieved operations per second over those of one large product."""
        return self.flops_per_second / self.matmul_rate

    @property
    def bytes_per_second(self) -> float:
        """Achieved traffic of weights, moments and targets, bytes per second, all runs."""
        return self.runs * self.cost.traffic / self.seconds


def profile_algo(
    algo: str, data: Transitions, *, runs: int, engine: str, device: str, steps: int, trace: Path | None
) -> Profiled:
    """Profile ``steps`` updates (rounded up to whole periods) after warming up; ``trace``: file for a Chrome trace."""
    config = bench_config(algo)
    made = build_population([data], [RunSpec(0, config, seed) for seed in range(runs)], device=device, engine=engine)
    steps = -(-steps // made.spec.period) * made.spec.period
    means, cuda = MetricMeans(), device.startswith("cuda")
    made.engine.advance(2 * made.spec.period, means)
    product, flops = matrix_product(device)
    before = timed(product, PRODUCTS, device)
    seconds = timed(lambda n: made.engine.advance(n, means), steps, device) / steps
    matmul_rate = 2 * PRODUCTS * flops / (before + timed(product, PRODUCTS, device))
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as profiler:
        timed(lambda n: made.engine.advance(n, means), steps, device)
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    spent: dict[str, tuple[float, int]] = {}
    for event in profiler.key_averages():
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        on_device = getattr(event, "device_type", None) == torch.autograd.DeviceType.CUDA
        if own > 0 and (on_device if cuda else event.key.startswith(("aten::", "graph_", "mkldnn"))):
            spent[event.key] = (own, event.count)
    computing = sum(own for own, _ in spent.values()) or 1.0
    ranked = sorted(spent.items(), key=lambda item: -item[1][0])
    return Profiled(
        algo=algo,
        runs=runs,
        steps=steps,
        seconds=seconds,
        launches=sum(count for _, count in spent.values()) / steps,
        busy=min(1.0, computing / 1e6 / (seconds * steps)),
        top=[(name, own / computing, count / steps) for name, (own, count) in ranked[:10]],
        cost=footprint(made.spec),
        matmul_rate=matmul_rate,
    )


def verdict(profiled: Profiled, device: str) -> str:
    """One sentence on what limits the update."""
    products = sum(share for name, share, _ in profiled.top if _is_product(name))
    if profiled.busy < 0.6:
        where = "the device waits for the host" if device.startswith("cuda") else "dispatch between operators"
        return f"limited by {where}: computing fills {profiled.busy:.0%} of the time"
    if products > 0.5:
        return f"limited by matrix products: {products:.0%} of the computing time"
    return f"limited by elementwise work and memory: matrix products are {products:.0%} of the computing time"


def _is_product(name: str) -> bool:
    return any(word in name.lower() for word in ("mm", "gemm", "matmul", "linear", "cutlass", "mlp", "pass"))
