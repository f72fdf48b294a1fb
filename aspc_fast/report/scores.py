"""The section of scores: the paper's table (datasets down, algorithms across) and, folded, all rows with remarks."""

from __future__ import annotations

from dataclasses import dataclass

from aspc_fast import suite
from aspc_fast.report.blocks import Block, Cell, Column, Note, Notes, Row, Section, Table, letter
from aspc_fast.report.content import Content, one, spread
from aspc_fast.report.model import Variant
from aspc_fast.report.published import Published
from aspc_fast.report.tables import ALL, NOT_COMPARABLE, Average, DomainTable, averages
from aspc_fast.report.tables import Row as Scores

SCORE_NOTE = (
    "Scores are D4RL's normalised scores: 0 is the random policy, 100 the expert. A run's final score is the mean of"
    " its final evaluation (\u201c100 final\u201d: 100 episodes) or, without one, of its last evaluations"
    " (\u201c10 \u00d7 10\u201d: 10 evaluations of 10 episodes); never its best. \u00b1 is the standard deviation over"
    " seeds (divisor n). A diverged run has no final score. Bold: the highest mean of a row. Small, or in"
    " brackets: what is published, with its source's letter; a published average only beside a complete domain."
)
MOST_ACROSS = 24  # algorithms and settings that a reader can compare side by side
TOO_MANY = f"More than {MOST_ACROSS} algorithms and settings do not fit beside each other: they stand below each other."


@dataclass(frozen=True)
class Across:
    """A column of the main table: a variant's scores, or (None) the published numbers of ``algo`` alone; ``published``:
    whether those stand here."""

    variant: Variant | None
    algo: str
    published: bool

    @property
    def column(self) -> Column:
        """Its head."""
        if self.variant is None:
            return Column(f"{Variant(self.algo).label}, published", True, kind="published")
        return Column(self.variant.label, True, kind="score")


def score_section(content: Content) -> Section:
    """The main table, its footnotes and sources, and the folded table of every row."""
    few = len(content.variants) <= MOST_ACROSS
    blocks: list[Block] = [Note(SCORE_NOTE), main_table(content) if few else Note(TOO_MANY)]
    blocks.append(Notes(content.notes) if content.notes else Note("No simulator: nothing was evaluated."))
    if few and any(column.published for column in _across(content)):
        blocks.append(Notes(content.published.sources, letters=True))
    blocks.append(every_row(content))
    return Section("scores", "Scores", blocks)


def main_table(content: Content) -> Table:
    """Datasets down, algorithms across, domain averages, the average over everything; published beside measured."""
    across = _across(content)
    columns = [Column("Dataset", kind="name"), *(entry.column for entry in across)]
    rows = []
    for table in content.tables:
        foreign = all(row.not_comparable for row in table.rows if row.mean is not None)
        measured = any(row.mean is not None for row in table.rows)
        rows.append(Row([Cell(table.domain, tag=NOT_COMPARABLE if foreign and measured else "")], kind="domain"))
        for name in table.datasets:
            found = {row.variant: row for row in table.rows if row.dataset == name}
            rows.append(_dataset(name, found, across, content, not foreign))
        if len(table.datasets) > 1:
            ids = {row.id for row in suite.SUITE if row.domain == table.domain}
            complete = bool(ids) and ids <= set(table.datasets)
            rows.append(_mean(table.averages, table.datasets, table.domain if complete else "", across, content))
    if len(content.tables) > 1:
        datasets = [name for table in content.tables for name in table.datasets]
        every = averages([row for table in content.tables for row in table.rows])
        scope = ALL if set(suite.BY_ID) <= set(datasets) else ""
        rows.append(_mean(every, datasets, scope, across, content, "all "))
    return Table("scores", columns, rows)


def every_row(content: Content) -> Table:
    """One row per dataset and algorithm: seeds, how it was measured, remarks; open where the main table tells less."""
    columns = [
        Column("Dataset", kind="name"),
        Column("Algorithm"),
        Column("Score", True, kind="score"),
        Column("Seeds", True),
    ]
    columns += [Column("Measured on"), Column("Remarks", kind="remarks")]
    rows = []
    for row in (row for table in content.tables for row in table.rows):
        tag = NOT_COMPARABLE if row.not_comparable and row.mean is not None else ""
        score = Cell(one(row.mean), spread(row.spread), _note(row), tag)
        cells = [Cell(row.dataset, rows=row.span), Cell(row.variant.label), score, Cell(row.seeds)]
        cells += [Cell(row.measured_on), Cell("; ".join(m for m in row.marks if m != NOT_COMPARABLE), warn=True)]
        rows.append(Row(cells, first=row.span > 0))
    folded = "Every dataset and algorithm: seeds, how it was measured, remarks"
    open_ = not 1 < len(content.variants) <= MOST_ACROSS
    return Table("every dataset and algorithm", columns, rows, folded, open_)


def _across(content: Content) -> list[Across]:
    """The columns: published numbers stand in an algorithm's own, or beside its several settings."""
    found: list[Across] = []
    for algo in dict.fromkeys(variant.algo for variant in content.variants):
        mine = [variant for variant in content.variants if variant.algo == algo]
        known = any(_published_scores(content, table, algo) for table in content.tables)
        found += [Across(variant, algo, known and len(mine) == 1) for variant in mine]
        found += [Across(None, algo, True)] if known and len(mine) > 1 else []
    return found


def _published_scores(content: Content, table: DomainTable, algo: str) -> bool:
    ids = {row.id for row in suite.SUITE if row.domain == table.domain}
    whole = bool(ids) and ids <= set(table.datasets) and bool(content.published.averages(algo, table.domain))
    return whole or any(content.published.scores(algo, name) for name in table.datasets)


def _dataset(name: str, found: dict[Variant, Scores], across: list[Across], content: Content, tag: bool) -> Row:
    measured = [row for row in found.values() if row.mean is not None]
    best = max((row.mean for row in measured if row.mean is not None), default=None)
    notes = {row.note for row in measured if row.note is not None}
    shared = str(min(notes) + 1) if len(notes) == 1 else ""
    cells = [Cell(name, note=shared, tag=NOT_COMPARABLE * (tag and any(row.not_comparable for row in measured)))]
    for entry in across:
        cell = Cell()
        if entry.variant in found:
            row = found[entry.variant]
            cell = Cell(one(row.mean), spread(row.spread), "" if shared else _note(row))
            cell.tag = f"{row.seeds} seeds" if "of" in row.seeds else ""
            cell.strong = len(measured) > 1 and row.mean is not None and row.mean == best
        cell.published = _published(content.published.scores(entry.algo, name)) if entry.published else []
        cells.append(cell)
    return Row(cells)


def _note(row: Scores) -> str:
    return str(row.note + 1) if row.note is not None and row.mean is not None else ""


def _mean(
    means: list[Average], datasets: list[str], published: str, across: list[Across], content: Content, word: str = ""
) -> Row:
    by_variant = {average.variant: average for average in means}
    most = max((a.mean for a in means if a.datasets == len(datasets)), default=None)
    cells = [Cell(f"Mean of {word}{len(datasets)}", tag=NOT_COMPARABLE if any(a.not_comparable for a in means) else "")]
    for entry in across:
        cell = Cell()
        if entry.variant in by_variant:
            average = by_variant[entry.variant]
            some = average.datasets < len(datasets)
            cell = Cell(one(average.mean), tag=f"{average.datasets} of {len(datasets)}" if some else "")
            cell.strong = len(by_variant) > 1 and not some and average.mean == most
        known = entry.published and published
        cell.published = _published(content.published.averages(entry.algo, published)) if known else []
        cells.append(cell)
    return Row(cells, True, "mean")


def _published(numbers: list[Published]) -> list[tuple[str, str, str]]:
    return [(one(number.score), spread(number.spread), letter(number.source)) for number in numbers]
