"""Which simulator task stands for a dataset, and how its returns compare with D4RL's."""

from __future__ import annotations

from dataclasses import dataclass

from aspc_fast import suite
from aspc_fast.errors import UserError
from aspc_fast.evaluation.simulators import EnvpoolSimulator, Simulator, name_and_version, require

FRAMES = ("simulator", "d4rl")

_COMPARABLE = {
    "MuJoCo": "close to D4RL's numbers, not identical: {env} in {engine}, where D4RL ran -v2 on an older MuJoCo",
    "Adroit": "comparable with D4RL's numbers: D4RL's reward, horizon and episode ends, in {engine}'s newer MuJoCo",
    "Maze2d": "comparable with D4RL's numbers: D4RL's target, radius, reward and horizon; ball and start states are "
    "{env}'s ({engine}), where random actions score about 2, in D4RL 0",
}
_ANT = {
    "simulator": "not comparable with D4RL's numbers: D4RL's goal, reward and horizon, but the ant of {env} ({engine}) "
    "has 5 times the torque and half the time step of D4RL's",
    "d4rl": "close to D4RL's numbers, unverified: D4RL's layout, ant, goal, reward and horizon rebuilt on {env} "
    "({engine}) with a newer MuJoCo, never replayed against D4RL's own files",
}


@dataclass(frozen=True)
class Task:
    """A simulator task with D4RL's rules: what to open, not an open simulator (that costs memory and has seeds).

    ``frame``: whose coordinates policies see and act in (only maze tasks differ). ``horizon``: D4RL's limit in steps.
    ``engine``: package and version. ``comparable``: one sentence on how returns compare with D4RL's numbers.
    """

    env: str
    obs_dim: int
    act_dim: int
    horizon: int
    ref_min: float
    ref_max: float
    engine: str
    frame: str
    comparable: str

    def open(self, seeds: list[int], threads: int | None = None) -> Simulator:
        """len(seeds) environments, one seed in [0, 2**31) each; ``threads``: envpool's (default: all cores)."""
        if self.env.startswith("AntMaze"):
            from aspc_fast.evaluation.antmaze import AntMazeSimulator

            return AntMazeSimulator(self.env, self.horizon, self.frame, seeds)
        return EnvpoolSimulator(self.env, self.horizon, self.frame, seeds, threads)


def make_task(name: str, frame: str = "simulator") -> Task:
    """The task of a dataset id ("hopper-medium-v2") or of an environment of the suite ("Hopper-v4").

    Raises UserError for an unknown name or frame, or if the simulator's package is missing.
    """
    if frame not in FRAMES:
        raise UserError(f"unknown frame {frame!r}: it is one of {', '.join(FRAMES)}")
    row = suite.for_env(name) or suite.find(name)
    engine = name_and_version(row.engine)
    if row.domain == "AntMaze":
        require("gymnasium")
    note = _ANT[frame] if row.domain == "AntMaze" else _COMPARABLE[row.domain]
    return Task(
        env=row.env,
        obs_dim=row.obs_dim,
        act_dim=row.act_dim,
        horizon=row.horizon,
        ref_min=row.ref_min,
        ref_max=row.ref_max,
        engine=engine,
        frame=frame,
        comparable=note.format(env=row.env, engine=engine),
    )
