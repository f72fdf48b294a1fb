"""Which task a dataset belongs to: stated by the file, told by its name, or unknown."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aspc_fast.errors import UserError
from aspc_fast.suite import BY_ID, SUITE, find, for_env


@dataclass(frozen=True)
class Task:
    """env: a row's ``env`` in the suite; dataset_id: the suite's id; guessed: told by a file's name only."""

    env: str | None = None
    dataset_id: str | None = None
    guessed: bool = False

    @property
    def horizon(self) -> int | None:
        """D4RL's episode limit of the task in steps, if the task is known."""
        row = BY_ID[self.dataset_id] if self.dataset_id else for_env(self.env) if self.env else None
        return row.horizon if row else None

    def matched(self, source: str, obs_dim: int, act_dim: int) -> Task:
        """This task if the dimensions fit; no task if it was a guess; else UserError."""
        row = BY_ID[self.dataset_id] if self.dataset_id else for_env(self.env) if self.env else None
        if row is None or (row.obs_dim, row.act_dim) == (obs_dim, act_dim):
            return self
        if self.guessed:
            return Task()
        raise UserError(
            f"{source}: observations and actions have {obs_dim} and {act_dim} entries per row, "
            f"but {self.dataset_id or self.env} has {row.obs_dim} and {row.act_dim}"
        )


def known_task(name: str) -> Task:
    """The task a user names: a suite id or a simulator task of the suite; UserError for anything else."""
    if for_env(name):
        return Task(env=name)
    row = find(name)
    return Task(env=row.env, dataset_id=row.id)


def guess_task(env_attribute: str | None, stem: str) -> Task:
    """The task of a file: its ``env_id`` attribute if the suite has that task, else what its name starts with.

    A stem that equals a suite id is that dataset; one that starts with a suite id's family ("hopper-medium",
    "maze2d-umaze", "door") is its task; underscores count as hyphens, as D4RL writes both.
    """
    name = stem.lower().replace("_", "-")
    exact = name if name in BY_ID else None
    if env_attribute is not None and for_env(env_attribute):
        same = exact is not None and BY_ID[exact].env == env_attribute
        return Task(env=env_attribute, dataset_id=exact if same else None)
    if exact:
        return Task(env=BY_ID[exact].env, dataset_id=exact, guessed=True)
    best: tuple[int, str | None] = (0, None)
    for row in SUITE:
        # id without version, then ever shorter: hopper-medium-v2 -> hopper-medium -> hopper
        parts = row.id.split("-")[:-1]
        shortest = 2 if row.domain in ("Maze2d", "AntMaze") else 1
        for count in range(len(parts), shortest - 1, -1):
            prefix = "-".join(parts[:count])
            if (name == prefix or name.startswith(prefix + "-")) and len(prefix) > best[0]:
                best = (len(prefix), row.env)
    return Task(env=best[1], guessed=True) if best[1] else Task()


def with_dataset(task: Task, dataset_id: str) -> Task:
    """``task`` as the suite's dataset ``dataset_id``."""
    row = find(dataset_id)
    return replace(task, env=row.env, dataset_id=row.id, guessed=False)
