"""A run as loggers show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aspc_fast.results.records import Record


@dataclass(frozen=True)
class LoggedRun:
    """A run as loggers show it: its name, its hyper-parameters (plain values), and all that describes it as JSON."""

    name: str
    hparams: dict[str, bool | int | float | str]
    config: dict[str, Any]


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record by tag KIND/NAME; of an evaluation the means, of a sweep's final one under final/."""
    kind = "final" if record.get("final") else record["kind"]
    values = {n: v for n, v in record.items() if n not in ("run", "step", "seed") and _is_number(v)}
    if record["kind"] == "eval":
        for many, mean in (("returns", "return"), ("lengths", "length")):
            values[mean] = sum(record[many]) / len(record[many])
    return {f"{kind}/{name}": float(value) for name, value in values.items()}


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
