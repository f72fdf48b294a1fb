"""What a sweep varied, against score and time: one row per value of each hyper-parameter."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from aspc_fast.report import statistics
from aspc_fast.report.model import Folder, Run, Variant
from aspc_fast.report.settings import OF_THE_DOMAIN


@dataclass
class Value:
    """One value of a hyper-parameter: score over the datasets that all its values have, and time.

    ``interval`` is the 95 % bootstrap interval of ``score``; ``seconds`` the time that a million updates of one run
    took beside the others of its population.
    """

    value: Any
    score: float
    interval: tuple[float, float] | None
    runs: int
    seconds: float | None


@dataclass
class Effect:
    """All values of one hyper-parameter under one algorithm, other settings averaged over."""

    algo: str
    name: str
    datasets: int
    values: list[Value]

    @property
    def algorithm(self) -> str:
        """The algorithm's name on paper."""
        return Variant(self.algo).label


def effects(folders: list[Folder], seed: int = 0) -> list[Effect]:
    """Every hyper-parameter that has two values or more on some dataset under one algorithm."""
    runs = [run for folder in folders for run in folder.runs]
    found = []
    for algo in sorted({run.algo for run in runs}, key=lambda name: Variant(name).order):
        mine = [run for run in runs if run.algo == algo]
        names = dict.fromkeys(name for run in mine for name in run.agent if name not in ("algo", *OF_THE_DOMAIN))
        for name in names:
            effect = _effect(algo, name, mine, folders, seed)
            if effect is not None:
                found.append(effect)
    return found


def _effect(algo: str, field: str, runs: list[Run], folders: list[Folder], seed: int) -> Effect | None:
    by_value: dict[str, list[Run]] = {}
    for run in runs:
        by_value.setdefault(repr(run.agent.get(field)), []).append(run)
    scored = ({run.key for run in group if run.final_score} for group in by_value.values())
    shared = set.intersection(*scored)
    if len(by_value) < 2 or not shared:
        return None
    values: list[Value] = []
    for group in by_value.values():
        kept = [(run.key, run.final_score.score) for run in group if run.key in shared and run.final_score]
        strata = [np.array([score for key, score in kept if key == name]) for name in sorted(shared)]
        score = float(np.mean([scores.mean() for scores in strata]))
        interval = statistics.mean_interval(strata, np.random.default_rng(seed))
        values.append(Value(group[0].agent.get(field), score, interval, len(kept), _seconds(group, folders)))
    values.sort(key=lambda v: (not is_number(v.value), v.value if is_number(v.value) else 0, str(v.value)))
    return Effect(algo, field, len(shared), values)


def is_number(value: Any) -> bool:
    """Whether a hyper-parameter's value can stand on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(runs: list[Run], folders: list[Folder]) -> float | None:
    """Seconds for a million updates of one run, from the populations that held nothing but ``runs``."""
    mine: dict[str, set[int]] = {}
    for run in runs:
        mine.setdefault(run.folder, set()).add(run.index)
    rates = [
        speed.run_updates or speed.updates
        for folder in folders
        for speed in folder.speeds
        if speed.runs and speed.runs <= mine.get(folder.name, set())
    ]
    known = [rate for rate in rates if rate]
    return 1e6 / median(known) if known else None
