"""report.csv: one row per run, every run."""

from __future__ import annotations

import csv
import io

from aspc_fast.report.content import Content
from aspc_fast.report.model import Run

COLUMNS = (
    "folder", "run", "dataset", "dataset_id", "domain", "env", "algo", "setting", "seed", "state", "step", "steps",
    "final_score", "final_score_from", "evaluations_in_score", "episodes_per_evaluation", "last_score",
    "last_score_std", "evaluations", "alpha", "diverged_step", "diverged_quantity", "simulator", "comparable",
    "published",
)  # fmt: skip


def csv_text(content: Content) -> str:
    """The whole file; scores at full precision, empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in _row(run, content)] for run in content.runs)
    return out.getvalue()


def _row(run: Run, content: Content) -> list[object]:
    final, last = run.final_score, run.evaluations[-1] if run.evaluations else None
    diverged = run.diverged or (None, None)
    simulator, comparable = run.measured_in
    published = content.published.scores(run.algo, run.key)
    setting = ", ".join(part for part in (run.shared, run.setting) if part)
    return [
        run.folder, run.index, run.dataset, run.dataset_id, run.domain, run.env, run.algo, setting, run.seed,
        run.state, run.step, run.planned,
        final.score if final else None, run.score_source,
        final.evaluations if final else None, final.episodes if final else None,
        last.score if last else None, last.std if last else None, len(run.evaluations),
        run.alphas[-1][1] if run.alphas else None, *diverged, simulator, comparable,
        published[0].score if published else None,
    ]  # fmt: skip


def _cell(value: object) -> object:
    """Text that a spreadsheet would run as a formula gets an apostrophe; None is an empty cell."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return "'" + value
    return "" if value is None else value
