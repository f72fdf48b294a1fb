"""What a report knows: folders, their runs, and each run's evaluations and alpha."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from aspc_fast import suite
from aspc_fast.registry import algorithm, names
from aspc_fast.results.records import LAST_EVALUATIONS

OTHER = "Other"
DOMAINS = ("MuJoCo", "Maze2d", "AntMaze", "Adroit", OTHER)
ALPHA = "alpha_after"
SERIES = (ALPHA, "delta_q", "bc_sup", "delta_bc_sup", "eq3")  # what is kept of train records

State = Literal["done", "diverged", "unfinished"]


def not_comparable(note: str) -> bool:
    """Whether an evaluation's ``comparable`` note says that its score must not be set beside D4RL's."""
    return note.lower().startswith("not comparable")


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: ``score`` is the normalised score's mean over ``episodes``, ``std`` its standard deviation."""

    step: int
    score: float
    std: float | None
    episodes: int
    final: bool
    simulator: str
    comparable: str


@dataclass(frozen=True)
class FinalScore:
    """A run's final score and what it is the mean of: one ``final`` evaluation, or the last few."""

    score: float
    evaluations: int
    episodes: int
    final: bool

    @property
    def source(self) -> str:
        """The sentence that belongs beside the number."""
        if self.final:
            return f"final evaluation, {self.episodes} episodes"
        if self.evaluations == 0:
            return "summary.json"
        return f"mean of the last {self.evaluations} evaluations"

    @property
    def short(self) -> str:
        """The same in a table's cell: "100 final" or "10 x 10"."""
        if self.final:
            return f"{self.episodes} final"
        return f"{self.evaluations} \u00d7 {self.episodes}" if self.evaluations else "summary"


@dataclass(frozen=True)
class Variant:
    """An algorithm with a setting: what tables compare."""

    algo: str
    setting: str = ""

    @property
    def label(self) -> str:
        """Its name on paper."""
        name = algorithm(self.algo).title if self.algo in names() else self.algo
        return f"{name}, {self.setting}" if self.setting else name

    @property
    def order(self) -> tuple[int, str, list[tuple[bool, int, str]]]:
        """The sort key: algorithms in the order of the registry, others after them; then settings, the plain first.

        Numbers in settings count as numbers: alpha_freq=5 comes before alpha_freq=20.
        """
        words = re.findall(r"[0-9,]*[0-9]|[^0-9]+", self.setting)
        keys = [(not w[0].isdecimal(), int(w.replace(",", "") or 0) if w[0].isdecimal() else 0, w) for w in words]
        known = list(names())
        return (known.index(self.algo) if self.algo in known else len(known), self.algo, keys)


@dataclass
class Run:
    """One run; steps are training steps. ``series``: (step, value) pairs of a train record's field, by its name.

    ``setting`` tells the run from the others of a report, ``shared`` is what all of them have in common.
    """

    folder: str
    index: int
    dataset: str
    dataset_id: str | None
    env: str | None
    algo: str
    setting: str
    seed: int
    agent: dict[str, Any]
    planned: int | None
    state: State = "unfinished"
    step: int = 0
    evaluations: list[Evaluated] = field(default_factory=list)
    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    diverged: tuple[int, str] | None = None
    shared: str = ""
    summary_score: float | None = None
    summary_episodes: int = 0

    @property
    def key(self) -> str:
        """What makes two runs' datasets the same."""
        return self.dataset_id or self.dataset

    @property
    def alphas(self) -> list[tuple[int, float]]:
        """(step, alpha) pairs."""
        return self.series.get(ALPHA, [])

    @property
    def row(self) -> suite.Dataset | None:
        """The suite's row, if the dataset is one of the 39."""
        return suite.BY_ID.get(self.dataset_id) if self.dataset_id else None

    @property
    def domain(self) -> str:
        """MuJoCo, Maze2d, AntMaze, Adroit, or Other."""
        row = self.row or (suite.for_env(self.env) if self.env else None)
        return row.domain if row else OTHER

    @property
    def variant(self) -> Variant:
        """What this run is an instance of."""
        return Variant(self.algo, self.setting)

    @property
    def final_score(self) -> FinalScore | None:
        """Mean of its last ``final`` evaluation, else of the last (up to ten) evaluations; None if the run diverged."""
        if self.state == "diverged":
            return None
        finals = [e for e in self.evaluations if e.final]
        if finals:
            return FinalScore(finals[-1].score, 1, finals[-1].episodes, True)
        tail = self.evaluations[-LAST_EVALUATIONS:]
        if tail:
            return FinalScore(float(np.mean([e.score for e in tail])), len(tail), tail[-1].episodes, False)
        if self.summary_score is not None:
            return FinalScore(self.summary_score, 0, self.summary_episodes, False)
        return None

    @property
    def score_source(self) -> str:
        """What its final score comes from, or why there is none."""
        final = self.final_score
        return final.source if final else "diverged" if self.state == "diverged" else "not evaluated"

    @property
    def measured_in(self) -> tuple[str, str]:
        """(simulator, comparable note) of the newest evaluation; empty if there is none."""
        last = self.evaluations[-1] if self.evaluations else None
        return (last.simulator, last.comparable) if last else ("", "")


@dataclass(frozen=True)
class Speed:
    """Throughput at ``step``: updates per second of one run and of all of a population together; ``runs``: its runs."""

    step: int
    run_updates: float | None
    updates: float | None
    wall_seconds: float | None
    device_bytes: float | None
    runs: frozenset[int] = frozenset()


@dataclass
class Folder:
    """One results folder, read."""

    name: str
    sweep: bool
    runs: list[Run]
    settings: dict[str, Any]
    versions: dict[str, Any]
    machine: dict[str, Any]
    commit: str
    command: list[str]
    speeds: list[Speed] = field(default_factory=list)
    wall_seconds: float | None = None
    run_updates: float | None = None
    plan: dict[str, float] = field(default_factory=dict)
    populations: int = 1
