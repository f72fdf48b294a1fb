"""Pick the engine by name."""

from __future__ import annotations

from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.data.replay import Replay
from aspc_fast.engine.base import Engine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.errors import UserError

ENGINES = ("auto", "eager")


def make_engine(name: str, spec: Spec, state: AgentState, hyper: Hyper, replay: Replay | None = None) -> Engine:
    """The engine called ``name``; ``auto`` is the fastest that works here. UserError for an unknown name."""
    if name not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    return EagerEngine(spec, state, hyper, replay)
