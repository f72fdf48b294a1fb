"""Runs -> small multiples: one panel per dataset, a thin line per seed and the mean of each variant."""

from __future__ import annotations

import statistics as basic
from collections.abc import Callable, Sequence

from aspc_fast.report import svg
from aspc_fast.report.model import Folder, Run, Variant
from aspc_fast.report.svg import Line, Panel
from aspc_fast.report.tables import DomainTable, Row

Points = Sequence[tuple[float, float]]
Figure = tuple[str, str]  # caption (plain text), drawing
RANDOM, EXPERT = 0.0, 100.0


def score_figures(tables: list[DomainTable], order: list[Variant]) -> list[tuple[str, list[Figure]]]:
    """Learning curves by domain; the datasets of a domain share both axes, all domains share the steps."""
    x = svg.steps_axis(_last_step([run for table in tables for row in table.rows for run in row.runs]))
    found = []
    for table in tables:
        values = [e.score for row in table.rows for run in row.runs for e in run.evaluations]
        y = svg.linear_axis(values, include=(RANDOM, EXPERT))
        figures = []
        for name in table.datasets:
            panel = _panel(f"score of {name}", _of(table, name), order, _scores)
            panel.guides = (RANDOM, EXPERT)
            panel.empty = "" if panel.lines else "no evaluation"
            figures.append((name, svg.draw(panel, x, y)))
        found.append((table.domain, figures))
    return found


def alpha_figures(tables: list[DomainTable], order: list[Variant]) -> list[Figure]:
    """Trajectories of alpha, all on the same logarithmic scale; empty if no run recorded any."""
    runs = [run for table in tables for row in table.rows for run in row.runs]
    values = [value for run in runs for _, value in run.alphas if value > 0]
    if not values:
        return []
    x, y = svg.steps_axis(_last_step(runs)), svg.log_axis(values)
    figures = []
    for table in tables:
        for name in table.datasets:
            panel = _panel(f"alpha on {name}", _of(table, name), order, lambda run: run.alphas)
            panel.empty = "" if panel.lines else "alpha not recorded"
            figures.append((name, svg.draw(panel, x, y)))
    return figures


def speed_figures(folders: list[Folder]) -> list[Figure]:
    """Updates per second over training, one panel per folder that recorded them, on one scale."""
    curves = {folder.name: speed_points(folder) for folder in folders}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        return []
    y = svg.linear_axis([value for points in curves.values() for _, value in points], include=(0.0,))
    x = svg.steps_axis(max(step for points in curves.values() for step, _ in points))
    return [
        (name, svg.draw(Panel(f"updates per second in {name}", [Line(points, 0)]), x, y))
        for name, points in curves.items()
    ]


def mean_line(runs: list[Run], points_of: Callable[[Run], Points]) -> list[tuple[float, float]]:
    """Mean at the steps that every run has a point at; a diverged run, whose line ends early, is left out."""
    series = [dict(points_of(run)) for run in runs if run.state != "diverged"]
    series = [points for points in series if points]
    if not series:
        return []
    shared = set(series[0]).intersection(*series[1:])
    return [(step, basic.fmean(points[step] for points in series)) for step in sorted(shared)]


def _panel(title: str, rows: list[Row], order: list[Variant], points_of: Callable[[Run], Points]) -> Panel:
    panel = Panel(title)
    for row in rows:
        style = order.index(row.variant)
        for run in row.runs:
            points = points_of(run)
            tip = f"{row.variant.label}, seed {run.seed}"
            if points:
                panel.lines.append(Line(points, style, True, f"{tip}: {points[-1][1]:.4g} at step {points[-1][0]:,}"))
            if run.diverged is not None:
                step, quantity = run.diverged
                last = points[-1][1] if points else None
                panel.marks.append((step, last, style, f"{tip}: diverged at step {step:,} ({quantity})"))
        mean = mean_line(row.runs, points_of)
        if mean:
            count = len(row.runs) - sum(run.state == "diverged" for run in row.runs)
            panel.lines.append(Line(mean, style, False, f"{row.variant.label}, mean of {count}: {mean[-1][1]:.4g}"))
    return panel


def speed_points(folder: Folder) -> list[tuple[float, float]]:
    """(step, updates per second of all runs of a population), the mean where several populations passed a step."""
    rates: dict[int, list[float]] = {}
    for speed in folder.speeds:
        rate = speed.run_updates or speed.updates
        if rate:
            rates.setdefault(speed.step, []).append(rate)
    return [(step, basic.fmean(values)) for step, values in sorted(rates.items())]


def _scores(run: Run) -> Points:
    return list({e.step: (e.step, e.score) for e in run.evaluations}.values())  # a final one replaces its step's


def _of(table: DomainTable, dataset: str) -> list[Row]:
    return [row for row in table.rows if row.dataset == dataset]


def _last_step(runs: list[Run]) -> int:
    return max((max(run.step, *(e.step for e in run.evaluations), 0) for run in runs), default=1)
