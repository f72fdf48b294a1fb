"""Runs -> the rows and aggregates that every form of the report shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from aspc_fast import suite
from aspc_fast.report import statistics
from aspc_fast.report.model import DOMAINS, Run, Variant, not_comparable

ALL = "All"
NOT_COMPARABLE = "not comparable"
MOST_PAIRWISE = 4  # variants; beyond that only the one that has most scores is compared with each other
_SUITE_ORDER = {row.id: i for i, row in enumerate(suite.SUITE)}
_ENV_ORDER = {row.env: i for i, row in enumerate(suite.SUITE)}  # the last row of each simulator task


@dataclass
class Row:
    """One dataset under one variant. ``note`` indexes the footnotes; ``span`` counts the rows of
    the dataset on its first row and is 0 on the others."""

    dataset: str
    variant: Variant
    runs: list[Run]
    note: int | None = None
    span: int = 0

    @property
    def scores(self) -> list[float]:
        """Final scores of the runs that have one."""
        return [run.final_score.score for run in self.runs if run.final_score is not None]

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return float(np.mean(self.scores)) if self.scores else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (divisor n); None for a single one."""
        return float(np.std(self.scores)) if len(self.scores) > 1 else None

    @property
    def seeds(self) -> str:
        """How many seeds entered the mean, of how many if not all."""
        counted, total = len(self.scores), len(self.runs)
        return str(total) if counted == total else f"{counted} of {total}"

    @property
    def measured_on(self) -> str:
        """What a run's score is the mean of: "100 final", or evaluations x episodes."""
        kinds = dict.fromkeys(run.final_score.short for run in self.runs if run.final_score is not None)
        return "; ".join(kinds) or "\u2013"

    @property
    def not_comparable(self) -> bool:
        """Whether a score of this row must not be set beside D4RL's."""
        return any(not_comparable(run.measured_in[1]) for run in self.runs)

    @property
    def marks(self) -> list[str]:
        """What a reader must know beside the number."""
        marks = [NOT_COMPARABLE] if self.not_comparable else []
        for run in self.runs:
            if run.diverged is not None:
                step, quantity = run.diverged
                marks.append(f"seed {run.seed} diverged at step {step:,} ({quantity})")
        missing = [r for r in self.runs if r.state != "diverged" and r.final_score is None]
        if missing:
            marks.append(f"{_seeds(missing, self.runs)}not evaluated")
        going = [r for r in self.runs if r.state == "unfinished"]
        if going:
            step, planned = min(r.step for r in going), max(r.planned or 0 for r in going)
            marks.append(f"{_seeds(going, self.runs)}unfinished, step {step:,}" + (f" of {planned:,}" * bool(planned)))
        return marks


@dataclass
class Average:
    """Mean over datasets of one variant's means."""

    variant: Variant
    mean: float
    datasets: int
    not_comparable: bool


@dataclass
class DomainTable:
    """One domain's rows, and the mean over its datasets of each variant that has any."""

    domain: str
    rows: list[Row]
    averages: list[Average]

    @property
    def datasets(self) -> list[str]:
        """In order of appearance."""
        return list(dict.fromkeys(row.dataset for row in self.rows))


@dataclass
class Aggregate:
    """Interquartile mean of one variant in one scope; ``with_zeros``: the same, a diverged run counted as 0."""

    scope: str
    variant: Variant
    value: float
    interval: tuple[float, float] | None
    runs: int
    datasets: int
    with_zeros: float | None = None


@dataclass
class Comparison:
    """P(X > Y) over the datasets both have."""

    scope: str
    x: Variant
    y: Variant
    probability: float
    interval: tuple[float, float] | None
    datasets: int


def domain_tables(runs: list[Run]) -> list[DomainTable]:
    """One table per domain that has runs; datasets in the suite's order, others after their simulator task's."""
    tables = []
    for domain in DOMAINS:
        inside = [run for run in runs if run.domain == domain]
        rows = _rows(inside)
        if rows:
            tables.append(DomainTable(domain, rows, averages(rows)))
    return tables


def variants(entries: Iterable[Run | Row]) -> list[Variant]:
    """Every variant, in the order of all tables and legends."""
    return sorted({entry.variant for entry in entries}, key=lambda v: v.order)


def aggregates(tables: list[DomainTable], seed: int = 0) -> list[Aggregate]:
    """IQM and interval: over everything, then by domain where there is more than one."""
    found = []
    for scope, rows in _scopes(tables):
        for variant in variants(rows):
            mine = [row for row in rows if row.variant == variant]
            strata = [np.array(row.scores) for row in mine if row.scores]
            if not strata:
                continue
            zeros = [np.zeros(sum(r.state == "diverged" for r in row.runs)) for row in mine]
            padded = np.concatenate([*strata, *zeros])
            scores = np.concatenate(strata)
            interval = statistics.iqm_interval(strata, np.random.default_rng(seed))
            with_zeros = float(statistics.iqm(padded)) if len(padded) > len(scores) else None
            value = float(statistics.iqm(scores))
            found.append(Aggregate(scope, variant, value, interval, len(scores), len(strata), with_zeros))
    return found


def comparisons(tables: list[DomainTable], seed: int = 0) -> list[Comparison]:
    """Probability of improvement between variants, over everything, then by domain where there is more than one."""
    found = []
    for scope, rows in _scopes(tables):
        ordered = variants(rows)
        pairs = list(combinations(ordered, 2))
        if len(ordered) > MOST_PAIRWISE:
            counts = {v: sum(len(row.scores) for row in rows if row.variant == v) for v in ordered}
            base = max(ordered, key=lambda v: counts[v])
            pairs = [(base, v) for v in ordered if v != base]
        for x, y in pairs:
            scores = {v: {r.dataset: np.array(r.scores) for r in rows if r.variant == v and r.scores} for v in (x, y)}
            both = [name for name in scores[x] if name in scores[y]]
            if both:
                left, right = [scores[x][name] for name in both], [scores[y][name] for name in both]
                interval = statistics.improvement_interval(left, right, np.random.default_rng(seed))
                probability = statistics.probability_of_improvement(left, right)
                found.append(Comparison(scope, x, y, probability, interval, len(both)))
    return found


def _rows(runs: list[Run]) -> list[Row]:
    groups: dict[tuple[str, Variant], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.key, run.variant), []).append(run)
    last = len(_SUITE_ORDER)
    places = {k: _SUITE_ORDER.get(k[0], _ENV_ORDER.get(group[0].env or "", last)) for k, group in groups.items()}
    order = sorted(groups, key=lambda k: (places[k], k[0] not in _SUITE_ORDER, k[0], k[1].order))
    rows: list[Row] = []
    for key, variant in order:
        group = sorted(groups[key, variant], key=lambda run: (run.seed, run.folder, run.index))
        rows.append(Row(key, variant, group))
    for i, row in enumerate(rows):
        if i == 0 or rows[i - 1].dataset != row.dataset:
            row.span = sum(other.dataset == row.dataset for other in rows)
    return rows


def averages(rows: list[Row]) -> list[Average]:
    """Each variant's mean over the datasets that it has scores on."""
    found = []
    for variant in variants(rows):
        mine = [row for row in rows if row.variant == variant and row.mean is not None]
        if mine:
            mean = float(np.mean([row.mean for row in mine]))
            found.append(Average(variant, mean, len(mine), any(row.not_comparable for row in mine)))
    return found


def number_notes(tables: list[DomainTable]) -> list[str]:
    """Footnotes, one for each distinct (simulator, note); gives each row the number of its newest one."""
    numbers: dict[str, int] = {}
    for row in (row for table in tables for row in table.rows):
        for run in row.runs:
            simulator, comparable = run.measured_in
            if simulator or comparable:
                named = all(word in comparable for word in simulator.split(" in "))
                note = comparable if named else ": ".join(t for t in (simulator, comparable) if t)
                row.note = numbers.setdefault(note, len(numbers))
    return list(numbers)


def _scopes(tables: list[DomainTable]) -> list[tuple[str, list[Row]]]:
    everything = [row for table in tables for row in table.rows]
    by_domain = [(table.domain, table.rows) for table in tables]
    return [(ALL, everything), *by_domain] if len(tables) > 1 else by_domain


def _seeds(some: list[Run], every: list[Run]) -> str:
    if len(some) == len(every):
        return ""
    return ("seed " if len(some) == 1 else "seeds ") + ", ".join(str(run.seed) for run in some) + " "
