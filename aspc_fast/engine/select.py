"""Pick the engine by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import torch

from aspc_fast.config import AgentConfig, Precision
from aspc_fast.engine.base import Engine, Learners
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.kinds import ALGORITHMS
from aspc_fast.engine.native import NativeEngine
from aspc_fast.engine.native_check import works_here
from aspc_fast.engine.split import SplitEngine
from aspc_fast.errors import UserError

ENGINES = ("auto", "eager", "compiled", "native", "fused")
MEASURED = "measured"  # what auto stands for on CUDA: see engine/trial.py
WORTH_MEASURING = 1_000_000  # run-updates: below that, on a GPU, compiling several engines takes longer than it saves
WORTH_BUILDING = 1_000  # run-updates: building the native library (3 to 7 s, once) saves 4 ms of each of eager's
WORTH_COMPILING = 30_000  # run-updates: below that, on a CPU, compiling (55 s on 2 cores) takes longer than it saves

Maker = Callable[[Learners], Engine]
_registered: dict[str, Maker] = {}


def register_engine(name: str, make: Maker) -> None:
    """Let ``name`` be an engine in this process: ``make`` gets a whole population. For engines from elsewhere."""
    if name in ENGINES:
        raise UserError(f"engine {name!r} is one of the package's own ({', '.join(ENGINES)}); choose another name")
    _registered[name] = make


def resolve_engine(name: str, device: str, updates: int, algo: str = AgentConfig.algo) -> str:
    """The name once ``auto`` is resolved for so many run-updates (steps times runs); UserError for an unknown name.

    auto: on CUDA MEASURED for much work, else compiled. On the CPU native from WORTH_BUILDING on where it can be built
    and agrees with eager; else compiled from WORTH_COMPILING on where a C++ compiler is at hand; else eager. Engines
    with kernels of their own are for ``kinds.ALGORITHMS``.
    """
    if name in _registered:
        return name
    if name not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    if name != "auto":
        return name
    kernels = algo in ALGORITHMS
    if device.startswith("cuda"):
        return MEASURED if updates >= WORTH_MEASURING and kernels else "compiled"
    if updates >= WORTH_BUILDING and kernels and works_here():
        return "native"
    return "compiled" if updates >= WORTH_COMPILING and any(map(shutil.which, ("g++", "clang++"))) else "eager"


def make_engine(name: str, learners: Learners, precision: Precision = "tf32") -> Engine:
    """The engine called ``name`` (MEASURED or one of ENGINES but auto); on a CPU eager and compiled take a population
    run by run.

    precision: of matrix products on CUDA, for float32 state: tf32, fp32 (IEEE), or bf16 (fused only).
    """
    if name in _registered:
        return _registered[name](learners)
    state = learners.state
    if state.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    if name == MEASURED:
        from aspc_fast.engine.trial import make_measured

        if state.device.type != "cuda" or learners.replay is None:
            raise UserError(f"engine {MEASURED} needs a CUDA device and data, got {state.device}")
        return make_measured(learners, precision)
    if name == "fused":
        from aspc_fast.engine.trial import make_fused

        return make_fused(learners, precision)
    if precision == "bf16":
        raise UserError(f"precision bf16 is for engine fused, not {name}")
    if name == "native":
        return NativeEngine(learners)
    make = {"eager": EagerEngine, "compiled": CompiledEngine}[name]
    if state.device.type == "cuda":
        return make(learners)
    # Adam's first moments of units that went silent decay into denormal numbers (11 % of an actor's after 20,000
    # steps), which the CPU handles in microcode: 84 -> 102 updates/s when they count as zero
    torch.set_flush_denormal(True)
    return SplitEngine(make, learners) if state.runs > 1 else make(learners)
