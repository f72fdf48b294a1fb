"""D4RL's kitchen on envpool's FrankaKitchen-v1: D4RL's 60 observation entries, its noise, its rewards and its end.

What differs from D4RL in today's simulator, and is put right here: observations have 59 entries with velocities and a
dictionary of goals; sensor noise is a tenth (robot) and a two-hundredth (objects) of D4RL's; tasks are judged by true
positions where D4RL judges the noisy ones it shows. What still differs: MuJoCo's version, and the amplitudes of the
objects' noise, which are those of the joint before (gymnasium-robotics' reading of the same table).

Source: D4RL, d4rl/kitchen/kitchen_envs.py and adept_envs/franka.
"""

from __future__ import annotations

import numpy as np

from aspc_fast.environments import KITCHEN, kitchen_tasks
from aspc_fast.evaluation.simulators import cores, require
from aspc_fast.kitchen import done_tasks, goal_vector, to_d4rl

NOISE = 0.1
"""D4RL's sensor noise as a share of the robot's specification."""


class KitchenSimulator:
    """n kitchens; ``seeds`` and ``threads`` as for EnvpoolSimulator. A task pays 1 when first done; all done ends."""

    def __init__(self, env: str, horizon: int, seeds: list[int], threads: int | None = None) -> None:
        self._tasks = kitchen_tasks(env)
        self._goal = goal_vector(self._tasks)
        self._open = np.ones((len(seeds), len(self._tasks)), dtype=bool)
        self._pool = require("envpool").make_gymnasium(
            KITCHEN,
            num_envs=len(seeds),
            env_seed=list(seeds),
            max_episode_steps=horizon,
            num_threads=threads or min(cores(), len(seeds)),
            robot_noise_ratio=NOISE,
            object_noise_ratio=NOISE,
            terminate_on_tasks_completed=False,
        )

    def reset(self) -> np.ndarray:
        """First observations, float64 [n, 60]."""
        return to_d4rl(self._pool.reset()[0]["observation"], self._goal)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of every kitchen: next observations, tasks done in this step, whether all are done."""
        observations = to_d4rl(self._pool.step(actions.astype(np.float64))[0]["observation"], self._goal)
        newly = self._open & done_tasks(observations, self._tasks)
        self._open &= ~newly
        return observations, newly.sum(axis=1).astype(np.float64), np.asarray(~self._open.any(axis=1))

    def close(self) -> None:
        """Frees the pool."""
        self._pool.close()
