"""The validated, unnormalised arrays every reader produces."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Transitions:
    """One offline dataset: N transitions in the order they were collected.

    observations, next_observations: float32 [N, obs_dim]; actions: float32 [N, act_dim], within +-max_action;
    rewards: float32 [N]; terminals: bool [N], True on true termination only (never on a time-out).
    ``episode_returns`` [E] float64 and ``episode_lengths`` [E] int64 describe the whole episodes of the source,
    dropped time-out rows included. ``timeout_count`` counts time-out rows of the source (they are dropped).
    ``return_range``: best minus worst return as CORL's programs take it: of the transitions that are left, cut at
    terminals and where an episode would be as long as the horizon.
    ``env`` is the simulator task (a row's ``env`` in suite.py) or None if unknown; ``dataset_id`` the suite's id or
    None.
    ``frame`` tells whose maze coordinates the data uses: "simulator" or "d4rl" (only maze tasks differ).
    ``cuts``: rows whose successor in the source was dropped, int64 [C], and that successor's action, float32 [C, A].
    ``fingerprint`` is a sha256 over the arrays; ``attributes`` the source's own text attributes.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminals: np.ndarray
    episode_returns: np.ndarray
    episode_lengths: np.ndarray
    timeout_count: int
    return_range: float
    source: str
    fingerprint: str
    max_action: float = 1.0
    env: str | None = None
    dataset_id: str | None = None
    frame: str = "simulator"
    attributes: dict[str, str] = field(default_factory=dict)
    cuts: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def obs_dim(self) -> int:
        """Number of entries of one observation."""
        return int(self.observations.shape[1])

    @property
    def act_dim(self) -> int:
        """Number of entries of one action."""
        return int(self.actions.shape[1])

    @property
    def next_actions(self) -> np.ndarray:
        """float32 [N, act_dim]: the action of the source's next row, whatever that row is (the last row has none: 0).

        After a true termination it belongs to another episode; a loss masks it there.
        """
        none = np.empty(0, np.int64), np.empty((0, self.act_dim), np.float32)
        return next_actions(self.actions, *(self.cuts or none))


def next_actions(actions: np.ndarray, cuts: np.ndarray, cut_actions: np.ndarray) -> np.ndarray:
    """float32 [N, A]: the action after each of actions [N, A], but ``cut_actions`` at rows ``cuts``, 0 at the end."""
    following = np.concatenate([actions[1:], np.zeros_like(actions[:1])])
    following[cuts] = cut_actions
    return following
