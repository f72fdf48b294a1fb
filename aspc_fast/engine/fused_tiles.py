"""Which tiles the fused engine takes: named ones, or by a rule; ``trial`` finds the fastest right ones."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from aspc_fast.engine.base import Learners
from aspc_fast.errors import UserError
from aspc_fast.kernels.problem import TILES, Tiles, fit, tiles_of

VARIABLE = "ASPC_FAST_TILES"
MANY_RUNS = 16  # from here 64-row tiles of both critics are enough programs for every multiprocessor of an H100


def rule(runs: int) -> str:
    """Name in TILES for so many runs, where nothing can be measured."""
    return "throughput" if runs >= MANY_RUNS else "latency"


def compute_capability(device: torch.device) -> int:
    """Compute capability, 90 for 9.0; that of an H100 for what is no CUDA device."""
    major, minor = torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)
    return 10 * major + minor


def candidates(runs: int, capability: int = 90) -> dict[str, Tiles]:
    """Tiles worth timing on a GPU of this compute capability, by name."""
    found = {
        "latency": TILES["latency"],
        "latency, 32 rows": Tiles(rows=32),
        "latency, two programs per multiprocessor": Tiles(registers=128),
        "latency, paired": Tiles(paired=True),
    }
    if runs >= 4:  # fewer cannot fill a GPU with larger tiles
        found["throughput"] = tiles = tiles_of("throughput", capability)
        other = 96 - tiles.rows  # 32 and 64: fewer rows leave room for a second program on the multiprocessor
        found[f"throughput, {other} rows"] = replace(tiles, rows=other)
        found["throughput, depth 16"] = replace(TILES["throughput"], depth=16, stages=4)
        found["throughput, two links"] = replace(TILES["throughput"], chain=2)
        # Unpipelined: weights come in loads of 16 bytes a thread. Pipelined, the wide instruction, which wants them
        # transposed, has them fetched by asynchronous copies of 4 bytes each (kernels/README.md)
        found["throughput, plain loads"] = replace(tiles, stages=1, weight_stages=1)
    return found


def asked() -> str:
    """What $ASPC_FAST_TILES says: "tuned", "rule" or a name as ``find_tiles`` takes it; "tuned" if it says nothing."""
    return os.environ.get(VARIABLE) or "tuned"


def find_tiles(wanted: Tiles | str | None, learners: Learners) -> tuple[str, Tiles]:
    """Name and tiles for an engine. ``wanted``: tiles as they are, the name of a candidate or in TILES, or None: what
    is ``asked`` for, where "tuned" is the rule, since nothing is measured here. Raises UserError for an unknown name.
    """
    if isinstance(wanted, Tiles):
        return "given", wanted
    runs, compute = learners.state.runs, compute_capability(learners.state.device)
    options = {name: tiles_of(name, compute) for name in TILES} | candidates(runs, compute)
    name = wanted or asked()
    if name in ("tuned", "rule"):
        name = rule(runs)
    if name not in options:
        what, names = ("tiles", list(options)) if wanted else (VARIABLE, ["tuned", "rule", *options])
        raise UserError(f"{what} must be one of {', '.join(names)}, got {name!r}")
    return name, fit(options[name], learners.spec)
