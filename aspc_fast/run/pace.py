"""How fast things go, from measured rates: what a plan says of evaluation beside training."""

from __future__ import annotations

from aspc_fast import suite

SIMULATOR_STEPS = {"MuJoCo": 9500.0, "Adroit": 2100.0, "Maze2d": 10_000.0, "AntMaze": 2800.0}
"""Steps per second and core, policies included, by domain; measured on a 2-core x86 machine (docs/benchmarks.md)."""


def simulator_steps_per_second(task: str) -> float:
    """Steps per second and core of a dataset id or environment of the suite; UserError for an unknown one."""
    return SIMULATOR_STEPS[(suite.for_env(task) or suite.find(task)).domain]
