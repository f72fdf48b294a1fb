"""A task small enough to know the answer: push a point in a square to its middle, in steps of at most 0.25.

Observation: position [2] in +-1. Action: push [2] in +-1. Reward: minus the distance to the middle after the step. The
best policy pushes each coordinate home as fast as it can. The data are of someone who pushes mostly at random.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EPISODE, STEP = 20, 0.25
Policy = Callable[[np.ndarray], np.ndarray]  # positions [n, 2] -> pushes [n, 2]


def move(positions: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Next positions [n, 2] and rewards [n]."""
    positions = np.clip(positions + STEP * np.clip(actions, -1, 1), -1, 1)
    return positions, -np.linalg.norm(positions, axis=1)


def best(positions: np.ndarray) -> np.ndarray:
    """The optimum: home, and no further."""
    return np.clip(-positions / STEP, -1, 1)


def collect(rows: int = 4000, seed: int = 0) -> dict[str, np.ndarray]:
    """A log as yours may be: episodes of 20 rows, one after the other; the clock ends them, so no state is terminal."""
    rng = np.random.default_rng(seed)
    observations, actions, rewards = [], [], []
    for _ in range(rows // EPISODE):
        position = rng.uniform(-1, 1, (1, 2))
        for _ in range(EPISODE):
            action = np.clip(rng.normal(-0.3 * position, 0.6), -1, 1)
            after, reward = move(position, action)
            observations.append(position[0])
            actions.append(action[0])
            rewards.append(reward[0])
            position = after
    ends = np.arange(len(rewards)) % EPISODE == EPISODE - 1
    return {
        "observations": np.array(observations),
        "actions": np.array(actions),
        "rewards": np.array(rewards),
        "terminals": np.zeros(len(ends), bool),
        "timeouts": ends,
    }


def play(policy: Policy, episodes: int = 200, seed: int = 1) -> float:
    """Mean return of ``episodes`` episodes from fresh start positions."""
    positions, total = np.random.default_rng(seed).uniform(-1, 1, (episodes, 2)), np.zeros(episodes)
    for _ in range(EPISODE):
        positions, rewards = move(positions, policy(positions))
        total += rewards
    return float(total.mean())
