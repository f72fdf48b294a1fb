"""Vectorised simulators behind one small interface, and what to say when their packages are missing."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import os
import warnings
from types import ModuleType
from typing import Protocol

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.evaluation.corrections import d4rl_rewards, d4rl_terminals
from aspc_fast.mazes import MAZES, point_actions_to_simulator, point_observations_to_d4rl


class Simulator(Protocol):
    """n environments that step together; row i is environment i in every array.

    A row whose episode has ended goes on returning finite numbers of no meaning.
    """

    def reset(self) -> np.ndarray:
        """First observations, float64 [n, obs_dim]. Called once."""

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Actions [n, act_dim] within bounds to next observations [n, obs_dim], rewards [n], terminals [n] bool."""

    def close(self) -> None:
        """Frees the environments."""


def require(package: str) -> ModuleType:
    """Imports a simulator's package; UserError with the command that installs it if it is missing."""
    try:
        # gymnasium-robotics prints advice about tasks that are not ours on every import
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise UserError(
            f"evaluation needs the package {package}, which cannot be imported ({error}): "
            f"run  pip install 'aspc_fast[{'ogbench' if package == 'ogbench' else 'eval'}]'"
        ) from error


def name_and_version(package: str) -> str:
    """For example "envpool 1.2.5"; UserError if the package is missing."""
    require(package)
    return f"{package} {importlib.metadata.version(package)}"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class EnvpoolSimulator:
    """MuJoCo, Adroit and Maze2d tasks in envpool, with D4RL's rewards and episode ends.

    ``seeds``: one non-negative int below 2**31 per environment. envpool cannot be seeded again, so a pool serves one
    set of episodes; building it costs 2 to 50 ms per environment. After an episode envpool resets by itself: those
    steps belong to no episode and the caller ignores the row.
    """

    def __init__(self, env: str, horizon: int, frame: str, seeds: list[int], threads: int | None = None) -> None:
        envpool = require("envpool")
        self._env = env
        self._turned = frame == "d4rl" and env.startswith("PointMaze")
        self._pool = envpool.make_gymnasium(
            env,
            num_envs=len(seeds),
            env_seed=list(seeds),
            max_episode_steps=horizon,
            num_threads=threads or min(cores(), len(seeds)),
        )
        self._action_dtype = self._pool.action_space.dtype

    def reset(self) -> np.ndarray:
        """First observations, float64 [n, obs_dim]."""
        return self._shown(_raw(self._pool.reset()[0]))

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of every environment: next observations, D4RL's rewards, D4RL's terminals."""
        if self._turned:
            actions = point_actions_to_simulator(actions)
        observations, rewards, terminals, _, _ = self._pool.step(actions.astype(self._action_dtype))
        raw = _raw(observations)
        rewards = d4rl_rewards(self._env, raw, np.asarray(rewards, dtype=np.float64))
        return self._shown(raw), rewards, d4rl_terminals(self._env, raw, np.asarray(terminals, dtype=bool))

    def close(self) -> None:
        """Frees the pool."""
        self._pool.close()

    def _shown(self, raw: np.ndarray) -> np.ndarray:
        return point_observations_to_d4rl(raw, MAZES[self._env]) if self._turned else raw


def _raw(observations: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
    """The state vector: goal tasks return a dict whose `observation` entry it is."""
    state = observations["observation"] if isinstance(observations, dict) else observations
    return np.asarray(state, dtype=np.float64)
