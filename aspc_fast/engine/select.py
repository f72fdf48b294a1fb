"""Pick the engine by name."""

from __future__ import annotations

import shutil

import torch

from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.data.replay import Replay
from aspc_fast.engine.base import Engine
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.split import SplitEngine
from aspc_fast.errors import UserError

ENGINES = ("auto", "eager", "compiled")
WORTH_COMPILING = 40_000  # training steps: below that, on a CPU, compiling takes longer than it saves


def resolve_engine(name: str, device: str, steps: int) -> str:
    """The name once ``auto`` is resolved for a run of so many ``steps``; UserError for an unknown name.

    auto: compiled on CUDA; on the CPU compiled for long runs where a C++ compiler is at hand, else eager.
    """
    if name not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    if name != "auto":
        return name
    if device.startswith("cuda"):
        return "compiled"
    return "compiled" if steps >= WORTH_COMPILING and any(map(shutil.which, ("g++", "clang++"))) else "eager"


def make_engine(name: str, spec: Spec, state: AgentState, hyper: Hyper, replay: Replay | None = None) -> Engine:
    """The engine called ``name`` (one of ENGINES but auto); on a CPU it takes a population run by run."""
    if state.rho.device.type == "cpu":
        # Adam's first moments of units that went silent decay into denormal numbers (11 % of an actor's after 20,000
        # steps), which the CPU handles in microcode: 84 -> 102 updates/s when they count as zero
        torch.set_flush_denormal(True)
    make = {"eager": EagerEngine, "compiled": CompiledEngine}[name]
    if len(state.rho) > 1 and state.rho.device.type == "cpu":
        return SplitEngine(make, spec, state, hyper, replay)
    return make(spec, state, hyper, replay)
