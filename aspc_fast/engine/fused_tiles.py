"""Which tiles the fused engine takes: named ones, by a rule, or the fastest of a few, measured once and remembered.

On a CUDA device the first engine of a kind (GPU, number of runs, sizes, precision) times a short stretch of training
with each candidate, on a copy of the state, and writes the choice to the user's cache folder; later engines read it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import triton

from aspc_fast import __version__
from aspc_fast.agent.state import Spec
from aspc_fast.config import Precision
from aspc_fast.engine.base import Learners
from aspc_fast.engine.fused_program import Launch, Program, capture
from aspc_fast.engine.kinds import step_kind
from aspc_fast.errors import UserError
from aspc_fast.files import read_json, write_json
from aspc_fast.kernels.problem import TILES, Tiles, fit, make_problem, tiles_of

VARIABLE = "ASPC_FAST_TILES"
WAYS = ("tuned", "rule", *TILES)
MANY_RUNS = 16  # from here 64-row tiles of both critics are enough programs for every multiprocessor of an H100
MAX_STEPS, ROUNDS = 20, 7  # of a measurement

Timer = Callable[[Sequence[Launch]], float]


def rule(runs: int) -> str:
    """Name in TILES for so many runs, where nothing can be measured."""
    return "throughput" if runs >= MANY_RUNS else "latency"


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


def choose(options: Mapping[str, Tiles], measure: Callable[[Tiles], float]) -> tuple[str, dict[str, float]]:
    """The option with the smallest measured seconds, and all seconds by name.

    One that does not run here (shared memory, registers, memory) is left out; if none does, the last error is raised.
    """
    seconds: dict[str, float] = {}
    failure: Exception | None = None
    for name, tiles in options.items():
        try:
            seconds[name] = measure(tiles)
        except Exception as error:  # Triton, its assembler and CUDA raise many kinds
            failure = error
    if not seconds:
        raise failure if failure is not None else ValueError("no tiles to choose from")
    return min(seconds, key=seconds.__getitem__), seconds


def measured(learners: Learners, precision: Precision, timer: Timer) -> Callable[[Tiles], float]:
    """A measure for ``choose``: the timer's seconds for a period (at most MAX_STEPS) on a copy of the state."""
    spec, state, *_ = learners

    def measure(tiles: Tiles) -> float:
        problem = make_problem(spec, len(state.rho), state.actor.dtype, precision, tiles)
        program = Program(learners._replace(state=state.clone()), problem)
        kinds = [step_kind(spec, step) for step in range(1, min(spec.period, MAX_STEPS) + 1)]
        return timer([launch for kind in kinds for launch in program.launches(kind)])

    return measure


def cuda_seconds(launches: Sequence[Launch]) -> float:
    """Median seconds of the launches replayed as a CUDA graph."""
    graph = capture(launches)
    seconds = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return median(seconds[1:])


def cache_folder() -> Path:
    """Where choices are remembered: $XDG_CACHE_HOME or ~/.cache, then aspc_fast/tiles."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aspc_fast" / "tiles"


def make_key(gpu: str, spec: Spec, runs: int, precision: str) -> dict[str, Any]:
    """What a choice depends on; runs up to the same power of two share one."""
    s = spec.shapes
    return {
        **{"gpu": gpu, "triton": triton.__version__, "aspc_fast": __version__, "precision": precision},
        **{"runs": 1 << (runs - 1).bit_length(), "batch": spec.config.batch_size, "period": spec.period},
        **{"obs_dim": s.obs_dim, "act_dim": s.act_dim, "hidden_dim": s.hidden_dim, "robust": s.robust},
    }


def cache_file(folder: Path, key: Mapping[str, Any]) -> Path:
    """The file of one key."""
    return folder / f"{hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()[:16]}.json"


def recall(folder: Path, key: Mapping[str, Any], options: Mapping[str, Tiles]) -> str | None:
    """The remembered name, if it is one of the options as they are now; a damaged file is ignored with a warning."""
    path = cache_file(folder, key)
    try:
        if not path.exists():
            return None
        found = read_json(path)
        if found["key"] != dict(key):
            return None
        name = found["name"]
        return name if name in options and found["tiles"] == asdict(options[name]) else None
    except (UserError, OSError, KeyError, TypeError) as error:
        warnings.warn(f"{path}: not a readable choice of tiles, measuring again ({error})", stacklevel=2)
        return None


def remember(folder: Path, key: Mapping[str, Any], name: str, tiles: Tiles, seconds: Mapping[str, float]) -> None:
    """Write the choice, atomically; where that cannot be done, a warning."""
    path = cache_file(folder, key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": dict(key), "name": name, "tiles": asdict(tiles), "seconds": dict(seconds)})
    except OSError as error:
        warnings.warn(f"{path}: the choice of tiles cannot be remembered ({error})", stacklevel=2)


def tuned(
    learners: Learners,
    precision: Precision,
    *,
    gpu: str,
    capability: int = 90,
    timer: Timer = cuda_seconds,
    folder: Path | None = None,
) -> str:
    """Name of the fastest of ``candidates``: remembered, or measured now and remembered. The state stays as it is."""
    spec, runs = learners.spec, learners.state.runs
    options, where = candidates(runs, capability), folder or cache_folder()
    key = make_key(gpu, spec, runs, precision)
    name = recall(where, key, options)
    if name is None:
        print(
            f"fused: timing {len(options)} tile shapes on {gpu}, once ({VARIABLE}=rule does without)", file=sys.stderr
        )
        with torch.no_grad():
            fitted = {name: fit(tiles, spec) for name, tiles in options.items()}
            name, seconds = choose(fitted, measured(learners, precision, timer))
        remember(where, key, name, options[name], seconds)
    return name


def find_tiles(wanted: Tiles | str | None, learners: Learners, precision: Precision) -> tuple[str, Tiles]:
    """Name and tiles for an engine. ``wanted``: tiles as they are, one of WAYS, None: $ASPC_FAST_TILES or "tuned".

    Without a CUDA device, or without data to train on, "tuned" is "rule". Raises UserError for an unknown name.
    """
    if isinstance(wanted, Tiles):
        return "given", wanted
    way = wanted or os.environ.get(VARIABLE) or "tuned"
    if way not in WAYS:
        raise UserError(f"{VARIABLE} and tiles must be one of {', '.join(WAYS)}, got {way!r}")
    spec, runs, device, capability = learners.spec, learners.state.runs, learners.state.device, 90
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        capability = 10 * major + minor
        if way == "tuned" and learners.replay is not None:
            gpu = torch.cuda.get_device_name(device)
            name = tuned(learners, precision, gpu=gpu, capability=capability)
            return name, fit(candidates(runs, capability)[name], spec)
    name = way if way in TILES else rule(runs)
    return name, fit(tiles_of(name, capability), spec)
