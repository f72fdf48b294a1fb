"""Records of metrics.jsonl: who hears of them while training runs, and how they are read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aspc_fast.errors import UserError
from aspc_fast.results.fields import json_lines

Record = dict[str, Any]
LAST_EVALUATIONS = 10  # the paper's final score is the mean of so many last evaluations
# what this package reads of its own records; a damaged name must not surface as something else later
_NEEDED = {
    "train": ("step",),
    "system": ("step", "run_updates_per_second"),
    "diverged": ("step", "quantity"),
    "eval": ("step", "score", "score_std", "returns", "final", "env", "engine", "frame", "comparable"),
}


class Observer:
    """What a user interface wants to know while training runs; override what you need."""

    def on_start(self, first_step: int, steps: int) -> None:
        """Training begins (or resumes) after ``first_step``."""

    def on_restore(self, step: int, records: list[Record], pending: list[int]) -> None:
        """A folder's run goes on after ``step`` with these ``records``; evaluations of steps ``pending`` come again."""

    def on_progress(self, step: int) -> None:
        """``step`` training steps are done."""

    def on_record(self, record: Record) -> None:
        """A line of metrics.jsonl: kind "train" (means over log_every steps), "eval", "system" or "diverged"."""

    def on_records(self, records: list[Record]) -> None:
        """All lines of one moment, such as the runs of a population at a log point."""
        for record in records:
            self.on_record(record)

    def on_loading(self, done: int, total: int, name: str) -> None:
        """``done`` of ``total`` bytes of the store are in memory; ``name`` was the last dataset."""

    def on_message(self, text: str) -> None:
        """One sentence worth telling the user."""


def read_metrics(path: Path) -> Iterator[Record]:
    """The records of metrics.jsonl; an unfinished last line (a kill) is left out, a damaged one is a UserError."""
    for number, record in json_lines(path):
        kind = record.get("kind")
        needed = _NEEDED.get(kind, ()) if isinstance(kind, str) else ()
        missing = [name for name in ("kind", *needed) if name not in record]
        if missing or not isinstance(kind, str):
            raise UserError(f"{path}: line {number} is damaged (field {(*missing, 'kind')[0]!r} is missing)")
        yield record
