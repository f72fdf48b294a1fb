"""D4RL's rewards and episode ends, computed from what today's simulators return."""

from __future__ import annotations

import numpy as np

from aspc_fast.mazes import MAZES, TARGET_RADIUS

PEN = "AdroitHandPen-v1"
PEN_HEIGHT, PEN_DROPPED = 26, 0.075
"""Entry of the pen's height in an observation, and the height in metres below which D4RL ends the episode."""


def palm_object_distance(env: str, observations: np.ndarray) -> np.ndarray:
    """Distance between palm and handle, hammer or ball in metres, [n], read from raw observations [n, obs_dim]."""
    if env == "AdroitHandDoor-v1":
        offset = observations[:, 35:38]
    elif env == "AdroitHandHammer-v1":
        offset = observations[:, 33:36] - observations[:, 36:39]
    else:
        offset = observations[:, 30:33]
    return np.linalg.norm(offset, axis=1)


def d4rl_rewards(env: str, next_observations: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """D4RL's rewards [n] float64 for the step that led to ``next_observations`` (raw, simulator's frame).

    Door, hammer and relocate: today's reward adds 0.1 * distance where D4RL's subtracts it. Maze2d: D4RL pays 1 inside
    the radius of one fixed target, judged where the step ended; the simulator's goal is a random one.
    """
    if env in ("AdroitHandDoor-v1", "AdroitHandHammer-v1", "AdroitHandRelocate-v1"):
        return rewards - 0.2 * palm_object_distance(env, next_observations)
    if env.startswith("PointMaze"):
        distance = np.linalg.norm(next_observations[:, :2] - MAZES[env].target, axis=1)
        return (distance <= TARGET_RADIUS).astype(np.float64)
    return np.asarray(rewards, dtype=np.float64)


def d4rl_terminals(env: str, next_observations: np.ndarray, terminals: np.ndarray) -> np.ndarray:
    """D4RL's true terminations [n] bool: the pen's episode ends when it falls, which today's simulator ignores."""
    if env == PEN:
        return terminals | (next_observations[:, PEN_HEIGHT] < PEN_DROPPED)
    return terminals
