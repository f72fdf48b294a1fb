"""What a page is made of, before it is HTML or Markdown: sections of notes, tables and figures, all plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aspc_fast.report.svg import Axis, Chart, Whisker


@dataclass
class Cell:
    """One cell. ``note``: a footnote's number; ``tag``: a short warning; ``published``: (score, spread, source)."""

    text: str = ""
    spread: str = ""
    note: str = ""
    tag: str = ""
    published: list[tuple[str, str, str]] = field(default_factory=list)
    style: int | None = None  # a variant's line sample before the text
    whisker: Whisker | None = None
    strong: bool = False
    warn: bool = False
    rows: int = 1  # how many rows it covers; 0: covered by the one above


@dataclass
class Column:
    """A column's head. ``axis``: its cells hold whiskers on this scale, which Markdown leaves out."""

    title: str
    numeric: bool = False
    axis: Axis | None = None
    kind: str = ""  # a class of style.css


@dataclass
class Row:
    """``first`` draws a rule above; ``kind``: "" , "mean" (bold), or "domain" (one cell across the table)."""

    cells: list[Cell]
    first: bool = False
    kind: str = ""


@dataclass
class Table:
    """``folded``: the summary of a box that is closed at first (``open_`` at first open)."""

    label: str
    columns: list[Column]
    rows: list[Row]
    folded: str = ""
    open_: bool = False


@dataclass
class Figures:
    """Small charts with captions. ``folded``, ``open_`` as for a table."""

    charts: Sequence[tuple[str, Chart]]
    folded: str = ""
    open_: bool = False


@dataclass
class Legend:
    """Line samples: names in the order of their styles."""

    names: list[str]


@dataclass
class Heading:
    """A heading inside a section."""

    text: str


@dataclass
class Note:
    """A paragraph; ``kind`` "" for a quiet one, "strong" for one that must be read."""

    text: str
    kind: str = ""


@dataclass
class Notes:
    """Footnotes; ``letters``: marked a, b, c (sources) and not 1, 2, 3 (simulators)."""

    texts: list[str]
    letters: bool = False


Block = Table | Figures | Legend | Heading | Note | Notes


@dataclass
class Section:
    """``anchor`` is the id that the page's table of contents links to."""

    anchor: str
    title: str
    blocks: list[Block]


@dataclass
class Page:
    """A whole document. ``facts``: (number, name) at its head; ``shared``: what holds for every run; ``problems``: what
    to know before reading on."""

    over: str
    title: str
    facts: list[tuple[str, str]]
    problems: list[str]
    sections: list[Section]
    crowded: bool = False
    shared: str = ""


def letter(place: int) -> str:
    """a, b, ... z, then 27, 28, ...: the mark of a source."""
    return chr(ord("a") + place) if place < 26 else str(place + 1)
