"""Line charts as numbers on paper: axes, paths and labels; ``templates/charts.html`` draws them as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 220, 132
LEFT, RIGHT, TOP, BOTTOM = 36, 8, 8, 20
MOST_POINTS = 240
STYLES = 8  # colours in style.css; from the ninth variant on they repeat with another dash
DASHES = ("", "5 2.5", "1.5 2", "7 2 1.5 2")
WHISKER_WIDTH, WHISKER_HEIGHT = 180, 18


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

    def scale(self) -> list[tuple[float, str]]:
        """(place, label) of each tick along a whisker."""
        return [(self.place(tick, 6, WHISKER_WIDTH - 6), number(tick)) for tick in self.ticks]


@dataclass
class Panel:
    """One chart of a small multiple. ``marks``: (x, y, style, tip) crosses; ``guides``: dotted horizontals."""

    title: str
    lines: list[Line] = field(default_factory=list)
    marks: list[tuple[float, float | None, int, str]] = field(default_factory=list)
    guides: tuple[float, ...] = ()
    empty: str = ""


@dataclass
class Stroke:
    """A path (``d``) or, where a line has a single point, a dot at ``at`` with ``radius``."""

    style: int
    tip: str
    kind: str = "line"
    d: str = ""
    dash: str = ""
    at: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.0


@dataclass
class Chart:
    """A panel placed on paper: every coordinate in the units of its view box."""

    title: str
    empty: str
    x_ticks: list[tuple[float, str, str]]  # place, label, text-anchor
    y_ticks: list[tuple[float, str]]
    guides: list[float]
    strokes: list[Stroke]
    crosses: list[Stroke]


@dataclass
class Whisker:
    """A dot with its interval on a scale shared by a table's rows; ``guide``: the tick that means no difference."""

    label: str
    style: int
    dot: float
    bar: tuple[float, float] | None
    ticks: list[tuple[float, bool]]  # place, whether it is the guide


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


def draw(panel: Panel, x: Axis, y: Axis) -> Chart:
    """Everything of ``panel`` placed on its axes."""
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    anchors = ("start", "middle", "end")
    last = max(1, len(x.ticks) - 1)
    crosses = []
    for step, value, style, tip in panel.marks:
        at_x, at_y = x.place(step, left, right), y.place(value, bottom, top) if value is not None else bottom - 5
        d = f"M{at_x - 3.5:.1f} {at_y - 3.5:.1f}l7 7m0-7l-7 7"
        crosses.append(Stroke(style % STYLES, tip, "cross", d))
    return Chart(
        title=panel.title,
        empty=panel.empty,
        x_ticks=[(x.place(t, left, right), number(t), anchors[min(2, i * 2 // last)]) for i, t in enumerate(x.ticks)],
        y_ticks=[(y.place(t, bottom, top), number(t)) for t in y.ticks],
        guides=[y.place(g, bottom, top) for g in panel.guides if y.low <= g <= y.high],
        strokes=[_stroke(line, x, y) for line in sorted(panel.lines, key=lambda e: not e.thin) if line.points],
        crosses=crosses,
    )


def whisker(
    value: float, interval: tuple[float, float] | None, axis: Axis, style: int, guide: float | None = None
) -> Whisker:
    """``value`` and its interval placed on ``axis``."""
    first, last = 6, WHISKER_WIDTH - 6
    return Whisker(
        label=number(value),
        style=style % STYLES,
        dot=axis.place(value, first, last),
        bar=(axis.place(interval[0], first, last), axis.place(interval[1], first, last)) if interval else None,
        ticks=[(axis.place(tick, first, last), tick == guide) for tick in axis.ticks],
    )


def number(value: float) -> str:
    """A tick's label: 0, 0.25, 150, 1.5k, 2M; a true minus sign."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}".replace("-", "\u2212")
    return f"{value:.3g}".replace("e-0", "e-").replace("-", "\u2212")


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``MOST_POINTS`` of ``points``, evenly chosen, the first and last among them."""
    n = len(points)
    if n <= MOST_POINTS:
        return list(points)
    return [points[round(i * (n - 1) / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def dash(style: int) -> str:
    """The stroke-dasharray of a variant's line; empty for a solid one."""
    return DASHES[(style + style // STYLES) % len(DASHES)]


def _stroke(line: Line, x: Axis, y: Axis) -> Stroke:
    points = [(x.place(a, LEFT, WIDTH - RIGHT), y.place(b, HEIGHT - BOTTOM, TOP)) for a, b in thinned(line.points)]
    made = Stroke(line.style % STYLES, line.tip, "seed" if line.thin else "line")
    if len(points) == 1:
        made.at, made.radius = points[0], 1.5 if line.thin else 2.5
    else:
        made.d = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        made.dash = "" if line.thin else dash(line.style)
    return made


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))
