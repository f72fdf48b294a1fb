"""OGBench's files: what its ``terminals`` mean, and what a raw file lacks.

In OGBench ``terminals`` mark the end of a trajectory; a true termination is ``1 - masks``. Three layouts occur:

- regular (``ogbench.make_env_and_datasets``): ``next_observations`` are there, and every row is a transition;
- compact (``compact_dataset=True``): no ``next_observations``; ``valids`` is 0 on a trajectory's last state, which has
  no successor, and both that row and the one before it are marked in ``terminals``;
- raw (as downloaded): only a trajectory's last state is marked, and there are neither rewards nor masks.

https://github.com/seohongpark/ogbench, ogbench/utils.py and relabel_utils.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from aspc_fast.data import checks
from aspc_fast.environments import ogbench_name
from aspc_fast.errors import UserError

NOTE = "OGBench's layout: terminals are the rows whose mask is 0, ends of trajectories are time-outs ({rows})"


@dataclass(frozen=True)
class Rows:
    """A file's rows by meaning: ``terminals`` (d), ``keep`` (is a transition), ``ends`` (an episode's last), bool [N].

    ``timeouts`` counts trajectories that end without a termination; ``note`` says in what sense the file was read.
    """

    terminals: np.ndarray
    keep: np.ndarray
    ends: np.ndarray
    timeouts: int
    note: str


def is_ogbench(source: str, raw: Mapping[str, np.ndarray]) -> bool:
    """Whether ``terminals`` must be read in OGBench's sense: there are ``masks`` and they say something else.

    A file with ``timeouts`` or ``terminals`` = 1 - ``masks`` is D4RL's; one that states ``timeouts`` and masks that
    contradict ``terminals`` is a UserError.
    """
    if "masks" not in raw:
        if "valids" in raw:
            raise UserError(f"{source}: the array 'masks' is missing, which a file with 'valids' (OGBench's) needs")
        return False
    terminals, masks = checks.as_flags(source, "terminals", raw["terminals"]), _masks(source, raw)
    differ = terminals == masks
    if "timeouts" in raw and differ.any():
        row = int(np.argmax(differ))
        raise UserError(
            f"{source}: terminals and masks are both {int(masks[row])} in row {row}; beside timeouts, "
            "masks must be 1 - terminals"
        )
    return "timeouts" not in raw and bool(differ.any() or "valids" in raw)


def rows(source: str, raw: Mapping[str, np.ndarray]) -> Rows:
    """The rows of a file of which ``is_ogbench`` holds. UserError for flags other than 0 and 1."""
    last, terminals = checks.as_flags(source, "terminals", raw["terminals"]), ~_masks(source, raw)
    if "next_observations" in raw:
        keep, ends = np.ones_like(last), last
        what = "with next_observations, so they are kept"
    else:
        following = np.concatenate([last[1:], [False]])
        stateless = ~checks.as_flags(source, "valids", raw["valids"]) if "valids" in raw else last & ~following
        stateless[-1] = True
        keep = ~stateless
        ends = keep & np.concatenate([stateless[1:], [True]])
        what = "the last state of each has no successor and is dropped"
    return Rows(terminals, keep, ends, int((ends & ~terminals).sum()), NOTE.format(rows=what))


def _masks(source: str, raw: Mapping[str, np.ndarray]) -> np.ndarray:
    return checks.as_flags(source, "masks", raw["masks"])


def check_relabelled(source: str, stem: str, names: Collection[str]) -> None:
    """UserError for an OGBench file without rewards or without masks, naming the function that makes them.

    stem: the file's name without suffix; names: all its arrays. A file counts as OGBench's if its name is one of
    OGBench's, or if it lacks rewards and carries ``qpos``.
    """
    named = ogbench_name(stem.replace("_", "-"))
    rewards, masks = "rewards" in names, "masks" in names
    if (rewards and (masks or named is None or "timeouts" in names)) or "terminals" not in names:
        return
    if named is None and "qpos" not in names:
        return
    single = named[0] if named and named[1] else f"{named[0].removesuffix('-v0') if named else 'ENV'}-singletask-v0"
    lacks = "masks" if rewards else "rewards" if masks else "rewards and masks"
    raise UserError(
        f"{source}: OGBench's terminals mark ends of trajectories, and {lacks} are missing: "
        f"ogbench.relabel_utils.relabel_dataset(NAME, gymnasium.make(NAME), arrays) adds them to a dictionary of the "
        f"file's arrays, for one task such as {single}; save that with numpy.savez "
        "(ogbench.make_env_and_datasets does the same for a dataset's name with -singletask)"
    )
