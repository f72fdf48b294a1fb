"""D4RL's kitchen: what its observations hold and when a task is done. The kitchen's counterpart of ``mazes``.

Source: D4RL, d4rl/kitchen/kitchen_envs.py.
"""

from __future__ import annotations

import numpy as np

GOALS: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "bottom burner": ((11, 12), (-0.88, -0.01)),
    "top burner": ((15, 16), (-0.92, -0.01)),
    "light switch": ((17, 18), (-0.69, -0.05)),
    "slide cabinet": ((19,), (0.37,)),
    "hinge cabinet": ((20, 21), (0.0, 1.45)),
    "microwave": ((22,), (-0.75,)),
    "kettle": ((23, 24, 25, 26, 27, 28, 29), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
}
"""Where a task's joints stand among the 30 positions of an observation, and where they must be (D4RL's values)."""

POSITIONS = 30
DONE_WITHIN = 0.3
OBSERVATION = 59
_ROBOT, _OBJECTS = slice(0, 9), slice(18, 39)
"""Positions of the robot and of the objects among today's 59 entries; between and after them stand velocities."""


def goal_vector(tasks: tuple[str, ...]) -> np.ndarray:
    """D4RL's goal, float64 [30]: the tasks' joints where they must be, 0 elsewhere."""
    goal = np.zeros(POSITIONS)
    for task in tasks:
        where, value = GOALS[task]
        goal[list(where)] = value
    return goal


def to_d4rl(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """FrankaKitchen-v1's ``observation`` [n, 59] as D4RL's [n, 60]: 9 robot joints, 21 object joints, the goal [30]."""
    goals = np.broadcast_to(goal, (len(observation), POSITIONS))
    return np.concatenate([observation[:, _ROBOT], observation[:, _OBJECTS], goals], axis=1)


def done_tasks(observations: np.ndarray, tasks: tuple[str, ...]) -> np.ndarray:
    """Which tasks stand done in D4RL's observations [n, 60], as D4RL judges: bool [n, len(tasks)]."""
    distances = [np.linalg.norm(observations[:, list(GOALS[t][0])] - GOALS[t][1], axis=1) for t in tasks]
    return np.stack(distances, axis=1) < DONE_WITHIN
