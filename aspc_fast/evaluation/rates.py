"""How fast simulators run: measured rates, for plans and for cutting evaluations into jobs of like length."""

from __future__ import annotations

from aspc_fast import suite

SIMULATOR_STEPS = {"MuJoCo": 8000.0, "Adroit": 2200.0, "Maze2d": 7400.0, "AntMaze": 2500.0}
"""Steps per core-second by domain, of ten episodes with a 256-wide policy; measured on a 2-core x86 machine."""


def simulator_steps_per_second(task: str) -> float:
    """Steps per second and core of a dataset id or environment; of one outside the suite, the slowest domain's."""
    row = suite.for_env(task) or suite.BY_ID.get(task)
    return SIMULATOR_STEPS[row.domain] if row else min(SIMULATOR_STEPS.values())
