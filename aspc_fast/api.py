"""The Python door: train and load with plain keyword arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aspc_fast.config import AgentConfig
from aspc_fast.data.load import load
from aspc_fast.data.transitions import Transitions
from aspc_fast.errors import UserError
from aspc_fast.run.load import load_run
from aspc_fast.run.loop import Observer, Record
from aspc_fast.run.policy import Policy
from aspc_fast.run.train import TrainedRun, TrainSettings
from aspc_fast.run.train import train as train_run

_AGENT = {field.name for field in dataclasses.fields(AgentConfig)}
_SETTINGS = {field.name for field in dataclasses.fields(TrainSettings)}


class _Callback(Observer):
    def __init__(self, callback: Callable[[Record], None]) -> None:
        self._callback = callback

    def on_record(self, record: Record) -> None:
        self._callback(record)


def train(
    data: Transitions | str | Path,
    *,
    callback: Callable[[Record], None] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    **options: Any,
) -> TrainedRun:
    """Train one run and return it: ``run.policy(observations)`` acts, ``run.records`` holds every metric.

    data: a dataset (``load``, ``from_arrays``) or what ``load`` takes. options: any field of AgentConfig (alpha,
    discount, ...) or TrainSettings (steps, seed, device, eval_every, ...). callback: called with each record, kind
    "train" or "eval". out: a results folder; then ``resume=True`` goes on from its last checkpoint. Raises UserError.
    """
    unknown = sorted(set(options) - _AGENT - _SETTINGS)
    if unknown:
        raise UserError(f"unknown option {unknown[0]!r}: options are the fields of AgentConfig and TrainSettings")
    config = AgentConfig(**{name: value for name, value in options.items() if name in _AGENT})
    settings = TrainSettings(**{name: value for name, value in options.items() if name in _SETTINGS})
    return train_run(
        data if isinstance(data, Transitions) else load(data),
        *(config, settings),
        out=Path(out) if out is not None else None,
        resume=resume,
        observer=_Callback(callback) if callback is not None else None,
    )


def load_policy(folder: str | Path) -> Policy:
    """The policy of a results folder's last checkpoint: raw observations [n, obs_dim] -> actions [n, act_dim]."""
    return load_run(Path(folder)).policy
