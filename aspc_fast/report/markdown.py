"""report.md: the same tables for a terminal, a pull request or a README; figures are the page's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aspc_fast.report import content as said
from aspc_fast.report.content import Content, one
from aspc_fast.report.tables import NOT_COMPARABLE, DomainTable, Row

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|~!&])")


def markdown_text(content: Content) -> str:
    """The whole file."""
    facts = ", ".join(f"{value} {name}" for value, name in content.facts)
    parts = [f"# {plain(said.TITLE)}", f"{plain(', '.join(f.name for f in content.folders))}: {facts}."]
    if content.problems:
        parts.append("\n".join(["To know before reading on:", "", *(f"- {plain(p)}" for p in content.problems)]))
    parts += ["## Scores", said.SCORE_NOTE]
    for table in content.tables:
        parts += [f"### {plain(table.domain)}", _scores(table)]
        parts += ["\n".join(f"{i}. {plain(note)}" for i, note in enumerate(table.notes, 1))] if table.notes else []
    parts += [f"**{plain(sentence)}**" for sentence in content.overall]
    if content.aggregates:
        parts += ["## Across datasets", said.IQM_NOTE, _aggregates(content)]
        parts += [plain(content.unequal)] if content.unequal else []
    if content.comparisons:
        parts += ["### Probability of improvement", said.IMPROVEMENT_NOTE, _comparisons(content)]
    parts.append("## Speed and memory")
    for folder in content.folders:
        rows = [[plain(name), plain(value)] for name, value in said.folder_rows(folder)]
        parts += [f"### {plain(folder.name)}", _table(["", ""], rows, "ll")]
    parts.append("Curves: index.html. Every run: report.csv.")
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """``text`` with everything escaped that Markdown would read as markup, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _scores(table: DomainTable) -> str:
    rows = [_row(row) for row in table.rows]
    for average in table.averages:
        mark = " (not comparable)" if average.not_comparable else ""
        paper = one(average.paper) if average.paper is not None else ""
        name = f"**Mean of {average.datasets} datasets**"
        rows.append([name, plain(average.variant.label), f"**{one(average.mean)}**{mark}", "", "", "", paper, ""])
    head = ["dataset", "algorithm", "score", "\u00b1", "seeds", "measured on", "paper's ASPC", "remarks"]
    return _table(head, rows, "llrrrlrl")


def _row(row: Row) -> list[str]:
    mark = " (not comparable)" if row.not_comparable and row.mean is not None else ""
    note = f" [{row.note + 1}]" if row.note is not None and row.mean is not None else ""
    return [
        plain(row.dataset),
        plain(row.variant.label),
        f"{one(row.mean)}{mark}{plain(note)}".rstrip(),
        one(row.spread) if row.spread is not None else "",
        row.seeds,
        row.measured_on,
        one(row.paper) if row.paper is not None else "",
        plain("; ".join(m for m in row.marks if m != NOT_COMPARABLE)),
    ]


def _aggregates(content: Content) -> str:
    rows = [
        [
            plain(a.scope),
            plain(a.variant.label),
            one(a.value),
            f"{one(a.interval[0])} to {one(a.interval[1])}" if a.interval else "\u2013",
            str(a.runs),
            str(a.datasets),
            one(a.with_zeros) if a.with_zeros is not None else "",
        ]
        for a in content.aggregates
    ]
    head = ["scope", "algorithm", "IQM", "95 % interval", "runs", "datasets", "IQM, diverged as 0"]
    cut = 7 if any(row[6] for row in rows) else 6
    return _table(head[:cut], [row[:cut] for row in rows], "llrrrrr")


def _comparisons(content: Content) -> str:
    rows = [
        [
            plain(c.scope),
            plain(f"{c.x.label} over {c.y.label}"),
            f"{c.probability:.2f}",
            f"{c.interval[0]:.2f} to {c.interval[1]:.2f}" if c.interval else "\u2013",
            str(c.datasets),
        ]
        for c in content.comparisons
    ]
    return _table(["scope", "X over Y", "P(X > Y)", "95 % interval", "datasets"], rows, "llrrr")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A pipe table, padded so that its source can be read as well."""
    widths = [max(3, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.rjust(w) if a == "r" else c.ljust(w) for c, w, a in zip(cells, widths, align, strict=False)]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (w - 1) + ":") if a == "r" else "-" * w for w, a in zip(widths, align, strict=False)]
    return "\n".join([line(head), f"| {' | '.join(rule)} |", *(line(row) for row in rows)])
