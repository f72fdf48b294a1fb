"""The page of a comparison: score differences with intervals, speed, what was different, curves over each other."""

from __future__ import annotations

from aspc_fast.report import svg
from aspc_fast.report.blocks import Block, Cell, Column, Figures, Heading, Legend, Note, Page, Row, Section, Table
from aspc_fast.report.compare import Compared, Difference, rate
from aspc_fast.report.content import interval, one
from aspc_fast.report.figures import mean_line, scores_of
from aspc_fast.report.model import Folder, Run
from aspc_fast.report.sections import folder_table
from aspc_fast.report.svg import Line, Panel

SCORE_NOTE = (
    "The same runs on both sides, matched by dataset, algorithm, setting and seed. B \u2212 A is the mean of their"
    " differences in final score, with a 95 % interval from 10,000 bootstrap resamples of pairs within datasets (none"
    " with one seed). P(B > A): for a random run of each on the same dataset. Equal: runs whose evaluations are the"
    " same numbers bit for bit."
)
CURVE_NOTE = "Normalised score over training steps, the mean over the seeds that both sides have."


def compare_page(compared: Compared) -> Page:
    """The whole page; A is the first folder, B the second."""
    same = sum(pair.same for pair in compared.pairs)
    facts = [(str(len(compared.pairs)), "runs matched"), (str(same), "equal bit for bit")]
    facts += [(str(len(runs)), f"only in {side}") for side, runs in (("A", compared.only_a), ("B", compared.only_b))]
    before, after = rate(compared.a), rate(compared.b)
    facts += [(f"{after / before:.2f} \u00d7", "speed of B over A")] if before and after else []
    changed = [f"{name}: {a} in A, {b} in B ({count} runs)" for name, a, b, count in compared.changed]
    return Page(
        over="aspc_fast comparison",
        title=f"A: {_title(compared.a)} \u00b7 B: {_title(compared.b)}",
        facts=facts,
        problems=[*changed, *compared.repeated],
        sections=[_scores(compared), _curves(compared), _speed(compared), _unmatched(compared)],
    )


def _scores(compared: Compared) -> Section:
    if not compared.by_dataset:
        return Section("scores", "Scores", [Note("No run has a final score on both sides.", "strong")])
    entries = [*compared.by_dataset, *compared.overall]
    values = [v for d in entries for v in (d.mean, *(d.interval or ()))]
    axis = svg.linear_axis(values, ticks=4, include=(0.0,))
    blocks: list[Block] = [Note(SCORE_NOTE)]
    for variant in dict.fromkeys(d.variant for d in entries):
        columns = [Column("Dataset", kind="name"), Column("A", True), Column("B", True), Column("B \u2212 A", True)]
        columns += [Column("95 % interval", True), Column("", axis=axis), Column("P(B > A)", True)]
        columns += [Column("Runs", True), Column("Equal", True)]
        rows = [_row(d, axis) for d in compared.by_dataset if d.variant == variant]
        if len(rows) > 1:
            total = next(d for d in compared.overall if d.variant == variant)
            rows.append(_row(total, axis, f"Mean of {total.datasets}"))
        blocks += [Heading(variant.label), Table(f"{variant.label}: scores", columns, rows)]
    return Section("scores", "Scores", blocks)


def _row(d: Difference, axis: svg.Axis, name: str = "") -> Row:
    cells = [Cell(name or d.scope), Cell(one(d.a)), Cell(one(d.b)), Cell(one(d.mean)), Cell(interval(d.interval))]
    cells += [Cell(whisker=svg.whisker(d.mean, d.interval, axis, 0, 0.0)), Cell(f"{d.better:.2f}"), Cell(str(d.runs))]
    return Row([*cells, Cell(str(d.same))], bool(name), "mean" if name else "")


def _curves(compared: Compared) -> Section:
    groups: dict[tuple[str, str], tuple[list[Run], list[Run]]] = {}
    for pair in compared.pairs:
        sides = groups.setdefault((pair.a.key, pair.a.variant.label), ([], []))
        sides[0].append(pair.a)
        sides[1].append(pair.b)
    several = len({label for _, label in groups}) > 1
    x = svg.steps_axis(max(run.step for pair in compared.pairs for run in (pair.a, pair.b)))
    charts = []
    for (dataset, label), sides in groups.items():
        lines = [(place, mean_line(runs, scores_of)) for place, runs in enumerate(sides)]
        title = f"{dataset}, {label}" if several else dataset
        panel = Panel(f"score of {title}")
        panel.lines = [Line(line, place, False, f"{'AB'[place]}: {one(line[-1][1])}") for place, line in lines if line]
        panel.empty = "" if panel.lines else "no evaluation"
        y = svg.linear_axis([value for _, line in lines for _, value in line], include=(0.0,))
        charts.append((title, svg.draw(panel, x, y)))
    return Section("curves", "Learning curves", [Note(CURVE_NOTE), Legend(["A", "B"]), Figures(charts)])


def _speed(compared: Compared) -> Section:
    blocks: list[Block] = []
    for side, folders in (("A", compared.a), ("B", compared.b)):
        for folder in folders:
            blocks += [Heading(f"{side}: {folder.name}"), folder_table(folder)]
    return Section("speed", "Speed, machine, commit", blocks)


def _unmatched(compared: Compared) -> Section:
    columns = [Column("Dataset", kind="name"), Column("Algorithm"), Column("Seed", True), Column("Only in")]
    rows = [
        Row([Cell(run.key), Cell(run.variant.label), Cell(str(run.seed)), Cell(side)])
        for side, runs in (("A", compared.only_a), ("B", compared.only_b))
        for run in runs
    ]
    if not rows:
        return Section("unmatched", "Unmatched runs", [Note("Every run of either side has its partner.")])
    return Section(
        "unmatched", "Unmatched runs", [Table("unmatched", columns, rows, f"{len(rows):,} runs", len(rows) < 20)]
    )


def _title(folders: list[Folder]) -> str:
    names = folders[0].name if len(folders) == 1 else f"{len(folders)} folders"
    commits = ", ".join(dict.fromkeys(folder.commit[:12] for folder in folders if folder.commit))
    return f"{names} ({commits})" if commits else names
