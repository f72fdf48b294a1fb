"""OGBench's single tasks through gymnasium: success is the reward, so a mean return is the success rate.

The package draws start states and teleports from numpy's global generator, and leaves a temporary file and an open
file descriptor behind for each maze. Here every environment has a generator of its own, and nothing is left.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from aspc_fast.environments import Environment
from aspc_fast.errors import UserError
from aspc_fast.evaluation.simulators import require


@lru_cache(maxsize=64)
def described(known: Environment) -> Environment:
    """``known`` with horizon, dimensions and the actions' bound, read from one environment of the package.

    UserError if the package is missing, has no such task, or the task has pixels or discrete actions.
    """
    env = _make(known.env)
    try:
        observations, actions = env.observation_space, env.action_space
        if len(observations.shape or ()) != 1 or len(getattr(actions, "high", np.zeros((1, 1))).shape) != 1:
            raise UserError(
                f"{known.env}: observations of shape {observations.shape} and actions {actions} cannot be evaluated, "
                "only vectors of states and actions"
            )
        high = np.unique(actions.high)
        if len(high) != 1 or not np.array_equal(actions.low, -actions.high):
            raise UserError(f"{known.env}: actions {actions} have no single bound")
        size = {"obs_dim": int(observations.shape[0]), "act_dim": int(actions.shape[0])}
        facts = {"horizon": int(env.spec.max_episode_steps), "max_action": float(high[0]), **size}
        return Environment(**{**vars(known), **facts})
    finally:
        env.close()


class OGBenchSimulator:
    """n environments of a single task; ``seeds`` as for EnvpoolSimulator. Mazes make 1,500 to 10,000 steps a second.

    An environment whose episode has ended stands still: stepping it would cost time, and some then return a reset.
    """

    def __init__(self, env: str, seeds: list[int]) -> None:
        self._seeds = seeds
        self._envs = [_make(env) for _ in seeds]
        self._random = [np.random.RandomState(seed) for seed in seeds]
        self._ended = np.zeros(len(seeds), dtype=bool)
        self._last = np.zeros(0)

    def reset(self) -> np.ndarray:
        """First observations, float64 [n, obs_dim]."""
        first = []
        for env, seed, random in zip(self._envs, self._seeds, self._random, strict=True):
            env.action_space.seed(seed)
            with _global_generator(random):
                first.append(env.reset(seed=seed)[0])
        self._last = np.array(first, dtype=np.float64)
        return self._last.copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of every running environment: next observations, success (0 or 1), whether the goal ended it."""
        successes = np.zeros(len(self._envs))
        for i, (env, random) in enumerate(zip(self._envs, self._random, strict=True)):
            if self._ended[i]:
                continue
            with _global_generator(random):
                self._last[i], _, terminated, truncated, info = env.step(actions[i].astype(np.float32))
            successes[i] = float(info["success"])
            self._ended[i] = terminated or truncated or successes[i] > 0
        return self._last.copy(), successes, successes > 0

    def close(self) -> None:
        """Frees the environments."""
        for env in self._envs:
            env.close()


def _make(env: str) -> Any:
    require("ogbench")
    if env.startswith(("visual-", "powderworld-")):
        raise UserError(f"{env}: its observations are pixels, and only vectors of states can be evaluated")
    gymnasium = importlib.import_module("gymnasium")
    if env not in gymnasium.registry:
        raise UserError(f"{env}: the package ogbench has no such task")
    # manipulation makes its action space anew, with this warning, each time anyone asks for it
    warnings.filterwarnings("ignore", message=".*precision lowered by casting", category=UserWarning)
    with _tidy_mazes(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on displays
        return gymnasium.make(env, disable_env_checker=True)


@contextlib.contextmanager
def _tidy_mazes() -> Iterator[None]:
    """Close and remove the temporary files that ogbench makes while it builds a maze."""
    module: Any = importlib.import_module("ogbench.locomaze.maze")
    made: list[Path] = []

    def mkstemp(**options: Any) -> tuple[int, str]:
        handle, name = tempfile.mkstemp(**options)
        os.close(handle)
        made.append(Path(name))
        return handle, name

    module.tempfile, before = SimpleNamespace(mkstemp=mkstemp), module.tempfile
    try:
        yield
    finally:
        module.tempfile = before
        for path in made:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _global_generator(random: np.random.RandomState) -> Iterator[None]:
    """numpy's global generator stands for ``random``, and is afterwards what it was."""
    before = np.random.get_state()
    np.random.set_state(random.get_state())
    try:
        yield
    finally:
        random.set_state(np.random.get_state())
        np.random.set_state(before)
