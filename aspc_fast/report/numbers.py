"""The page's tables of scores, interquartile means and probabilities of improvement."""

from __future__ import annotations

from html import escape

from aspc_fast.report import content as said
from aspc_fast.report import markup, svg
from aspc_fast.report.content import Content, one
from aspc_fast.report.model import Variant
from aspc_fast.report.tables import NOT_COMPARABLE, Aggregate, Average, Comparison, DomainTable, Row


def scores(content: Content) -> str:
    """A table per domain, with what its scores were measured in."""
    parts = [f'<p class="note">{escape(said.SCORE_NOTE)}</p>']
    for table in content.tables:
        marked = any(_marks(row) for row in table.rows)
        head: list[str | tuple[str, int]] = ["Dataset", "Algorithm", ("Score", 2), "Seeds", "Measured on"]
        head += ["Paper\u2019s ASPC", *[""] * marked]
        rows = [_row(row, marked) for row in table.rows]
        rows += [_average(average, i, marked) for i, average in enumerate(table.averages)]
        parts.append(f"<h3>{escape(table.domain)}</h3>")
        parts.append(markup.table(f"{table.domain} scores", head, rows, numeric=(3, 5), kind="scores"))
        parts.append(_notes(table))
    parts += [f"<p><strong>{escape(sentence)}</strong></p>" for sentence in content.overall]
    return "".join(parts)


def _row(row: Row, marked: bool) -> str:
    spread = "<span>" + (f"\u00b1 {one(row.spread)}" if row.spread is not None else "") + "</span>"
    sup = f"<sup>{row.note + 1}</sup>" if row.note is not None and row.mean is not None else ""
    tag = markup.TAG if row.not_comparable and row.mean is not None else ""
    name = f'<th scope="row" class="name" rowspan="{row.span}">{escape(row.dataset)}</th>' if row.span else ""
    marks = f'<td class="mark">{escape(_marks(row))}</td>' if marked else ""
    return (
        f'<tr class="{"first" if row.span else ""}">{name}<td class="algo">{escape(row.variant.label)}</td>'
        f'<td class="num">{one(row.mean)}</td><td class="pm">{spread}{sup}{tag}</td>'
        f'<td class="num">{escape(row.seeds)}</td><td>{escape(row.measured_on)}</td>'
        f'<td class="num">{one(row.paper) if row.paper is not None else ""}</td>{marks}</tr>'
    )


def _marks(row: Row) -> str:
    return "; ".join(mark for mark in row.marks if mark != NOT_COMPARABLE)


def _average(average: Average, place: int, marked: bool) -> str:
    tag = markup.TAG if average.not_comparable else ""
    paper = one(average.paper) if average.paper is not None else ""
    return (
        f'<tr class="mean{"" if place else " first"}"><th scope="row" class="name">Mean of {average.datasets}</th>'
        f'<td class="algo">{escape(average.variant.label)}</td><td class="num">{one(average.mean)}</td>'
        f'<td class="pm">{tag}</td><td></td><td></td><td class="num">{paper}</td>{"<td></td>" * marked}</tr>'
    )


def _notes(table: DomainTable) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return f'<ol class="notes">{items}</ol>' if items else '<p class="note">No simulator: nothing was evaluated.</p>'


def aggregates(content: Content) -> str:
    """Interquartile means with their intervals, and the probability of improvement between algorithms."""
    parts = []
    if content.aggregates:
        values = [v for a in content.aggregates for v in (a.value, *(a.interval or ()))]
        axis = svg.linear_axis(values, ticks=4, include=(0.0,))
        zeros = any(a.with_zeros is not None for a in content.aggregates)
        head = ["Scope", "Algorithm", "IQM", "95 % interval", svg.whisker_scale(axis), "Runs", "Datasets"]
        head += ["IQM, diverged as 0"] if zeros else []
        scopes = [a.scope for a in content.aggregates]
        rows = [
            _aggregate(a, axis, content.variants, i == 0 or scopes[i - 1] != a.scope, zeros)
            for i, a in enumerate(content.aggregates)
        ]
        parts += [
            f'<p class="note">{escape(said.IQM_NOTE)}</p>',
            markup.table("IQM", head, rows, numeric=(2, 3, 5, 6, 7)),
        ]
        parts.append(f'<p class="note">{escape(content.unequal)}</p>' if content.unequal else "")
    if content.comparisons:
        axis = svg.Axis(0.0, 1.0, (0.0, 0.5, 1.0))
        head = ["Scope", "X over Y", "P(X &gt; Y)", "95 % interval", svg.whisker_scale(axis), "Datasets"]
        scopes = [c.scope for c in content.comparisons]
        rows = [
            _comparison(c, axis, content.variants, i == 0 or scopes[i - 1] != c.scope)
            for i, c in enumerate(content.comparisons)
        ]
        parts += ["<h3>Probability of improvement</h3>", f'<p class="note">{escape(said.IMPROVEMENT_NOTE)}</p>']
        parts.append(markup.table("Probability of improvement", head, rows, numeric=(2, 3, 5)))
    return "".join(parts)


def _aggregate(entry: Aggregate, axis: svg.Axis, order: list[Variant], first: bool, zeros: bool) -> str:
    style = order.index(entry.variant)
    interval = f"{one(entry.interval[0])} to {one(entry.interval[1])}" if entry.interval else "\u2013"
    last = f'<td class="num">{one(entry.with_zeros) if entry.with_zeros is not None else ""}</td>' if zeros else ""
    return (
        f'<tr class="{"first" if first else ""}"><th scope="row">{escape(entry.scope) if first else ""}</th>'
        f"<td>{svg.swatch(style)}{escape(entry.variant.label)}</td>"
        f'<td class="num">{one(entry.value)}</td><td class="num">{interval}</td>'
        f"<td>{svg.whisker(entry.value, entry.interval, axis, style, None)}</td>"
        f'<td class="num">{entry.runs}</td><td class="num">{entry.datasets}</td>{last}</tr>'
    )


def _comparison(entry: Comparison, axis: svg.Axis, order: list[Variant], first: bool) -> str:
    interval = f"{entry.interval[0]:.2f} to {entry.interval[1]:.2f}" if entry.interval else "\u2013"
    drawing = svg.whisker(entry.probability, entry.interval, axis, order.index(entry.x), 0.5)
    return (
        f'<tr class="{"first" if first else ""}"><th scope="row">{escape(entry.scope) if first else ""}</th>'
        f"<td>{escape(entry.x.label)} over {escape(entry.y.label)}</td>"
        f'<td class="num">{entry.probability:.2f}</td><td class="num">{interval}</td><td>{drawing}</td>'
        f'<td class="num">{entry.datasets}</td></tr>'
    )
