"""Minari datasets by id, with dict observations flattened to D4RL's layout.

PointMaze: ``observation`` (x, y, vx, vy) alone; rewards are recomputed for D4RL's fixed target, because the stored ones
belong to goals that the four numbers do not show. AntMaze: ``achieved_goal`` (2) + the first 27 of ``observation`` =
D4RL's 29; AntMaze-v4 has just those 27, v5 appends 78 contact forces, and since its simulator is another one the
dataset is then marked "not comparable". AntMaze rows with a positive reward become terminal, as in D4RL's v2 files.
Kitchen: the 9 robot and 21 object positions of ``observation`` and the 30 entries of D4RL's goal vector = D4RL's 60;
the nested goals tell which tasks count. Adroit rewards stay as stored: today's simulator adds 0.1 * palm-object
distance where D4RL subtracts it.
What was changed or differs stands in the attribute ``notes``.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from aspc_fast.data import arrays, checks, minari_files
from aspc_fast.data.d4rl import one_line
from aspc_fast.data.minari_files import Episode, MinariFiles
from aspc_fast.data.tasks import Task, guess_task, known_task
from aspc_fast.data.transitions import Transitions
from aspc_fast.environments import KITCHEN, KITCHEN_TASKS, environment, kitchen
from aspc_fast.errors import UserError
from aspc_fast.kitchen import OBSERVATION, goal_vector, to_d4rl
from aspc_fast.mazes import MAZES, fixed_target_rewards
from aspc_fast.suite import SUITE

ID_FORM = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_-]*/)*[A-Za-z0-9_][A-Za-z0-9_-]*-v[0-9]+")
ANT_OBSERVATION = 27


def valid_id(dataset_id: str) -> str:
    """``dataset_id`` if it has Minari's form namespace/name-vN, else UserError."""
    if not ID_FORM.fullmatch(dataset_id):
        raise UserError(f"{dataset_id!r} is no Minari id; the form is namespace/name-v0, like D4RL/pen/human-v2")
    return dataset_id


def datasets_root() -> Path:
    """Where Minari keeps its datasets: MINARI_DATASETS_PATH or ~/.minari/datasets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def is_here(dataset_id: str) -> bool:
    """Whether Minari has the dataset on this machine; needs no Minari."""
    return bool(ID_FORM.fullmatch(dataset_id)) and (datasets_root() / dataset_id / "data").is_dir()


def import_minari() -> Any:
    """The minari module, or UserError telling how to install it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import minari
            import minari.storage.hosting
    except ImportError:
        raise UserError("Minari datasets need minari, which is missing: pip install 'aspc_fast[data]'") from None
    return minari


@contextmanager
def quiet_minari(root: Path | None = None) -> Iterator[None]:
    """Silence Minari's advice, and point it at another datasets folder for the time being."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    if root is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if root is not None:
            if before is None:
                del os.environ["MINARI_DATASETS_PATH"]
            else:
                os.environ["MINARI_DATASETS_PATH"] = before


def load_minari(dataset_id: str, *, max_action: float | None = None, env: str | None = None) -> Transitions:
    """The local Minari dataset ``dataset_id`` as Transitions; truncated rows are dropped as D4RL drops time-outs.

    max_action and env override what the dataset says. ``dataset_id`` of the result is None: a Minari dataset is a
    re-creation, never D4RL's own. Minari itself is not needed. Raises UserError if the dataset is missing, damaged or
    cannot be flattened.
    """
    valid_id(dataset_id)
    if not is_here(dataset_id):
        raise UserError(
            f"{dataset_id}: Minari has no such dataset at {datasets_root() / dataset_id}; "
            f"aspc-fast data get {dataset_id} downloads it"
        )
    found = minari_files.read(datasets_root() / dataset_id / "data")
    if not found.episodes:
        raise UserError(f"{dataset_id}: the dataset has no episodes")
    task = known_task(env) if env else _task(dataset_id, found)
    notes = [f"recorded in {found.env_id or 'an unknown environment'}"]
    if task.env != found.env_id and (task.env or "").split("-v")[0] == (found.env_id or "").split("-v")[0]:
        notes.append(f"evaluated in {task.env}, to which the reference returns belong")
    fields = _stack(dataset_id, found.episodes, notes)
    _to_d4rl(dataset_id, fields, task, notes)
    if max_action is None:
        max_action = 1.0 if found.max_action is None else checks.check_max_action(dataset_id, found.max_action)
    attributes = {key.removeprefix("aspc_"): str(value)[:10_000] for key, value in found.metadata.items()}
    attributes["notes"] = "; ".join(notes)
    return arrays.build(
        fields, source=dataset_id, task=task, max_action=max_action, frame="simulator", attributes=attributes
    )


def _task(dataset_id: str, found: MinariFiles) -> Task:
    for row in SUITE:
        if row.minari == dataset_id:
            return Task(env=row.env, guessed=True)
    if found.env_id == KITCHEN:
        return Task(env=kitchen(_kitchen_tasks(dataset_id, found.episodes[0].observations)).env)
    recorded = found.env_id
    # Hopper, Walker2d and HalfCheetah have reference returns as -v4
    if recorded and environment(recorded) is None and environment(recorded.replace("-v5", "-v4")):
        recorded = recorded.replace("-v5", "-v4")
    return Task(env=guess_task(recorded, dataset_id.rsplit("/", 1)[-1]).env, guessed=True)


def _kitchen_tasks(dataset_id: str, observations: Any) -> tuple[str, ...]:
    """The tasks of a kitchen's nested goals, as ``minari_files`` names them: "desired_goal/kettle" and so on."""
    keys = observations if isinstance(observations, dict) else {}
    tasks = tuple(task for task in KITCHEN_TASKS if f"desired_goal/{task}" in keys)
    if not tasks or "observation" not in keys:
        raise UserError(f"{dataset_id}: recorded in {KITCHEN}, but its observations hold no desired_goal of any task")
    return tasks


def _stack(dataset_id: str, episodes: list[Episode], notes: list[str]) -> dict[str, np.ndarray]:
    """One row per step: s is all but the last observation of an episode, s' all but the first."""
    flat = [_flatten(dataset_id, episode.observations, notes if i == 0 else []) for i, episode in enumerate(episodes)]
    try:
        return {
            "observations": np.concatenate([states[:-1] for states in flat]),
            "next_observations": np.concatenate([states[1:] for states in flat]),
            "actions": np.concatenate([np.asarray(episode.actions) for episode in episodes]),
            "rewards": np.concatenate([np.asarray(episode.rewards) for episode in episodes]),
            "terminals": np.concatenate([np.asarray(episode.terminations) for episode in episodes]),
            "timeouts": np.concatenate([np.asarray(episode.truncations) for episode in episodes]),
        }
    except (ValueError, TypeError) as error:
        raise UserError(f"{dataset_id}: episodes do not fit together: {one_line(error)}") from None


def _flatten(dataset_id: str, observations: Any, notes: list[str]) -> np.ndarray:
    if not isinstance(observations, dict):
        return np.asarray(observations)
    parts = {key: np.asarray(value) for key, value in observations.items()}
    if any("/" in key for key in parts):
        return _flatten_kitchen(dataset_id, parts, notes)
    if set(parts) != {"observation", "achieved_goal", "desired_goal"} or parts["observation"].ndim != 2:
        raise UserError(f"{dataset_id}: observations are a dict of {', '.join(sorted(map(str, parts)))}, not a maze's")
    width = parts["observation"].shape[1]
    if width == 4:
        return parts["observation"]
    if width < ANT_OBSERVATION:
        raise UserError(f"{dataset_id}: observation has {width} entries, but a maze has 4 (point) or 27 (ant)")
    if width > ANT_OBSERVATION:
        notes.append(f"not comparable: AntMaze-v5, {width - ANT_OBSERVATION} contact forces dropped from observation")
    return np.concatenate([parts["achieved_goal"], parts["observation"][:, :ANT_OBSERVATION]], axis=1)


def _flatten_kitchen(dataset_id: str, parts: dict[str, np.ndarray], notes: list[str]) -> np.ndarray:
    tasks = _kitchen_tasks(dataset_id, parts)
    if parts["observation"].shape[1] != OBSERVATION:
        width = parts["observation"].shape[1]
        raise UserError(f"{dataset_id}: observation has {width} entries, but the kitchen's has {OBSERVATION}")
    goal = goal_vector(tasks)
    notes.append("velocities left out; rewards as stored, for tasks that stand done after a step (D4RL's: before it)")
    notes.append("ends of demonstrations are time-outs, in D4RL's files terminals")
    return to_d4rl(parts["observation"], goal)


def _to_d4rl(dataset_id: str, fields: dict[str, np.ndarray], task: Task, notes: list[str]) -> None:
    """Rewards and terminals by D4RL's conventions where the stored ones mean something else."""
    for name in checks.FLAGS:  # judged before they are combined, which would turn any byte into True
        fields[name] = checks.as_flags(dataset_id, name, fields[name])
    maze = MAZES.get(task.env or "")
    if maze is not None and fields["observations"].shape[1] == 4:
        fields["rewards"] = fixed_target_rewards(fields["observations"], maze.target)
        notes.append(f"rewards recomputed for D4RL's fixed target {list(maze.target)}")
    elif "AntMaze" in (task.env or ""):
        success = fields["rewards"] > 0
        fields["terminals"] = fields["terminals"] | success
        # a goal hit is a terminal, not a time-out: else D4RL's rule would drop the only rows with reward
        fields["timeouts"] = fields["timeouts"] & ~success
        notes.append("rows with positive reward are terminal, as in D4RL's v2 files")
    elif "AdroitHand" in (task.env or "") and "Pen" not in (task.env or ""):
        notes.append("rewards as stored: the simulator's, which add 0.1 * distance where D4RL subtracts it")
