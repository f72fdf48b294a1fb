"""The Python door: train and load with plain keyword arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aspc_fast.config import AgentConfig, fields_of
from aspc_fast.data.load import load
from aspc_fast.data.transitions import Transitions
from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm
from aspc_fast.results.export import load_any
from aspc_fast.results.policy import Policy
from aspc_fast.results.records import Observer, Record
from aspc_fast.run.sweep import sweep as run_sweep
from aspc_fast.run.sweep_plan import SweepSettings
from aspc_fast.run.train import TrainedRun, TrainSettings
from aspc_fast.run.train import train as train_run


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

    Args:
        data: a dataset (``load``, ``from_arrays``), or what ``load`` takes.
        callback: called with each record; its kind is "train" or "eval".
        out: a results folder; without one nothing is written.
        resume: go on from the last checkpoint in ``out``.
        **options: any field of AgentConfig (alpha, discount, ...) or TrainSettings (steps, seed, device, ...).

    Raises:
        UserError: what the caller can mend.
        Diverged: a quantity became NaN or infinite.
    """
    agent, settings = _split_options(options, TrainSettings)
    return train_run(
        data if isinstance(data, Transitions) else load(data),
        *(AgentConfig(**agent), TrainSettings(**settings)),
        out=Path(out) if out is not None else None,
        resume=resume,
        observer=_Callback(callback) if callback is not None else None,
    )


def sweep(
    sources: Sequence[str | Path],
    seeds: int | Sequence[int] = 1,
    *,
    out: str | Path,
    vary: dict[str, Sequence[Any]] | None = None,
    callback: Callable[[Record], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train every dataset x setting x seed as batched populations into ``out`` and return the summary.

    The same call goes on with an interrupted sweep. Evaluation runs in worker processes: call this under
    ``if __name__ == "__main__":``, or set ``workers=0``.

    Args:
        sources: datasets, each what ``load`` takes.
        seeds: how many, or which.
        out: the results folder.
        vary: AgentConfig field -> values; several fields are crossed.
        callback: called with each record.
        **options: fields of AgentConfig (the same for all runs) or SweepSettings.

    Raises:
        UserError: what the caller can mend.
    """
    agent, settings = _split_options(options, SweepSettings)
    return run_sweep(
        sources,
        list(range(seeds)) if isinstance(seeds, int) else list(seeds),
        Path(out),
        base=AgentConfig(**agent),
        varied=vary or {},
        settings=SweepSettings(**settings),
        observer=_Callback(callback) if callback is not None else None,
    )


def _split_options(options: dict[str, Any], settings_kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options that are hyper-parameters, and those of the settings; UserError for one that is neither."""
    algo = options.get("algo", AgentConfig.algo)
    agent = fields_of(algorithm(algo).config)
    settings = {field.name for field in dataclasses.fields(settings_kind)}
    unknown = sorted(set(options) - agent - settings)
    if unknown:
        kinds = f"hyper-parameters of {algo} and the fields of {settings_kind.__name__}"
        raise UserError(f"unknown option {unknown[0]!r}: options are the {kinds}")
    own = ({name: value for name, value in options.items() if name in names} for names in (agent, settings))
    return next(own), next(own)


def load_policy(path: str | Path, run: int | None = None) -> Policy:
    """A trained policy: raw observations [n, obs_dim] or [obs_dim] in, actions [n, act_dim] or [act_dim] out.

    Args:
        path: a results folder (its last checkpoint counts), or a file from ``aspc-fast export --format safetensors``.
        run: number of the run, in a sweep's results folder.

    Raises:
        UserError: nothing that can be read is there.
    """
    return load_any(Path(path), run).policy
