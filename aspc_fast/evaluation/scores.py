"""`evaluate`: a policy's normalised score with what it was measured in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.evaluation.rollout import Policy, rollout
from aspc_fast.evaluation.tasks import Task, make_task


@dataclass(frozen=True)
class Evaluation:
    """Result of E episodes.

    ``returns`` float64 [E], undiscounted; ``lengths`` int64 [E] in steps; ``normalised_scores`` float64 [E], D4RL's
    100 * (return - ref_min) / (ref_max - ref_min); ``score`` and ``score_std`` their mean and standard deviation
    (divisor E). ``env`` and ``engine`` name the simulator task and package version, ``frame`` the coordinates the
    policy acted in, ``comparable`` how the score compares with D4RL's numbers, ``dataset`` what the caller asked for,
    ``measure`` what a score means here: "score", "success rate" (per cent) or "return".
    """

    returns: np.ndarray
    lengths: np.ndarray
    normalised_scores: np.ndarray
    score: float
    score_std: float
    dataset: str
    env: str
    engine: str
    frame: str
    comparable: str
    seed: int
    measure: str = "score"

    def to_json(self) -> dict[str, Any]:
        """All fields as plain lists, numbers and strings, ready for json.dumps."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}


def normalised_scores(returns: np.ndarray, task: Task) -> np.ndarray:
    """Scores of ``returns``, float64 of the same shape: D4RL's (0 is its random policy, 100 its expert), or OGBench's
    success rate in per cent; returns themselves where no references are known (``Task.measure`` tells)."""
    if task.measure == "return":
        return np.asarray(returns, dtype=np.float64)
    return 100.0 * (returns - task.ref_min) / (task.ref_max - task.ref_min)


def evaluate(
    policy: Policy,
    dataset_id: str,
    episodes: int = 10,
    seed: int = 0,
    *,
    frame: str = "simulator",
    max_envs: int = 256,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Scores ``policy`` (raw observations float32 [n, obs_dim] -> actions [n, act_dim]) in D4RL's task.

    Exactly ``episodes`` episodes, deterministic given ``seed``; different seeds share no start state.

    Args:
        policy: maps raw observations to actions.
        dataset_id: one of the suite's ids, or an environment such as "Hopper-v4" or "cube-single-singletask-v0".
        episodes: how many; episode i is the first of environment i.
        seed: of the start states.
        frame: "d4rl" for a maze policy trained on D4RL's own files, "simulator" for one trained on Minari's or on files
            collected here.
        max_envs: how many step together, which changes nothing for a policy that treats rows alike.
        threads: envpool's (default: all cores).
        progress: receives the fraction done, rising to 1.

    Raises:
        UserError: an unknown name or frame, fewer than one episode or more than 4096, a missing simulator, actions that
            have the wrong shape or are not finite.
    """
    if episodes < 1 or max_envs < 1:
        raise UserError(f"episodes ({episodes}) and max_envs ({max_envs}) must be at least 1")
    task = make_task(dataset_id, frame)
    pieces = []
    for first in range(0, episodes, max_envs):
        n = min(max_envs, episodes - first)
        report = None
        if progress is not None:

            def report(part: float, first: int = first, n: int = n) -> None:
                progress((first + part * n) / episodes)

        pieces.append(
            rollout(policy, task, n, seed, first=first, episodes_per_run=episodes, threads=threads, progress=report)
        )
    returns = np.concatenate([piece.returns for piece in pieces])
    scores = normalised_scores(returns, task)
    return Evaluation(
        returns=returns,
        lengths=np.concatenate([piece.lengths for piece in pieces]),
        normalised_scores=scores,
        score=float(scores.mean()),
        score_std=float(scores.std()),
        dataset=dataset_id,
        env=task.env,
        engine=task.engine,
        frame=frame,
        comparable=task.comparable,
        seed=seed,
        measure=task.measure,
    )
