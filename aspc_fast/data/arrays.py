"""Raw arrays with D4RL's names -> ``Transitions``, by D4RL's rules.

The rules are those of D4RL's ``qlearning_dataset``: a row whose time-out flag is set is dropped, even if it is
terminal too; ``terminals`` is kept as d; without ``next_observations`` the next row is s' and the last row is dropped;
without ``timeouts`` the task's horizon cuts episodes, its last row counting as a time-out. (D4RL's own step counter
starts at 1 instead of 0 after a terminal row and so cuts the following episode one row early; here it does not.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from aspc_fast.data import checks, ogbench
from aspc_fast.data.tasks import Task, guess_task, known_task
from aspc_fast.data.transitions import Transitions
from aspc_fast.errors import UserError
from aspc_fast.mazes import frame_of


def build(
    fields: Mapping[str, np.ndarray],
    *,
    source: str,
    task: Task,
    max_action: float = 1.0,
    frame: str | None = None,
    attributes: Mapping[str, str] | None = None,
) -> Transitions:
    """Validate raw arrays and cut them into transitions.

    fields: ``observations`` [N, O], ``actions`` [N, A], ``rewards`` and ``terminals`` [N] or [N, 1], and optionally
    ``next_observations`` [N, O] and ``timeouts``; real dtypes, flags as bool or 0/1. Other names are ignored, except
    OGBench's ``masks`` and ``valids``, which turn the meaning of ``terminals`` (``ogbench``); a note then says so.
    frame: "simulator" or "d4rl" if known, else told from a maze's positions.
    Raises UserError (one sentence: source, field, value) for anything that is not such a dataset.
    """
    raw = {name: np.asarray(fields[name]) for name in checks.FIELDS if name in fields}
    checks.check_declared(source, {name: (array.shape, array.dtype) for name, array in raw.items()})
    observations = checks.as_floats(source, "observations", raw["observations"])
    task = task.matched(source, observations.shape[1], raw["actions"].shape[1])
    actions = checks.as_actions(source, raw["actions"], checks.check_max_action(source, max_action))
    rewards = checks.as_floats(source, "rewards", raw["rewards"].reshape(len(observations)))
    attributes = dict(attributes or {})
    if "next_observations" in raw:
        successors = checks.as_floats(source, "next_observations", raw["next_observations"])
    else:
        successors = np.roll(observations, -1, axis=0)
    if ogbench.is_ogbench(source, raw):
        rows = ogbench.rows(source, raw)
        terminals, keep, timeout_count = rows.terminals, rows.keep, rows.timeouts
        attributes["notes"] = "; ".join(filter(None, [attributes.get("notes"), rows.note]))
        returns, lengths = episode_statistics(rewards[keep], rows.ends[keep])
    else:
        terminals = checks.as_flags(source, "terminals", raw["terminals"])
        if "timeouts" in raw:
            timeouts = checks.as_flags(source, "timeouts", raw["timeouts"])
        else:
            timeouts = horizon_cuts(terminals, task.horizon)
        keep, timeout_count = ~timeouts, int(timeouts.sum())
        if "next_observations" not in raw:
            keep[-1] = False
        returns, lengths = episode_statistics(rewards, terminals | timeouts)
    if not keep.any():
        raise UserError(
            f"{source}: no transitions are left of {len(keep)} rows once time-out and last rows are dropped"
        )
    before_cut = np.flatnonzero(keep[:-1] & ~keep[1:])
    cuts = np.cumsum(keep)[before_cut] - 1, actions[before_cut + 1]
    kept = [array[keep] for array in (observations, actions, rewards, successors, terminals)]
    cuts_of_kept = kept[4] | horizon_cuts(kept[4], task.horizon or int(lengths.max()))
    return Transitions(
        observations=kept[0],
        actions=kept[1],
        rewards=kept[2],
        next_observations=kept[3],
        terminals=kept[4],
        episode_returns=returns,
        episode_lengths=lengths,
        timeout_count=timeout_count,
        return_range=float(np.ptp(episode_statistics(kept[2], cuts_of_kept)[0])),
        source=source,
        fingerprint=fingerprint(kept),
        max_action=float(max_action),
        env=task.env,
        dataset_id=task.dataset_id,
        frame=frame_of(task.env, observations, frame),
        attributes=attributes,
        cuts=cuts,
    )


def horizon_cuts(terminals: np.ndarray, horizon: int | None) -> np.ndarray:
    """Time-outs [N] of a stream that states none: every ``horizon``-th row since the last terminal row."""
    if horizon is None:
        return np.zeros_like(terminals)
    rows = np.arange(len(terminals))
    starts = np.concatenate([[True], terminals[:-1]])
    since = rows - np.maximum.accumulate(np.where(starts, rows, 0))
    return since % horizon == horizon - 1


def episode_statistics(rewards: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return and length of each whole episode: float64 [E], int64 [E].

    ends: bool [N], True on the last row of an episode. A tail that no flag ends is not a whole episode and is left
    out, unless it is all there is.
    """
    last = np.flatnonzero(ends)
    if not len(last):
        last = np.array([len(ends) - 1])
    total = np.concatenate([[0.0], np.cumsum(rewards, dtype=np.float64)])
    first = np.concatenate([[0], last[:-1] + 1])
    return total[last + 1] - total[first], (last + 1 - first).astype(np.int64)


def fingerprint(arrays: list[np.ndarray]) -> str:
    """sha256 over shapes, dtypes and bytes, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def from_arrays(
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    terminals: np.ndarray,
    *,
    timeouts: np.ndarray | None = None,
    next_observations: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    valids: np.ndarray | None = None,
    max_action: float = 1.0,
    env: str | None = None,
    name: str = "arrays",
) -> Transitions:
    """A dataset from your own numpy arrays, by the same rules and checks as a file.

    Args:
        observations: [N, O], raw.
        actions: [N, A], within +-max_action.
        rewards: [N].
        terminals: [N], bool or 0/1: 1 where the episode truly ended.
        timeouts: [N], 1 on rows that end an episode without a terminal state.
        next_observations: [N, O]; without it, s' is the next row's state.
        masks: [N], as OGBench has them: 0 where the episode truly ended, ``terminals`` then marking trajectories' ends.
        valids: [N], OGBench's compact layout: 0 on rows that are no transition.
        max_action: the actions' bound.
        env: a simulator task of the suite ("Hopper-v4") or a suite id, which gives horizon and scores; None if neither.
        name: what messages and ``source`` call the data.

    Raises:
        UserError: one sentence naming the array and the value.
    """
    given = {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": next_observations,
        "masks": masks,
        "valids": valids,
    }
    try:
        fields = {key: np.asarray(value) for key, value in given.items() if value is not None}
    except ValueError as error:
        raise UserError(f"{name}: not a regular array: {str(error).splitlines()[0]}") from None
    task = known_task(env) if env is not None else guess_task(None, "")
    return build(fields, source=name, task=task, max_action=max_action)
