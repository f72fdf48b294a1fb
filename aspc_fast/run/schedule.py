"""When what happens during training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """When what happens, in training steps (0: never); ``final_episodes`` are rolled out once after the last step.

    ``checkpoint_every`` 0: a checkpoint every ``checkpoint_seconds`` instead, and at the end.
    """

    steps: int
    eval_every: int
    eval_episodes: int
    log_every: int
    checkpoint_every: int
    final_episodes: int = 0
    checkpoint_seconds: float = 60.0

    def due(self, step: int) -> set[str]:
        """What is due after ``step``: of log, eval, checkpoint; all of them (if ever) at the last step."""
        due = {name for name, every in self._intervals().items() if step == self.steps or step % every == 0}
        return due | ({"checkpoint"} if step == self.steps else set())

    def steps_to_boundary(self, step: int, at_most: int) -> int:
        """Steps until something is due, or the end of this slice of ``at_most``."""
        ends = [(step // every + 1) * every for every in (*self._intervals().values(), at_most)]
        return min(*ends, self.steps) - step

    def _intervals(self) -> dict[str, int]:
        intervals = {"log": self.log_every, "eval": self.eval_every, "checkpoint": self.checkpoint_every}
        return {name: every for name, every in intervals.items() if every}
