"""Which task a dataset belongs to: stated by the file, told by its name, or unknown."""

from __future__ import annotations

from dataclasses import dataclass

from aspc_fast.environments import KITCHEN_DATASETS, Environment, environment, find_environment, ogbench_name
from aspc_fast.errors import UserError
from aspc_fast.suite import BY_ID, SUITE


@dataclass(frozen=True)
class Task:
    """env: a name that ``environments`` knows; dataset_id: the suite's id; guessed: told by a file's name only."""

    env: str | None = None
    dataset_id: str | None = None
    guessed: bool = False

    @property
    def environment(self) -> Environment | None:
        """What is known of the task, if it is known."""
        name = self.dataset_id or self.env
        return environment(name) if name else None

    @property
    def horizon(self) -> int | None:
        """D4RL's episode limit of the task in steps, if it is known."""
        known = self.environment
        return known.horizon if known else None

    def matched(self, source: str, obs_dim: int, act_dim: int) -> Task:
        """This task if the dimensions fit; no task if it was a guess; else UserError."""
        known = self.environment
        if known is None or (known.obs_dim or obs_dim, known.act_dim or act_dim) == (obs_dim, act_dim):
            return self
        if self.guessed:
            return Task()
        raise UserError(
            f"{source}: observations and actions have {obs_dim} and {act_dim} entries per row, "
            f"but {self.dataset_id or self.env} has {known.obs_dim} and {known.act_dim}"
        )


def known_task(name: str) -> Task:
    """The task a user names: a suite id, or a task of ``environments``; UserError for anything else."""
    return Task(env=find_environment(name).env, dataset_id=name if name in BY_ID else None)


def guess_task(env_attribute: str | None, stem: str) -> Task:
    """The task of a file: its ``env_id`` attribute if that task is known, else what its name starts with.

    OGBench's names come first: its antmaze-large has the dimensions of D4RL's and is another task.
    A stem that equals a suite id is that dataset; one that starts with a suite id's family ("hopper-medium",
    "maze2d-umaze", "door") is its task; underscores count as hyphens, as D4RL writes both.
    """
    name = stem.lower().replace("_", "-")
    exact = name if name in BY_ID else None
    stated = environment(env_attribute) if env_attribute is not None else None
    if stated is not None:
        same = exact is not None and BY_ID[exact].env == stated.env
        return Task(env=stated.env, dataset_id=exact if same else None)
    of_ogbench = ogbench_name(name)
    if of_ogbench is not None:
        return Task(env=of_ogbench[0], guessed=True) if of_ogbench[1] else Task()
    if name in KITCHEN_DATASETS:
        return Task(env=KITCHEN_DATASETS[name], guessed=True)
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
