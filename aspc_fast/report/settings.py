"""How a run's setting is called: what tells it from the other runs shown, and what all of them share."""

from __future__ import annotations

import re
from typing import Any

from aspc_fast.report.model import Run
from aspc_fast.results import fields

# Reward options follow the domain (minus-one is AntMaze's): they make no run a setting of its own.
OF_THE_DOMAIN = ("reward", "reward_scale", "reward_mean")


def word(name: str, value: Any) -> str:
    """A hyper-parameter with its value, as labels have it: a number as short as it can be without becoming another."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{name}={short if not isinstance(value, float) or float(short) == value else value}"


def setting(words: str, agent: dict[str, Any]) -> str:
    """What a sweep calls a setting ("a=1.0 b=x"), written as a single run's is: "a=1, b=x"."""
    spelt = {f"{name}={value}": word(name, value) for name, value in agent.items()}
    return ", ".join(spelt.get(w, w) for w in _words(words))


def share(runs: list[Run]) -> str:
    """Take out of the settings what is the same in every run, a default or not, and return it; the rest stays apart."""
    held = [{*_words(run.setting), *(word(*item) for item in run.agent.items())} for run in runs]
    named = dict.fromkeys(w for run in runs for w in _words(run.setting))
    shared = [w for w in named if all(w in words for words in held)]
    for run in runs:
        run.shared = ", ".join(shared)
        run.setting = ", ".join(w for w in _words(run.setting) if w not in shared)
    separate(runs)
    return ", ".join(shared)


def separate(runs: list[Run]) -> None:
    """Add to a setting what differs between runs of one dataset that would otherwise be averaged as equals."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.key, run.algo, run.setting), []).append(run)
    varying: dict[tuple[str, str], dict[str, None]] = {}
    for (_, algo, name), group in groups.items():
        each = [run.agent | {"steps": run.planned} for run in group]
        names = dict.fromkeys(name for entry in each for name in entry)
        differ = {n: None for n in names if len({repr(entry.get(n)) for entry in each}) > 1}
        varying.setdefault((algo, name), {}).update(differ)
    for run in runs:
        extra = varying[run.algo, run.setting]
        parts = [word(name, run.agent.get(name)) for name in extra if name != "steps"]
        parts += [f"{run.planned or 0:,} steps"] if "steps" in extra else []
        run.setting = fields.clean(", ".join([run.setting, *parts] if run.setting else parts))


def _words(text: str) -> list[str]:
    return re.split(r", | (?=\w+=)", text) if text else []
