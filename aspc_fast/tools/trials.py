"""What a trial of engines found, for people: `aspc-fast bench` makes one, `aspc-fast doctor` shows those remembered."""

from __future__ import annotations

from rich.table import Table

from aspc_fast.config import AgentConfig
from aspc_fast.engine.base import Learners
from aspc_fast.engine.trial import find_on_gpu
from aspc_fast.engine.trial_memory import Found, Outcome
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.tools.bench import synthetic_data


def find_for_bench(runs: int, device: str, obs_dim: int, act_dim: int) -> Found:
    """The trial for so many runs of ASPC on a CUDA device, remembered or made now."""
    data = synthetic_data(100_000, obs_dim, act_dim)
    made = build_population([data], [RunSpec(0, AgentConfig(), i) for i in range(runs)], device=device)
    replay = made.engine.replay  # type: ignore[attr-defined]
    return find_on_gpu(Learners(made.spec, made.state, made.engine.hyper, replay), "tf32")[0]


def size_of(found: Found) -> str:
    """What the trial was made for."""
    names = ("runs", "obs_dim", "act_dim", "precision")
    runs, obs_dim, act_dim, precision = (found.key.get(name, "?") for name in names)
    return f"up to {runs} runs, {obs_dim}/{act_dim}, {precision}"


def told_of(outcome: Outcome) -> str:
    """One candidate in one line."""
    if outcome.verdict == "right":
        speed = f"{outcome.microseconds:,.1f} us per update of all runs" if outcome.microseconds is not None else ""
        return f"right ({outcome.error:.2g} x PyTorch's error), {speed}" if outcome.error is not None else speed
    return f"{outcome.verdict}: {outcome.reason}"


def table_of(found: Found) -> Table:
    """All candidates."""
    table = Table(title=f"engines for {size_of(found)} on {found.key.get('gpu', '?')}: {found.chosen} is taken")
    table.add_column("candidate")
    table.add_column("verdict")
    table.add_column("x PyTorch's error", justify="right")
    table.add_column("us per update", justify="right")
    for outcome in found.outcomes:
        table.add_row(
            outcome.name,
            outcome.verdict + (f": {outcome.reason}" if outcome.reason else ""),
            "" if outcome.error is None else f"{outcome.error:.2g}",
            "" if outcome.microseconds is None else f"{outcome.microseconds:,.1f}",
        )
    return table
