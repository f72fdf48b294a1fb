"""Line charts as inline SVG: colours come from the page's CSS variables, so that light and dark need one drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 220, 132
LEFT, RIGHT, TOP, BOTTOM = 36, 8, 8, 20
MOST_POINTS = 240
STYLES = 8  # colours in style.py; from the ninth variant on they repeat with another dash
DASHES = ("", "5 2.5", "1.5 2", "7 2 1.5 2")


@dataclass(frozen=True)
class Line:
    """One line: (x, y) points; ``style`` chooses colour and dash; ``thin`` is a single seed behind its mean."""

    points: Sequence[tuple[float, float]]
    style: int
    thin: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Axis:
    """A scale from ``low`` to ``high`` (``log``: logarithmic) with labelled ``ticks``."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float, start: float, end: float) -> float:
        """Where ``value`` lies between ``start`` and ``end``, clipped to them."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, self.low))
        part = (at - low) / (high - low) if high > low else 0.5
        return start + (end - start) * min(1.0, max(0.0, part))


@dataclass
class Panel:
    """One chart of a small multiple. ``marks``: (x, y, style, tip) crosses; ``guides``: dotted horizontals."""

    title: str
    lines: list[Line] = field(default_factory=list)
    marks: list[tuple[float, float | None, int, str]] = field(default_factory=list)
    guides: tuple[float, ...] = ()
    empty: str = ""


def linear_axis(values: Sequence[float], ticks: int = 4, include: Sequence[float] = ()) -> Axis:
    """An axis just around ``values`` and ``include``, with about ``ticks`` labels at 1, 2 or 5 times a power of ten."""
    held = [v for v in (*values, *include) if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(held), max(held)
    if high == low:
        low, high = low - 1, high + 1
    pad = 0.04 * (high - low)
    low, high = low - pad, high + pad
    step = _nice((high - low) / ticks)
    return Axis(
        low, high, tuple(round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1))
    )


def log_axis(values: Sequence[float]) -> Axis:
    """A logarithmic axis just around ``values``, its two to five labels at round numbers."""
    held = [v for v in values if math.isfinite(v) and v > 0] or [1.0]
    low, high = min(held) / 1.06, max(held) * 1.06
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for mantissas in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10)), tuple(range(10, 100))):
        every = [m * 10.0**p / (1 if mantissas[-1] < 10 else 10) for p in powers for m in mantissas]
        found = [v for v in every if low <= v <= high]
        if len(found) > 5:
            ticks = ticks if len(ticks) > 1 else found[:: math.ceil(len(found) / 5)]
            break
        ticks = found
    return Axis(low, high, tuple(ticks or (low, high)), log=True)


def steps_axis(last: float) -> Axis:
    """Training steps from 0, three labels."""
    high = max(last, 1)
    return Axis(0, high, (0, high / 2, high))


def draw(panel: Panel, x: Axis, y: Axis) -> str:
    """The panel as one <svg>; every text in it is escaped."""
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    parts = [
        f'<svg class="panel" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(panel.title)}">',
        f'<rect class="field" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>',
    ]
    for tick in y.ticks:
        at = y.place(tick, bottom, top)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 4}" y="{at + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    for guide in panel.guides:
        if y.low <= guide <= y.high:
            at = y.place(guide, bottom, top)
            parts.append(f'<line class="guide" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
    for i, tick in enumerate(x.ticks):
        anchor = ("start", "middle", "end")[min(2, i * 2 // max(1, len(x.ticks) - 1))]
        at = x.place(tick, left, right)
        parts.append(f'<text class="tick" x="{at:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{number(tick)}</text>')
    for line in sorted(panel.lines, key=lambda entry: not entry.thin):
        parts.append(_line(line, x, y))
    for step, value, style, tip in panel.marks:
        at_x = x.place(step, left, right)
        at_y = y.place(value, bottom, top) if value is not None else bottom - 5
        arms = f"M{at_x - 3.5:.1f} {at_y - 3.5:.1f}l7 7m0-7l-7 7"
        parts.append(f'<path class="cross s{style % STYLES}" d="{arms}">{_tip(tip)}</path>')
    if panel.empty:
        middle = (left + right) / 2
        parts.append(f'<text class="empty" x="{middle}" y="{(top + bottom) / 2}">{escape(panel.empty)}</text>')
    return "".join([*parts, "</svg>"])


def whisker(value: float, interval: tuple[float, float] | None, axis: Axis, style: int, guide: float | None) -> str:
    """A dot with its interval on a scale shared by a table's rows."""
    width, height = 180, 18
    parts = [f'<svg class="whisker" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"']
    parts.append(f' aria-label="{number(value)}">')
    for tick in axis.ticks:
        at = axis.place(tick, 6, width - 6)
        kind = "guide" if tick == guide else "grid"
        parts.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{height}"/>')
    if interval is not None:
        low, high = (axis.place(v, 6, width - 6) for v in interval)
        parts.append(f'<line class="bar s{style % STYLES}" x1="{low:.1f}" x2="{high:.1f}" y1="9" y2="9"/>')
    dot = axis.place(value, 6, width - 6)
    return "".join([*parts, f'<circle class="dot s{style % STYLES}" cx="{dot:.1f}" cy="9" r="3.5"/></svg>'])


def whisker_scale(axis: Axis) -> str:
    """The labels of ``whisker``'s scale, for the table's head."""
    width, height = 180, 14
    texts = []
    for tick in axis.ticks:
        at = axis.place(tick, 6, width - 6)
        texts.append(f'<text class="tick" x="{at:.1f}" y="11" text-anchor="middle">{number(tick)}</text>')
    head = f'<svg class="whisker" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
    return "".join([head, *texts, "</svg>"])


def swatch(style: int) -> str:
    """A short sample of a variant's line, for legends."""
    return (
        '<svg class="swatch" viewBox="0 0 26 10" width="26" height="10" aria-hidden="true">'
        f'<path class="line s{style % STYLES}"{_dash(style)} d="M1 5H25"/></svg>'
    )


def number(value: float) -> str:
    """A tick's label: 0, 0.25, 150, 1.5k, 2M; a true minus sign."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}".replace("-", "\u2212")
    return f"{value:.3g}".replace("-", "\u2212")


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``MOST_POINTS`` of ``points``, evenly chosen, the first and last among them."""
    n = len(points)
    if n <= MOST_POINTS:
        return list(points)
    return [points[round(i * (n - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def _line(line: Line, x: Axis, y: Axis) -> str:
    points = [
        f"{x.place(a, LEFT, WIDTH - RIGHT):.1f} {y.place(b, HEIGHT - BOTTOM, TOP):.1f}" for a, b in thinned(line.points)
    ]
    if not points:
        return ""
    kind = "seed" if line.thin else "line"
    if len(points) == 1:
        at_x, at_y = points[0].split()
        radius = 1.5 if line.thin else 2.5
        return (
            f'<circle class="dot s{line.style % STYLES}" cx="{at_x}" cy="{at_y}" r="{radius}">{_tip(line.tip)}</circle>'
        )
    shape = "M" + "L".join(points)
    dash = "" if line.thin else _dash(line.style)
    return f'<path class="{kind} s{line.style % STYLES}"{dash} d="{shape}">{_tip(line.tip)}</path>'


def _dash(style: int) -> str:
    dash = DASHES[(style + style // STYLES) % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _tip(tip: str) -> str:
    return f"<title>{escape(tip)}</title>" if tip else ""


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))
