"""The pieces of the page that several sections use."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from aspc_fast.report import svg
from aspc_fast.report.model import Variant

TAG = '<span class="tag">not comparable</span>'


def legend(order: list[Variant]) -> str:
    """Line samples with the variants' names."""
    return (
        '<div class="legend">'
        + "".join(f"<span>{svg.swatch(i)}{escape(v.label)}</span>" for i, v in enumerate(order))
        + "</div>"
    )


def multiples(drawn: Sequence[tuple[str, str]]) -> str:
    """A grid of (caption, drawing); captions are escaped here."""
    cells = "".join(f"<figure><figcaption>{escape(name)}</figcaption>{drawing}</figure>" for name, drawing in drawn)
    return f'<div class="multiples">{cells}</div>'


def table(
    label: str, head: Sequence[str | tuple[str, int]], rows: Sequence[str], numeric: Sequence[int] = (), kind: str = ""
) -> str:
    """A table in a box of its own that scrolls sideways, by keyboard too; ``head`` is markup, ``numeric`` by column."""
    cells = []
    for column, entry in enumerate(head):
        text, span = entry if isinstance(entry, tuple) else (entry, 1)
        side = ' class="num"' if column in numeric and span == 1 else ""
        wide = f' colspan="{span}"' if span > 1 else ""
        cells.append(f'<th scope="col"{side}{wide}>{text}</th>')
    top = f"<thead><tr>{''.join(cells)}</tr></thead>" if cells else ""
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
    return f'{box}<table class="{kind}">{top}<tbody>{"".join(rows)}</tbody></table></div>'
