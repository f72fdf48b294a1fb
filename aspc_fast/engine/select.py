"""Pick the engine by name."""

from __future__ import annotations

import shutil

import torch

from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.config import Precision
from aspc_fast.engine.base import Engine
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.replay import Replay
from aspc_fast.engine.split import SplitEngine
from aspc_fast.errors import UserError

ENGINES = ("auto", "eager", "compiled", "fused")
MEASURED = "measured"  # what auto stands for on CUDA: see engine/trial.py
WORTH_MEASURING = 1_000_000  # run-updates: below that, on a GPU, compiling several engines takes longer than it saves
WORTH_COMPILING = 30_000  # run-updates: below that, on a CPU, compiling (55 s on 2 cores) takes longer than it saves


def resolve_engine(name: str, device: str, updates: int) -> str:
    """The name once ``auto`` is resolved for so many run-updates (steps times runs); UserError for an unknown name.

    auto: on CUDA MEASURED for much work, else compiled; on the CPU compiled for much work where a C++ compiler is at
    hand, else eager.
    """
    if name not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    if name != "auto":
        return name
    if device.startswith("cuda"):
        return MEASURED if updates >= WORTH_MEASURING else "compiled"
    return "compiled" if updates >= WORTH_COMPILING and any(map(shutil.which, ("g++", "clang++"))) else "eager"


def make_engine(
    name: str, spec: Spec, state: AgentState, hyper: Hyper, replay: Replay | None = None, precision: Precision = "tf32"
) -> Engine:
    """The engine called ``name`` (MEASURED or one of ENGINES but auto); on a CPU eager and compiled take a population
    run by run.

    precision: of matrix products on CUDA, for float32 state: tf32, fp32 (IEEE), or bf16 (fused only).
    """
    if state.rho.is_cuda:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    if name == MEASURED:
        from aspc_fast.engine.trial import make_measured

        if not state.rho.is_cuda or replay is None:
            raise UserError(f"engine {MEASURED} needs a CUDA device and data, got {state.rho.device}")
        return make_measured(spec, state, hyper, replay, precision)
    if name == "fused":
        from aspc_fast.engine.fused import FusedEngine

        return FusedEngine(spec, state, hyper, replay, precision=precision)
    if precision == "bf16":
        raise UserError(f"precision bf16 is for engine fused, not {name}")
    make = {"eager": EagerEngine, "compiled": CompiledEngine}[name]
    if state.rho.is_cuda:
        return make(spec, state, hyper, replay)
    # Adam's first moments of units that went silent decay into denormal numbers (11 % of an actor's after 20,000
    # steps), which the CPU handles in microcode: 84 -> 102 updates/s when they count as zero
    torch.set_flush_denormal(True)
    return SplitEngine(make, spec, state, hyper, replay) if len(state.rho) > 1 else make(spec, state, hyper, replay)
