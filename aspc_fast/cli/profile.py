"""`aspc-fast profile`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from aspc_fast.cli.console import make_console
from aspc_fast.engine.select import resolve_engine
from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm
from aspc_fast.run.population import check_device
from aspc_fast.run.settings import resolve_device
from aspc_fast.tools.bench import synthetic_data
from aspc_fast.tools.profile import Profiled, profile_algo, verdict


def profile(
    engine: str = "eager",
    device: str = "auto",
    runs: int = 1,
    steps: int = 100,
    obs_dim: int = 17,
    act_dim: int = 6,
    algo: tuple[str, ...] = ("td3bc", "aspc"),
    trace: Path | None = None,
) -> int:
    """Profile algorithms side by side, ratios to the first of them: launches, computing share, top kernels, floors.

    Args:
        engine: engine to profile.
        device: cpu, cuda or auto.
        runs: runs trained at once.
        steps: profiled updates.
        obs_dim: observation entries of the synthetic data.
        act_dim: action entries.
        algo: algorithms to profile; the first is what the others are compared with.
        trace: folder for Chrome traces (chrome://tracing), one per algorithm.
    """
    console = make_console()
    place = resolve_device(device)
    check_device(place)
    for name, value in (("runs", runs), ("steps", steps), ("obs-dim", obs_dim), ("act-dim", act_dim)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    for name in algo:
        algorithm(name)  # says what is wrong with one that is none
    chosen = resolve_engine(engine, place, steps)
    data = synthetic_data(20_000, obs_dim, act_dim)
    if trace is not None:
        trace.mkdir(parents=True, exist_ok=True)
    profiles = []
    with console.status("profiling"):
        for name in algo:
            file = trace / f"{name}.json" if trace is not None else None
            options = {"runs": runs, "steps": steps}
            profiles.append(profile_algo(name, data, engine=chosen, device=place, trace=file, **options))
    console.print(_summary(profiles, place, chosen))
    for made in profiles:
        console.print(_top(made))
        console.print(f"{made.algo}: {verdict(made, place)}", highlight=False)
    if trace is not None:
        console.print(f"traces in {trace}", highlight=False)
    return 0


def _summary(profiles: list[Profiled], device: str, engine: str) -> Table:
    table = Table(title=f"{engine} on {device}, {profiles[0].runs} run(s), {profiles[0].steps} updates")
    table.add_column("")
    for made in profiles:
        table.add_column(made.algo, justify="right")
    for made in profiles[1:]:
        table.add_column(f"{made.algo} / {profiles[0].algo}", justify="right")

    def row(show: Callable[[float], str], value: Callable[[Profiled], float], ratio: bool = False) -> list[str]:
        values = [value(made) for made in profiles]
        return [show(v) for v in values] + [f"{v / values[0]:.3f}" if ratio else "" for v in values[1:]]

    unit = "kernels" if device.startswith("cuda") else "operators"
    rows = {
        "microseconds per update": row("{:,.0f}".format, lambda p: p.seconds * 1e6, True),
        f"{unit} per update": row("{:,.1f}".format, lambda p: p.launches, True),
        "computing share of the time": row("{:.0%}".format, lambda p: p.busy),
        "GFLOP per update and run": row("{:.3f}".format, lambda p: p.cost.flops / 1e9, True),
        "MB of state per update and run": row("{:.1f}".format, lambda p: p.cost.traffic / 1e6),
        "achieved GFLOP/s": row("{:,.1f}".format, lambda p: p.flops_per_second / 1e9),
        "share of one large matrix product's": row("{:.0%}".format, lambda p: p.share),
        "achieved GB/s of state": row("{:,.1f}".format, lambda p: p.bytes_per_second / 1e9),
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _top(made: Profiled) -> Table:
    table = Table(title=f"{made.algo}: where the computing time goes")
    table.add_column("kernel" if made.top else "nothing was seen")
    table.add_column("share", justify="right")
    table.add_column("calls per update", justify="right")
    for name, share, calls in made.top:
        table.add_row(name[:60], f"{share:.1%}", f"{calls:.2f}")
    return table


COMMANDS = {"profile": profile}
