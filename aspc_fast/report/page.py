"""index.html: one file, no script, nothing to load; inline SVG follows the reader's light or dark setting."""

from __future__ import annotations

from html import escape

from aspc_fast.report import content as said
from aspc_fast.report import figures, markup
from aspc_fast.report.content import Content, one
from aspc_fast.report.model import not_comparable
from aspc_fast.report.numbers import aggregates, scores
from aspc_fast.report.style import CSS

# What a results folder says lands in this page, so the page may not load or run anything, whatever a name contains.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page_text(content: Content) -> str:
    """The page, well-formed as XML too."""
    sections = [
        ("scores", "Scores", scores(content)),
        ("aggregates", "Across datasets", aggregates(content)),
        ("curves", "Learning curves", _curves(content)),
        ("alpha", "Alpha", _alpha(content)),
        ("speed", "Speed and memory", _speed(content)),
        ("runs", "Every run", _runs(content)),
    ]
    sections = [entry for entry in sections if entry[2]]
    crowd = "many" if len(content.variants) > 3 else "few"
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in sections)
    body = "".join(
        f'<section id="{anchor}" class="{crowd}"><h2>{title}</h2>{html}</section>' for anchor, title, html in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(said.TITLE)}</title><style>{CSS}</style></head><body><main>"
        f'<header><p class="over">{escape(said.TITLE)}</p><h1>{escape(_title(content))}</h1>'
        f"{_facts(content)}{_problems(content)}<nav>{links}</nav></header>"
        f"{body}</main></body></html>\n"
    )


def _title(content: Content) -> str:
    names = [folder.name for folder in content.folders]
    return names[0] if len(names) == 1 else f"{len(names)} results folders"


def _facts(content: Content) -> str:
    facts = "".join(f"<li><b>{escape(value)}</b><span>{escape(name)}</span></li>" for value, name in content.facts)
    return f'<ul class="facts">{facts}</ul>'


def _problems(content: Content) -> str:
    problems = [p for p in content.problems if not p.endswith(": not comparable")]  # those stand beside their numbers
    if not problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    if len(problems) > 8:
        items = f"<li>{len(problems)} remarks<details><summary>show them</summary><ul>{items}</ul></details></li>"
    return f'<div class="alert" role="note"><strong>To know before reading on</strong><ul>{items}</ul></div>'


def _curves(content: Content) -> str:
    parts = [
        '<p class="note">Normalised score over training steps; thin: seeds, thick: their mean; dotted: the random'
        " policy (0) and the expert (100); a cross: diverged. Panels of a domain share both axes.</p>",
        markup.legend(content.variants),
    ]
    for domain, drawn in figures.score_figures(content.tables, content.variants):
        parts.append(f"<h3>{escape(domain)}</h3>{markup.multiples(drawn)}")
    return "".join(parts)


def _alpha(content: Content) -> str:
    drawn = figures.alpha_figures(content.tables, content.variants)
    if not drawn:
        return ""
    note = "The weight of the RL term over training steps, on one logarithmic scale; large: trusts Q, small: clones."
    return f'<p class="note">{note}</p>{markup.legend(content.variants)}{markup.multiples(drawn)}'


def _speed(content: Content) -> str:
    parts = []
    for folder in content.folders:
        parts.append(f"<h3>{escape(folder.name)}</h3>" if len(content.folders) > 1 else "")
        rows = [
            f'<tr><th scope="row">{escape(name)}</th><td class="wide">{_code(name, value)}</td></tr>'
            for name, value in said.folder_rows(folder)
        ]
        parts.append(markup.table(f"{folder.name}: speed and memory", [], rows))
    drawn = figures.speed_figures(content.folders)
    if drawn:
        note = "Updates per second over training steps, all runs of a population together."
        parts.append(f'<p class="note">{note}</p>{markup.multiples(drawn)}')
    return "".join(parts)


def _code(name: str, value: str) -> str:
    return f"<code>{escape(value)}</code>" if name in ("command", "commit") else escape(value)


def _runs(content: Content) -> str:
    head = ["Dataset", "Algorithm", "Seed", "State", "Step", "Final score", "From", "Alpha"]
    head += ["Folder"] if len(content.folders) > 1 else []
    rows = []
    for run in (run for table in content.tables for row in table.rows for run in row.runs):
        final = run.final_score
        state = f'<span class="mark">{run.state}</span>' if run.state != "done" else run.state
        source = final.source if final else "diverged" if run.state == "diverged" else "not evaluated"
        tag = markup.TAG if final and not_comparable(run.measured_in[1]) else ""
        alpha = f"{run.alphas[-1][1]:.3g}" if run.alphas else ""
        rows.append(
            f'<tr><th scope="row">{escape(run.key)}</th><td>{escape(run.variant.label)}</td>'
            f'<td class="num">{run.seed}</td><td>{state}</td><td class="num">{run.step:,}</td>'
            f'<td class="num">{one(final.score if final else None)}</td><td>{escape(source)}{tag}</td>'
            f'<td class="num">{alpha}</td>' + (f"<td>{escape(run.folder)}</td>" if len(head) == 9 else "") + "</tr>"
        )
    table = markup.table("every run", head, rows, numeric=(2, 4, 5, 7))
    return f"<details><summary>{len(rows):,} runs, one row each</summary>{table}</details>"
