"""Two sets of results run for run: the same dataset, algorithm, setting and seed, of two commits or machines."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.report import statistics
from aspc_fast.report.model import Folder, Run, Variant
from aspc_fast.report.tables import ALL, domain_tables, variants

Key = tuple[str, Variant, int]
Interval = tuple[float, float]


@dataclass
class Pair:
    """One run on both sides."""

    a: Run
    b: Run

    @property
    def scores(self) -> tuple[float, float] | None:
        """Both final scores; None unless both have one."""
        a, b = self.a.final_score, self.b.final_score
        return (a.score, b.score) if a is not None and b is not None else None

    @property
    def same(self) -> bool:
        """Whether every evaluation that both made gave the same number, bit for bit, and there is one."""
        a, b = ({(e.step, e.final): e.score for e in run.evaluations} for run in (self.a, self.b))
        return bool(a.keys() & b.keys()) and all(a[key] == b[key] for key in a.keys() & b.keys())


@dataclass
class Difference:
    """B minus A over matched runs; ``interval``: 95 %, pairs resampled within datasets; ``same``: runs equal bit for
    bit; ``better``: P(B > A) for a random run of each."""

    scope: str
    variant: Variant
    a: float
    b: float
    mean: float
    interval: Interval | None
    better: float
    runs: int
    datasets: int
    same: int


@dataclass
class Compared:
    """Everything that a comparison says. ``changed``: setting -> (value in A, in B) with the number of runs."""

    a: list[Folder]
    b: list[Folder]
    pairs: list[Pair]
    only_a: list[Run]
    only_b: list[Run]
    repeated: list[str]
    by_dataset: list[Difference]
    overall: list[Difference]
    changed: list[tuple[str, str, str, int]]


def compare(a: list[Folder], b: list[Folder], seed: int = 0) -> Compared:
    """Match the runs of ``a`` and ``b`` and compute their differences; UserError if no run is in both."""
    repeated: list[str] = []
    left, right = _by_key(a, repeated), _by_key(b, repeated)
    pairs = [Pair(run, right[key]) for key, run in left.items() if key in right]
    if not pairs:
        raise UserError(
            f"{_names(a)} and {_names(b)} have no run in common: none has the same dataset, algorithm, setting and seed"
        )
    rows = [row for table in domain_tables([pair.a for pair in pairs]) for row in table.rows]
    places = {row.dataset: place for place, row in enumerate(rows)}
    pairs.sort(key=lambda pair: (places[pair.a.key], pair.a.variant.order, pair.a.seed))
    by_dataset, overall = [], []
    for variant in variants(pair.a for pair in pairs):
        mine = [pair for pair in pairs if pair.a.variant == variant]
        for key in dict.fromkeys(pair.a.key for pair in mine):
            by_dataset += _difference(key, variant, [p for p in mine if p.a.key == key], seed)
        overall += _difference(ALL, variant, mine, seed)
    return Compared(
        a=a,
        b=b,
        pairs=pairs,
        only_a=[run for key, run in left.items() if key not in right],
        only_b=[run for key, run in right.items() if key not in left],
        repeated=repeated,
        by_dataset=by_dataset,
        overall=overall,
        changed=_changed(pairs),
    )


def rate(folders: list[Folder]) -> float | None:
    """Updates per second of all runs of a population: the median over what was recorded; None if nothing was."""
    rates = [value for f in folders for s in f.speeds if (value := s.run_updates or s.updates)]
    return median(rates) if rates else None


def _by_key(folders: list[Folder], repeated: list[str]) -> dict[Key, Run]:
    found: dict[Key, Run] = {}
    for run in (run for folder in folders for run in folder.runs):
        key = (run.key, run.variant, run.seed)
        if key in found:
            where = ", ".join(dict.fromkeys((found[key].folder, run.folder)))
            repeated.append(
                f"{run.key}, {run.variant.label}, seed {run.seed}: several runs ({where}), the first counts"
            )
        found.setdefault(key, run)
    return found


def _difference(scope: str, variant: Variant, pairs: list[Pair], seed: int) -> list[Difference]:
    """One entry, or none if no pair has both scores."""
    scored = [(pair.a.key, *pair.scores) for pair in pairs if pair.scores]
    if not scored:
        return []
    strata = [
        np.array([(a, b) for name, a, b in scored if name == key]) for key in dict.fromkeys(n for n, *_ in scored)
    ]
    left, right = [s[:, 0] for s in strata], [s[:, 1] for s in strata]
    moved = [s[:, 1] - s[:, 0] for s in strata]
    return [
        Difference(
            scope=scope,
            variant=variant,
            a=float(np.mean([s.mean() for s in left])),
            b=float(np.mean([s.mean() for s in right])),
            mean=float(np.mean([s.mean() for s in moved])),
            interval=statistics.mean_interval(moved, np.random.default_rng(seed)),
            better=statistics.probability_of_improvement(right, left),
            runs=len(scored),
            datasets=len(strata),
            same=sum(pair.same for pair in pairs),
        )
    ]


def _changed(pairs: list[Pair]) -> list[tuple[str, str, str, int]]:
    """(name, value in A, value in B, runs): hyper-parameters and steps that differ within pairs."""
    counts: dict[tuple[str, str, str], int] = {}
    for pair in pairs:
        a, b = (run.agent | {"steps": run.planned} for run in (pair.a, pair.b))
        for name in dict.fromkeys([*a, *b]):
            if a.get(name) != b.get(name):
                key = (name, _shown(a.get(name)), _shown(b.get(name)))
                counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in counts.items()]


def _shown(value: Any) -> str:
    return "\u2013" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _names(folders: list[Folder]) -> str:
    return ", ".join(folder.name for folder in folders)
