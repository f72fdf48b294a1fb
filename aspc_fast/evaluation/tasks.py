"""Which simulator task stands for a dataset, and how its returns compare with D4RL's."""

from __future__ import annotations

from dataclasses import dataclass

from aspc_fast.environments import Measure, find_environment
from aspc_fast.errors import UserError
from aspc_fast.evaluation.calibration import uncalibrated
from aspc_fast.evaluation.simulators import EnvpoolSimulator, Simulator, name_and_version, require

FRAMES = ("simulator", "d4rl")

_COMPARABLE = {
    "MuJoCo": "close to D4RL's numbers, not identical: {env} in {engine}, where D4RL ran -v2 on an older MuJoCo",
    "Adroit": "comparable with D4RL's numbers: D4RL's reward, horizon and episode ends, in {engine}'s newer MuJoCo",
    "Maze2d": "comparable with D4RL's numbers: D4RL's target, radius, reward and horizon; ball and start states are "
    "{env}'s ({engine}), where random actions score about 2, in D4RL 0",
    "Kitchen": "close to D4RL's numbers, unverified: D4RL's observations, noise, rewards, horizon and end rebuilt on "
    "{engine}'s newer MuJoCo, never replayed against D4RL's own files",
    "OGBench": "comparable with OGBench's numbers: success rate of {env} in {engine}",
}
_RETURN = "not comparable with scores: the return itself, as no references are known for {env} ({engine})"
_ANT = {
    "simulator": "not comparable with D4RL's numbers: D4RL's goal, reward and horizon, but the ant of {env} ({engine}) "
    "has 5 times the torque and half the time step of D4RL's",
    "d4rl": "close to D4RL's numbers, unverified: D4RL's layout, ant, goal, reward and horizon rebuilt on {env} "
    "({engine}) with a newer MuJoCo, never replayed against D4RL's own files",
}


@dataclass(frozen=True)
class Task:
    """A simulator task with D4RL's rules: what to open, not an open simulator (that costs memory and has seeds).

    ``max_action``: the actions' bound; ``measure``: what a score of this task means (``environments.Measure``).
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
    max_action: float = 1.0
    measure: Measure = "score"

    def open(self, seeds: list[int], threads: int | None = None) -> Simulator:
        """len(seeds) environments, one seed in [0, 2**31) each; ``threads``: envpool's (default: all cores)."""
        if self.env.startswith("AntMaze"):
            from aspc_fast.evaluation.antmaze import AntMazeSimulator

            return AntMazeSimulator(self.env, self.horizon, self.frame, seeds)
        if self.env.startswith("FrankaKitchen"):
            from aspc_fast.evaluation.kitchen import KitchenSimulator

            return KitchenSimulator(self.env, self.horizon, seeds, threads)
        if self.measure == "success rate":
            from aspc_fast.evaluation.ogbench import OGBenchSimulator

            return OGBenchSimulator(self.env, seeds)
        return EnvpoolSimulator(self.env, self.horizon, self.frame, seeds, threads)


def make_task(name: str, frame: str = "simulator") -> Task:
    """The task of a dataset id ("hopper-medium-v2") or of an environment ("Hopper-v4"); see ``environments``.

    Raises UserError for an unknown name or frame, or if the simulator's package is missing.
    """
    if frame not in FRAMES:
        raise UserError(f"unknown frame {frame!r}: it is one of {', '.join(FRAMES)}")
    known = find_environment(name)
    engine = name_and_version(known.engine)
    if known.domain == "AntMaze":
        require("gymnasium")
    if known.domain == "OGBench":
        from aspc_fast.evaluation.ogbench import described

        known = described(known)
    assert known.horizon is not None and known.obs_dim is not None and known.act_dim is not None
    if known.measure == "return":
        note = _RETURN
    else:
        note = _ANT[frame] if known.domain == "AntMaze" else _COMPARABLE[known.domain]
    return Task(
        env=known.env,
        obs_dim=known.obs_dim,
        act_dim=known.act_dim,
        horizon=known.horizon,
        ref_min=known.ref_min,
        ref_max=known.ref_max,
        engine=engine,
        frame=frame,
        comparable=note.format(env=known.env, engine=engine) + uncalibrated(known.engine),
        max_action=known.max_action,
        measure=known.measure,
    )
