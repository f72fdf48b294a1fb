"""A page as Markdown, for a terminal, a pull request or a README: all its tables and notes; figures are the page's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aspc_fast.report.blocks import Block, Cell, Column, Heading, Note, Notes, Page, Table, letter

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|~!&])")


def markdown_text(page: Page, seen: str) -> str:
    """The whole file; ``seen`` is the last line, which says where the figures are."""
    facts = ", ".join(f"{value} {name}" for value, name in page.facts)
    parts = [f"# {plain(page.over)}", f"{plain(page.title)}: {plain(facts)}."]
    parts += [f"{plain(page.shared)}."] if page.shared else []
    if page.problems:
        parts.append("\n".join(["To know before reading on:", "", *(f"- {plain(p)}" for p in page.problems)]))
    for section in page.sections:
        made = [text for block in section.blocks if (text := _block(block))]
        if made and section.anchor != "runs":
            parts += [f"## {plain(section.title)}", *made]
    return "\n\n".join([*parts, seen]) + "\n"


def plain(text: str) -> str:
    """``text`` with everything escaped that Markdown would read as markup, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"### {plain(block.text)}"
    if isinstance(block, Note):
        return f"**{plain(block.text)}**" if block.kind else plain(block.text)
    if isinstance(block, Notes):
        marks = [f"{letter(i) if block.letters else i + 1}" for i in range(len(block.texts))]
        return "\n".join(f"- [{m}] {plain(text)}" for m, text in zip(marks, block.texts, strict=True))
    if isinstance(block, Table):
        return _table(block)
    return ""  # charts and their legends


def _table(table: Table) -> str:
    """A pipe table, padded so that its source can be read as well."""
    kept = [i for i, column in enumerate(table.columns) if column.axis is None]
    columns = [table.columns[i] for i in kept]
    rows = [[plain(column.title) for column in columns]]
    for row in table.rows:
        if row.kind == "domain":
            rows.append([f"**{plain(row.cells[0].text)}**{_tag(row.cells[0])}", *[""] * (len(columns) - 1)])
        else:
            rows.append([_cell(row.cells[i]) for i in kept])
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(columns))]
    rule = [("-" * (w - 1) + ":") if c.numeric else "-" * w for w, c in zip(widths, columns, strict=True)]
    return "\n".join([_line(rows[0], widths, columns), f"| {' | '.join(rule)} |",
                      *(_line(row, widths, columns) for row in rows[1:])])  # fmt: skip


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    padded = [t.rjust(w) if c.numeric else t.ljust(w) for t, w, c in zip(cells, widths, columns, strict=True)]
    return f"| {' | '.join(padded)} |"


def _cell(cell: Cell) -> str:
    published = ", ".join(plain(" ".join([*numbers, f"[{source}]"])) for *numbers, source in cell.published)
    text = " ".join(plain(part) for part in (cell.text, cell.spread) if part)
    text = f"**{text}**" if cell.strong and text else text
    note = f" {plain(f'[{cell.note}]')}" if cell.note else ""
    published = f"(published {published})" if published else ""
    return " ".join(part for part in (text + note + _tag(cell), published) if part)


def _tag(cell: Cell) -> str:
    return f" ({cell.tag})" if cell.tag else ""
