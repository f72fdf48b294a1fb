"""Runs -> small multiples: one panel per dataset, a thin line per seed and the mean of each variant."""

from __future__ import annotations

import statistics as basic
from collections.abc import Callable, Sequence
from functools import partial

from aspc_fast.report import svg
from aspc_fast.report.effects import Effect, is_number
from aspc_fast.report.model import Folder, Run, Variant
from aspc_fast.report.svg import Chart, Line, Panel
from aspc_fast.report.tables import DomainTable, Row

Points = Sequence[tuple[float, float]]
Figure = tuple[str, Chart]  # caption, drawing
THEORY = {
    "delta_q": "|\u0394Q|: motion of the running mean of Q",
    "bc_sup": "sup BC: largest cloning error of a sample",
    "delta_bc_sup": "sup \u0394BC: largest motion of a sample's cloning error",
    "eq3": "eq3: (\u0394Q)\u00b2 \u00b7 sup BC \u00b7 sup \u0394BC",
}
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
            panel = _panel(f"score of {name}", _of(table, name), order, scores_of)
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


def theory_figures(tables: list[DomainTable], order: list[Variant]) -> list[tuple[str, list[Figure]]]:
    """(title, panels by dataset) of each quantity of the theory that was recorded, one logarithmic scale each."""
    rows = [row for table in tables for row in table.rows]
    found = []
    for name, title in THEORY.items():
        lines = {(row.dataset, row.variant): mean_line(row.runs, partial(_sizes, name)) for row in rows}
        values = [value for line in lines.values() for _, value in line]
        if not values:
            continue
        x, y = svg.steps_axis(_last_step([run for row in rows for run in row.runs])), svg.log_axis(values)
        figures = []
        for dataset in dict.fromkeys(dataset for dataset, _ in lines):
            own = [(v, line) for (d, v), line in lines.items() if d == dataset and line]
            panel = Panel(f"{name} of {dataset}")
            panel.lines = [Line(line, order.index(v), False, f"{v.label}: {line[-1][1]:.3g}") for v, line in own]
            panel.empty = "" if own else "not recorded"
            figures.append((dataset, svg.draw(panel, x, y)))
        found.append((title, figures))
    return found


def effect_figures(effect: Effect) -> list[Figure]:
    """Score and, if known, time against the values of a numeric hyper-parameter; empty for a choice of words."""
    if not all(is_number(v.value) for v in effect.values):
        return []
    at = [float(v.value) for v in effect.values]
    wide = min(at) > 0 and max(at) / min(at) > 20
    x = svg.log_axis(at) if wide else svg.Axis(min(at), max(at), tuple(at) if len(at) < 5 else (at[0], at[-1]))
    shown = {"score": [(a, v.score) for a, v in zip(at, effect.values, strict=True)]}
    timed = [(a, v.seconds) for a, v in zip(at, effect.values, strict=True) if v.seconds]
    shown |= {"s per million updates": timed} if len(timed) > 1 else {}
    figures = []
    for name, points in shown.items():
        y = svg.linear_axis([value for _, value in points], include=(0.0,))
        figures.append((f"{name} against {effect.name}", svg.draw(Panel(name, [Line(points, 0)]), x, y)))
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


def scores_of(run: Run) -> Points:
    """(step, score) of every evaluation."""
    return list({e.step: (e.step, e.score) for e in run.evaluations}.values())  # a final one replaces its step's


def _sizes(name: str, run: Run) -> Points:
    """Absolute values, without zeros, which a logarithmic scale cannot show."""
    return [(step, abs(value)) for step, value in run.series.get(name, []) if value]


def _of(table: DomainTable, dataset: str) -> list[Row]:
    return [row for row in table.rows if row.dataset == dataset]


def _last_step(runs: list[Run]) -> int:
    return max((max(run.step, *(e.step for e in run.evaluations), 0) for run in runs), default=1)
