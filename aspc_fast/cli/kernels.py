"""`aspc-fast kernels`."""

from __future__ import annotations

from itertools import product
from typing import Any, Literal

from rich.table import Table

from aspc_fast.cli.console import make_console
from aspc_fast.config import Precision
from aspc_fast.errors import UserError

Architecture = Literal["sm_80", "sm_90", "sm_100"]
ARCHITECTURES: tuple[Architecture, ...] = ("sm_80", "sm_90", "sm_100")
SHAPES = ("latency", "latency, paired", "throughput")  # of fused_tiles.candidates


def kernels(
    architectures: tuple[Architecture, ...] = ARCHITECTURES,
    obs_dim: int = 17,
    act_dim: int = 6,
    precision: Precision = "tf32",
) -> int:
    """Compile every kernel of the fused engine in both shapes, without a GPU, and print what the compiler says of it.

    The paired design and the throughput shape are shown with what they do not share with those before.

    Exit code 1 if a kernel spills registers, or multiplies matrices without tensor cores (fp32 matmuls have none).

    Args:
        architectures: compute capabilities to compile for.
        obs_dim: observation entries of the run that the kernels are compiled for.
        act_dim: action entries of that run.
        precision: of the matmuls.
    """
    if obs_dim < 1 or act_dim < 1:
        raise UserError(f"obs_dim and act_dim must be at least 1, got {obs_dim} and {act_dim}")
    try:
        import triton
    except ImportError as error:
        raise UserError("the kernels need the package triton, which is not installed here") from error
    from aspc_fast.engine.fused_tiles import MANY_RUNS, candidates
    from aspc_fast.tools.kernel_compiler import compile_for, record

    console = make_console()
    table = Table(title=f"Triton {triton.__version__}, {obs_dim} observation and {act_dim} action entries, {precision}")
    table.add_column("shape")
    table.add_column("kernel")
    table.add_column("for")
    for column in ("registers", "stack bytes", "shared bytes", "narrow copies", "tensor-core instructions", ""):
        table.add_column(column, justify="right")
    seen: set[tuple[str, Any]] = set()
    faulty = 0
    compiled = 0
    with console.status("compiling"):
        for architecture, shape in product(architectures, SHAPES):
            capability = int(architecture.removeprefix("sm_"))
            tiles = candidates(MANY_RUNS, capability)[shape]
            for launch in record(obs_dim, act_dim, precision, tiles):
                if (architecture, launch.program) in seen:
                    continue
                seen.add((architecture, launch.program))
                report = compile_for(launch, capability)
                compiled += 1
                faults = [f for f in report.faults if precision != "fp32" or f == "spills"]
                faulty += bool(faults)
                table.add_row(
                    *(shape, report.name, architecture, str(report.registers), str(report.stack), str(report.shared)),
                    str(report.narrow_copies),
                    ", ".join(f"{n} {kind}" for kind, n in sorted(report.tensor_cores.items())),
                    f"[red]{', '.join(faults)}[/red]" if faults else "[green]good[/green]",
                )
    console.print(table)
    console.print(f"{compiled - faulty} kernels good, {faulty} not", highlight=False)
    return 1 if faulty else 0


COMMANDS = {"kernels": kernels}
