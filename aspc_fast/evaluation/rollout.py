"""One episode per environment, all environments in lockstep."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.evaluation.tasks import Task

Policy = Callable[[np.ndarray], Any]
"""Raw observations, float32 [n, obs_dim], to actions [n, act_dim] (numpy or torch); clipped to the task's bound."""

EPISODES_PER_SEED = 4096
"""Distance between the simulator seeds of neighbouring evaluation seeds: below it no start state is shared."""
_SEED_LIMIT = 2**31


@dataclass(frozen=True)
class Episodes:
    """``returns`` float64 [n] (undiscounted; NaN where a policy failed) and ``lengths`` int64 [n] in steps."""

    returns: np.ndarray
    lengths: np.ndarray


def episode_seeds(seed: int, n: int, *, first: int = 0, episodes_per_run: int | None = None) -> list[int]:
    """Simulator seeds of slots first .. first + n - 1, each an int in [0, 2**31).

    Slot i of a run gets seed * 4096 + i, so seeds 0 to 2**19 - 1 share no start state; larger seeds wrap around. With
    ``episodes_per_run`` slot i holds episode i % episodes_per_run, so every run in a batch meets the same start states
    as it would alone. Raises UserError for more than 4096 episodes or a negative seed.
    """
    if seed < 0:
        raise UserError(f"seed {seed} is negative: evaluation seeds are 0 or more")
    per_run = episodes_per_run or first + n
    if per_run > EPISODES_PER_SEED:
        raise UserError(f"{per_run} episodes of one seed: at most {EPISODES_PER_SEED}, or seeds would overlap")
    return [(seed * EPISODES_PER_SEED + i % per_run) % _SEED_LIMIT for i in range(first, first + n)]


def rollout(
    policy: Policy,
    task: Task,
    n: int,
    seed: int,
    *,
    first: int = 0,
    episodes_per_run: int | None = None,
    strict: bool = True,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Episodes:
    """The first episode of each of ``n`` environments: exactly n episodes, no bias towards short ones.

    The policy is called with all n observations at every step, always in the same order, so a batched policy may map
    row i to run i // ``episodes_per_run``; rows of ended episodes hold finite numbers and their actions are ignored.
    ``first`` is the index of the first slot, for callers that cut a long evaluation into pieces. ``strict``: a NaN or
    infinite action of a running episode raises UserError; otherwise that episode ends with return NaN and the others
    go on. ``progress`` receives the fraction done, rising to 1. Deterministic given ``seed`` and a row-wise policy.
    Raises UserError for actions of the wrong shape.
    """
    returns = np.zeros(n)
    lengths = np.zeros(n, dtype=np.int64)
    running = np.ones(n, dtype=bool)
    seeds = episode_seeds(seed, n, first=first, episodes_per_run=episodes_per_run)
    with closing(task.open(seeds, threads)) as simulator:
        observations = simulator.reset()
        for step in range(task.horizon):
            actions = _actions(policy(observations.astype(np.float32)), n, task)
            failed = running & ~np.isfinite(actions).all(axis=1)
            if failed.any():
                if strict:
                    raise UserError(
                        f"the policy returned NaN or infinite actions in {failed.sum()} of {n} episodes at step {step} "
                        f"of {task.env}: training has probably diverged, evaluate an earlier checkpoint"
                    )
                returns[failed] = np.nan
                running &= ~failed
            actions = np.clip(np.nan_to_num(actions, nan=0.0), -task.max_action, task.max_action)
            observations, rewards, terminals = simulator.step(actions)
            returns[running] += rewards[running]
            lengths[running] += 1
            running &= ~terminals
            if progress is not None:
                progress((step + 1) / task.horizon if running.any() else 1.0)
            if not running.any():
                break
    return Episodes(returns, lengths)


def _actions(returned: Any, n: int, task: Task) -> np.ndarray:
    """What a policy returned as float64 [n, act_dim]; UserError if its shape is wrong."""
    if hasattr(returned, "detach"):
        returned = returned.detach().cpu().double().numpy()
    actions = np.asarray(returned, dtype=np.float64)
    if actions.shape != (n, task.act_dim):
        raise UserError(
            f"the policy returned actions of shape {actions.shape} for {task.env}, which needs {(n, task.act_dim)}"
        )
    return actions
