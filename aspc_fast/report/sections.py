"""The sections after the scores: across datasets, curves, alpha, theory, what was varied, speed, every run."""

from __future__ import annotations

from typing import TypeVar

from aspc_fast.report import content as said
from aspc_fast.report import figures, svg
from aspc_fast.report.blocks import Block, Cell, Column, Figures, Heading, Legend, Note, Page, Row, Section, Table
from aspc_fast.report.content import Content, interval, one
from aspc_fast.report.effects import is_number
from aspc_fast.report.model import Folder, not_comparable
from aspc_fast.report.scores import score_section
from aspc_fast.report.tables import ALL, NOT_COMPARABLE

T = TypeVar("T")
IQM_NOTE = (
    "Interquartile mean of final scores over runs and datasets, with 95 % intervals from 10,000 stratified bootstrap"
    " resamples over runs (rliable's definitions). An interval needs two seeds of some dataset; with few seeds it is"
    " too narrow."
)
IMPROVEMENT_NOTE = (
    "Probability that a random run of X scores higher than a random run of Y on the same dataset, averaged over the"
    " datasets both have; a tie counts one half. Of more than four, only the one with most runs is"
    " compared with the others."
)
CURVE_NOTE = (
    "Normalised score over training steps; thin: seeds, thick: their mean; dotted: the random policy (0) and the"
    " expert (100); a cross: diverged. Panels of a domain share both axes."
)
ALPHA_NOTE = "The weight of the RL term over training steps, on one logarithmic scale; large: trusts Q, small: clones."
THEORY_NOTE = (
    "What ASPC's outer loss is made of, over training steps, logarithmic, means over seeds and logging intervals: how"
    " far the running mean of Q moved at an alpha update, the largest cloning error of a sample, the largest motion of"
    " such an error, and eq3 = (ΔQ)² · sup BC · sup ΔBC. The paper bounds what a step gains in return"
    " by (ΔQ − Φ) / (1 − γ) from below; Φ is a function of sup BC, sup ΔBC and Lipschitz"
    " constants that nobody measures, so what it is made of is drawn, and not Φ."
)
EFFECT_NOTE = (
    "Each value of what a sweep varied: mean score over the datasets that all its values have, other settings averaged"
    " over, with its 95 % bootstrap interval over seeds; and how long a million updates of one run took."
)


def report_page(content: Content) -> Page:
    """The whole report; sections without content are left out."""
    sections = [score_section(content), aggregates(content), curves(content), alpha(content), theory(content)]
    sections += [varied(content), speed(content), every_run(content)]
    names = [folder.name for folder in content.folders]
    return Page(
        over=said.TITLE,
        title=names[0] if len(names) == 1 else f"{len(names)} results folders",
        facts=content.facts,
        problems=[p for p in content.problems if not p.endswith(f": {NOT_COMPARABLE}")],  # that stands beside numbers
        sections=[section for section in sections if section.blocks],
        crowded=len(content.variants) > 3,
        shared=f"All runs share {content.shared}" if content.shared else "",
    )


def aggregates(content: Content) -> Section:
    """Interquartile means with their intervals, and the probability of improvement between algorithms."""
    blocks: list[Block] = []
    if content.aggregates:
        values = [v for a in content.aggregates for v in (a.value, *(a.interval or ()))]
        axis = svg.linear_axis(values, ticks=4, include=(0.0,))
        zeros = any(a.with_zeros is not None for a in content.aggregates)
        columns = [
            Column("Scope", kind="name"),
            Column("Algorithm"),
            Column("IQM", True),
            Column("95 % interval", True),
        ]
        columns += [Column("", axis=axis), Column("Runs", True), Column("Datasets", True)]
        columns += [Column("IQM, diverged as 0", True)] if zeros else []
        rows = []
        for first, a in _groups(content.aggregates):
            style = content.variants.index(a.variant)
            cells = [Cell(a.scope if first else ""), Cell(a.variant.label, style=style), Cell(one(a.value))]
            cells += [Cell(interval(a.interval)), Cell(whisker=svg.whisker(a.value, a.interval, axis, style))]
            cells += [Cell(str(a.runs)), Cell(str(a.datasets))]
            cells += [Cell(one(a.with_zeros) if a.with_zeros is not None else "")] if zeros else []
            rows.append(Row(cells, first))
        blocks += [Note(IQM_NOTE), Table("IQM", columns, rows)]
        blocks += [Note(content.unequal)] if content.unequal else []
    if content.comparisons:
        axis = svg.Axis(0.0, 1.0, (0.0, 0.5, 1.0))
        columns = [Column("Scope", kind="name"), Column("X over Y"), Column("P(X > Y)", True)]
        columns += [Column("95 % interval", True), Column("", axis=axis), Column("Datasets", True)]
        rows = []
        for first, c in _groups(content.comparisons):
            drawn = svg.whisker(c.probability, c.interval, axis, content.variants.index(c.x), 0.5)
            cells = [
                Cell(c.scope if first else ""),
                Cell(f"{c.x.label} over {c.y.label}"),
                Cell(f"{c.probability:.2f}"),
            ]
            cells += [Cell(interval(c.interval, 2)), Cell(whisker=drawn), Cell(str(c.datasets))]
            rows.append(Row(cells, first))
        heading = Heading("Probability of improvement")
        blocks += [heading, Note(IMPROVEMENT_NOTE), Table("probability of improvement", columns, rows)]
    return Section("aggregates", "Across datasets", blocks)


def curves(content: Content) -> Section:
    """Learning curves by domain."""
    blocks: list[Block] = [Note(CURVE_NOTE), _legend(content)]
    for domain, drawn in figures.score_figures(content.tables, content.variants):
        blocks += [Heading(domain), Figures(drawn)]
    return Section("curves", "Learning curves", blocks)


def alpha(content: Content) -> Section:
    """Trajectories of alpha."""
    drawn = figures.alpha_figures(content.tables, content.variants)
    return Section("alpha", "Alpha", [Note(ALPHA_NOTE), _legend(content), Figures(drawn)] if drawn else [])


def theory(content: Content) -> Section:
    """The quantities of the paper's theory that ASPC's runs record."""
    drawn = figures.theory_figures(content.tables, content.variants)
    folded: list[Block] = [Figures(charts, folded=title) for title, charts in drawn]
    return Section(
        "theory", "Quantities of the theory", [Note(THEORY_NOTE), _legend(content), *folded] if drawn else []
    )


def varied(content: Content) -> Section:
    """Score and time against each hyper-parameter that was varied."""
    blocks: list[Block] = []
    for effect in content.effects:
        axis = svg.linear_axis([v for e in effect.values for v in (e.score, *(e.interval or ()))], include=(0.0,))
        columns = [Column(effect.name, True), Column("Score", True), Column("95 % interval", True)]
        columns += [Column("", axis=axis), Column("Runs", True), Column("s per million updates of a run", True)]
        rows = []
        for e in effect.values:
            cells = [Cell(f"{e.value:g}" if is_number(e.value) else str(e.value)), Cell(one(e.score))]
            cells += [Cell(interval(e.interval)), Cell(whisker=svg.whisker(e.score, e.interval, axis, 0))]
            rows.append(Row([*cells, Cell(str(e.runs)), Cell(f"{e.seconds:,.0f}" if e.seconds else "\u2013")]))
        where = f"{effect.datasets} dataset{'s' * (effect.datasets > 1)}"
        blocks += [Heading(f"{effect.name} of {effect.algorithm}, {where}"), Table(effect.name, columns, rows)]
        drawn = figures.effect_figures(effect)
        blocks += [Figures(drawn)] if drawn else []
    return Section("varied", "What was varied", [Note(EFFECT_NOTE), *blocks] if blocks else [])


def speed(content: Content) -> Section:
    """What is known of each folder, and its updates per second."""
    blocks: list[Block] = []
    for folder in content.folders:
        blocks += [Heading(folder.name)] if len(content.folders) > 1 else []
        blocks.append(folder_table(folder))
    drawn = figures.speed_figures(content.folders)
    if drawn:
        blocks += [Note("Updates per second over training steps, all runs of a population together."), Figures(drawn)]
    return Section("speed", "Speed and memory", blocks)


def folder_table(folder: Folder) -> Table:
    """Speed, memory, machine, commit and command of one results folder."""
    rows = [Row([Cell(name), Cell(value)]) for name, value in said.folder_rows(folder)]
    return Table(f"{folder.name}: speed and memory", [Column("", kind="name"), Column("", kind="wide")], rows)


def every_run(content: Content) -> Section:
    """One row per run, folded."""
    columns = [Column("Dataset", kind="name"), Column("Algorithm"), Column("Seed", True), Column("State")]
    columns += [Column("Step", True), Column("Final score", True), Column("From"), Column("Alpha", True)]
    several = len(content.folders) > 1
    columns += [Column("Folder")] if several else []
    rows = []
    for run in (run for table in content.tables for row in table.rows for run in row.runs):
        final = run.final_score
        tag = NOT_COMPARABLE if final and not_comparable(run.measured_in[1]) else ""
        cells = [Cell(run.key), Cell(run.variant.label), Cell(str(run.seed)), Cell(run.state, warn=run.state != "done")]
        cells += [Cell(f"{run.step:,}"), Cell(one(final.score if final else None)), Cell(run.score_source, tag=tag)]
        cells += [Cell(f"{run.alphas[-1][1]:.3g}" if run.alphas else ""), *([Cell(run.folder)] if several else [])]
        rows.append(Row(cells))
    return Section("runs", "Every run", [Table("every run", columns, rows, f"{len(rows):,} runs, one row each")])


def _legend(content: Content) -> Legend:
    return Legend([variant.label for variant in content.variants])


def _groups(entries: list[T]) -> list[tuple[bool, T]]:
    """Each entry, and whether its scope is another than that of the one before."""
    scopes = [getattr(entry, "scope", ALL) for entry in entries]
    return [(i == 0 or scopes[i - 1] != scopes[i], entry) for i, entry in enumerate(entries)]
