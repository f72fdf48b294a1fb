"""Settings that an algorithm's authors tuned for a dataset, as ``tuned.json`` beside this file holds them.

An algorithm that is not in that file has one set of hyper-parameters for all datasets: its defaults. So have wPC and
TD3+BC here, whose scripts in the ASPC authors' repository have no other.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from aspc_fast.registry import algorithm
from aspc_fast.suite import BY_ID


def tuned(algo: str, dataset_id: str | None) -> dict[str, Any]:
    """Hyper-parameters of ``algo`` for one of the 39 datasets, ready for ``AgentConfig(algo=algo, **...)``.

    Reward transform and state normalisation included. Empty where its authors tuned nothing: for other datasets and for
    algorithms with one set. UserError if there is no such algorithm.
    """
    trace = algorithm(algo).trace
    if dataset_id not in BY_ID or algo not in _file():
        return {}
    found: dict[str, Any] = {}
    for entry in _file()[algo]["settings"]:
        if any(fnmatchcase(dataset_id, pattern) for pattern in entry["datasets"]):
            found |= entry["values"]
    theirs = dict(trace.hyper) if trace else {}
    return {theirs.get(name, name): value for name, value in found.items()}


def source(algo: str) -> str:
    """Where the settings of ``algo`` come from: repository, commit and files; empty if it has one set."""
    return str(_file()[algo]["source"]) if algo in _file() else ""


@cache
def _file() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files("aspc_fast").joinpath("tuned.json").read_text(encoding="utf-8"))
    content.pop("about")
    return content
