"""Draws docs/figures/*.svg: python docs/_build/figures.py. Each follows the page's colours, or the reader's on its own."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIGURES = HERE.parent / "figures"
LIGHT = """--ink:#1d2430;--soft:#566172;--line:#8c97a6;--panel:#f4f6f9;--zero:#dde2e9;--critic:#9a5b00;--critic-bg:#fdeed6;
--actor:#155a96;--actor-bg:#dfedfa;--alpha:#7a2fa3;--alpha-bg:#f2e3f9;--data:#2d6b3c;--data-bg:#e1f2e5;--page:#ffffff"""
DARK = """--ink:#e8ecf2;--soft:#a9b4c4;--line:#7e8a9b;--panel:#2a2f3a;--zero:#3a4150;--critic:#f2b661;--critic-bg:#4a3718;
--actor:#7fbcf2;--actor-bg:#1c3a56;--alpha:#d79df2;--alpha-bg:#442555;--data:#8fd3a0;--data-bg:#1f4029;--page:#1e2129"""
STYLE = f""".fig{{{LIGHT}}}@media(prefers-color-scheme:dark){{.fig{{{DARK}}}}}
.fig text{{font:13px system-ui,sans-serif;fill:var(--ink)}}.fig .s{{font-size:11.5px;fill:var(--soft)}}
.fig .b{{font-weight:600}}.fig .m{{text-anchor:middle}}.fig .e{{text-anchor:end}}
.fig rect{{stroke:var(--line);fill:var(--panel)}}.fig .line{{stroke:var(--line);fill:none;stroke-width:1.4}}
.fig .critic{{fill:var(--critic-bg);stroke:var(--critic)}}.fig .actor{{fill:var(--actor-bg);stroke:var(--actor)}}
.fig .alpha{{fill:var(--alpha-bg);stroke:var(--alpha)}}.fig .data{{fill:var(--data-bg);stroke:var(--data)}}
.fig .zero{{fill:var(--zero);stroke:var(--line)}}.fig .none{{fill:none;stroke:none}}.fig .head{{fill:var(--line)}}
.fig .dash{{stroke-dasharray:5 4}}.fig text.alpha{{fill:var(--alpha);stroke:none}}.fig text.actor{{fill:var(--actor);stroke:none}}
.fig text.critic{{fill:var(--critic);stroke:none}}.fig text.data{{fill:var(--data);stroke:none}}
.fig .c0{{stroke:var(--actor);fill:none;stroke-width:2.2}}.fig .c1{{stroke:var(--data);fill:none;stroke-width:2.2}}
.fig .c2{{stroke:var(--alpha);fill:none;stroke-width:2.2}}.fig .c3{{stroke:var(--critic);fill:none;stroke-width:2;stroke-dasharray:6 4}}
.fig .grid{{stroke:var(--zero);fill:none}}""".replace("\n", "")


class Drawing:
    """Shapes in order; ``name`` keeps ids apart where several drawings share a page."""

    def __init__(self, name: str, width: int, height: int) -> None:
        self.name, self.width, self.height = name, width, height
        self.parts: list[str] = []

    def rect(self, x: float, y: float, w: float, h: float, kind: str = "", r: float = 5) -> None:
        """A box."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{r:g}" class="{kind}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """One line of text; its left end is at x unless ``kind`` says m (middle) or e (end)."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>')

    def box(self, x: float, y: float, w: float, h: float, kind: str, lines: list[str]) -> None:
        """A box with a bold first line and small ones below, centred."""
        self.rect(x, y, w, h, kind)
        top = y + h / 2 - 8 * (len(lines) - 1) + 4.5
        for i, line in enumerate(lines):
            self.text(x + w / 2, top + 16.5 * i, line, "m b" if i == 0 else "m s")

    def cell(self, x: float, y: float, w: float, kind: str, words: str, bold: bool = False) -> None:
        """A low box with one line in its middle."""
        self.rect(x, y, w, 34, kind, 3)
        self.text(x + w / 2, y + 22, words, "m b" if bold else "m s")

    def path(self, d: str, kind: str = "line", arrow: bool = True) -> None:
        """A line, with a head at its end."""
        end = f' marker-end="url(#{self.name}-head)"' if arrow else ""
        self.parts.append(f'<path d="{d}" class="{kind}"{end}/>')

    def write(self) -> str:
        """The whole file."""
        head = (
            f'<marker id="{self.name}-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto-start-reverse"><path d="M0 0.5L8 4L0 7.5z" class="head"/></marker>'
        )
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fig" viewBox="0 0 {self.width} {self.height}">\n'
            f"<style>{STYLE}</style><defs>{head}</defs>\n{body}\n</svg>\n"
        )


def schedule() -> Drawing:
    """What happens in the 20 steps of a period."""
    d = Drawing("schedule", 800, 262)
    left, cell, top = 138, 32.4, 44
    names = [("critics", "critic"), ("actor", "actor"), ("alpha (meta)", "alpha"), ("targets", "data")]
    d.text(left - 10, top - 12, "training step", "e s")
    for row, (name, kind) in enumerate(names):
        d.text(left - 10, top + 22 + 38 * row, name, f"e b {kind}")
    d.text(left - 10, top + 22 + 38 * 4, "kernel launches", "e s")
    for t in range(1, 21):
        x = left + cell * (t - 1)
        d.text(x + cell / 2, top - 12, str(t), "m s")
        due = (True, t % 2 == 0, t % 20 == 0, t % 2 == 0)
        for row, on in enumerate(due):
            d.rect(x + 2, top + 2 + 38 * row, cell - 4, 32, names[row][1] if on else "zero", 4)
        d.text(x + cell / 2, top + 22 + 38 * 4, "9" if t == 20 else "7" if t % 2 == 0 else "4", "m s")
    d.path(f"M{left + 2} {top + 178}v8h{20 * cell - 4}v-8", "line", False)
    d.text(left + 10 * cell, top + 206, "one period = one CUDA graph; engine fused, latency shape: 10·4 + 9·7 + 9 = 112 launches", "m s")
    return d


def update() -> Drawing:
    """Data flow of one update."""
    d = Drawing("update", 800, 470)
    d.box(14, 26, 172, 64, "data", ["replay", "all datasets, on the device", "Philox(seed, step) → rows"])
    d.text(14, 16, "every step", "s")
    for y, when in ((118, "2nd step, same batch"), (248, "20th step, same batch"), (378, "2nd step, last")):
        d.path(f"M14 {y}H786", "line dash", False)
        d.text(14, y + 20, f"every {when}", "s")
    d.box(236, 26, 252, 64, "critic", ["target value y", "r + γ(1−d) · min Q̄(s′, a′)", "a′ = clip(π̄(s′) + clipped noise)"])
    d.box(538, 26, 248, 64, "critic", ["critic step", "Adam on MSE(Q₁,y) + MSE(Q₂,y)", "→ the new Q₁ is used below"])
    d.path("M186 58H234")
    d.path("M488 58H536")
    d.text(196, 50, "batch", "s")
    d.box(14, 152, 200, 64, "actor", ["π = πθ(s),  q = Q₁(s, π)", "dQ₁/da by hand,", "c = mean|q|, a constant"])
    d.box(264, 152, 236, 64, "actor", ["g = α·gQ + gBC", "gQ = ∇(−mean q / c)", "gBC = ∇MSE(π, a)"])
    d.box(550, 152, 236, 64, "actor", ["actor step", "Adam: θ → θ′", "with α as it is now"])
    d.path("M662 90V101Q662 108 655 108H197Q190 108 190 115V150")
    d.path("M214 184H262")
    d.path("M500 184H548")
    d.box(550, 282, 236, 64, "alpha", ["dθ′/dα = −lr · du/dg ⊙ gQ", "elementwise, from Adam's state", "(needs gQ apart from g)"])
    d.box(282, 282, 218, 64, "alpha", ["at θ′:  π′, q′, dQ₁/da′", "and dπ′/dα, one forward-mode", "pass along dθ′/dα"])
    d.box(14, 282, 218, 64, "alpha", ["d L_outer / dρ", "σ(ρ) · ⟨∂L_outer/∂π′, dπ′/dα⟩", "Adam on ρ, α = softplus(ρ)"])
    d.path("M668 216V280")
    d.path("M550 314H502")
    d.path("M282 314H234")
    d.path("M190 282V240Q190 233 197 233H375Q382 233 382 226V218", "line dash")
    d.text(285, 228, "α for the next actor steps", "m s")
    d.box(236, 398, 328, 56, "data", ["targets", "each moves by τ = 0.005 towards its network"])
    return d


def padding() -> Drawing:
    """Three runs of different dimensions in one population."""
    d = Drawing("padding", 800, 286)
    runs = [("hopper", 11, 3), ("walker2d", 17, 6), ("pen", 45, 24)]
    left, unit, gap = 92, 7.6, 22
    act = left + 45 * unit + gap
    end = act + 24 * unit + 18
    d.text(left, 18, "observation, 45 wide", "b data")
    d.text(act, 18, "action, 24 wide", "b actor")
    d.text(end, 18, "BC error", "b")
    for i, (name, obs, acts) in enumerate(runs):
        y = 30 + 46 * i
        d.text(left - 12, y + 22, name, "e b")
        for x, own, wide, kind in ((left, obs, 45, "data"), (act, acts, 24, "actor")):
            d.cell(x, y, own * unit, kind, str(own), bold=True)
            if own < wide:
                d.cell(x + own * unit, y, (wide - own) * unit, "zero", f"{wide - own} zeros")
        d.text(end, y + 22, f"sum / {acts}", "s")
    x, y = float(left), 196
    d.text(left - 12, y + 22, "state", "e b")
    state = [(104, "critic", f"{name} [3, P]") for name in ("weights", "targets", "Adam m", "Adam v")]
    state += [(84, "alpha", f"{name} [3]") for name in ("ρ", "EMA of Q", "α's Adam")]
    for wide, kind, words in state:
        d.cell(x, y, wide, kind, words)
        x += wide + 4
    d.text(left, y + 56, "every tensor has the run axis R = 3 first; one update works on all runs at once.", "s")
    d.text(left, y + 74, "padded inputs are 0, so padded weights have gradient 0, Adam moves them by 0, they stay 0.", "s")
    return d


def chain() -> Drawing:
    """How alpha reaches the outer loss."""
    d = Drawing("chain", 800, 206)
    names = [("ρ", "alpha"), ("α", "alpha"), ("g", "actor"), ("u", "actor"), ("θ′", "actor"), ("π′", "actor")]
    names.append(("L_outer", "critic"))
    below = ["softplus", "α·gQ + gBC", "Adam's step", "θ − lr·u", "actor at s", "three terms"]
    above = ["σ(ρ)", "gQ", "du/dg", "−lr", "tangent", "∂L/∂π′"]
    x, step, y, w = 8.0, 119.0, 74, 40
    for i, (name, kind) in enumerate(names):
        width = w if i < 6 else 74
        d.box(x, y, width, 46, kind, [name])
        if i < 6:
            d.path(f"M{x + w:g} {y + 23}H{x + step - 2:g}")
            d.text(x + (w + step) / 2, y + 12, above[i], "m b")
            d.text(x + (w + step) / 2, y + 42, below[i], "m s")
        x += step
    d.path(f"M{8 + step + w / 2:g} {y - 2}V38Q{8 + step + w / 2:g} 30 {16 + step + w / 2:g} 30H742Q750 30 750 38V{y - 2}", "line dash")
    d.text(450, 20, "α also stands in eq1, but as a constant there: no gradient along this path", "m s")
    d.text(8, y + 84, "Bold: the factor each arrow contributes. All factors are elementwise or scalars, but for the tangent, which is one", "s")
    d.text(8, y + 102, "forward-mode pass through the actor. Nothing is ever differentiated twice.", "s")
    return d


def demo() -> Drawing:
    """Scores of the demo's setting over training, from demo.json."""
    found = json.loads((HERE / "demo.json").read_text(encoding="utf-8"))
    d = Drawing("demo", 800, 330)
    x0, x1, y0, y1 = 58.0, 600.0, 280.0, 24.0

    def at(step: float, score: float) -> tuple[float, float]:
        return x0 + (x1 - x0) * step / 20_000, y0 + (y1 - y0) * (score + 20) / 140

    for score in (0, 20, 40, 60, 80, 100):
        _, y = at(0, score)
        d.path(f"M{x0} {y:.1f}H{x1}", "grid", False)
        d.text(x0 - 8, y + 4, str(score), "e s")
    for step in (0, 5000, 10_000, 15_000, 20_000):
        x, _ = at(step, 0)
        d.text(x, y0 + 20, f"{step:,}", "m s")
    d.text((x0 + x1) / 2, y0 + 42, "training steps", "m s")
    d.text(x0 - 42, 14, "normalised score", "s")
    for i, run in enumerate(found["runs"]):
        points = [at(step, score) for step, score in run["scores"]]
        d.path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), f"c{i}", False)
    last = sorted(((run["scores"][-1][1], i, run["label"]) for i, run in enumerate(found["runs"])), reverse=True)
    floor = y1
    for score, i, label in last:
        _, y = at(0, score)
        y = max(y, floor)
        d.path(f"M{x1 + 10:g} {y:.1f}h22", f"c{i}", False)
        d.text(x1 + 38, y + 4, f"{label}: {score:.0f}", "s")
        floor = y + 19
    return d


def write_all(folder: Path = FIGURES) -> list[Path]:
    """Write every drawing and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for draw in (schedule, update, padding, chain, demo):
        made.append(folder / f"{draw.__name__}.svg")
        made[-1].write_text(draw().write(), encoding="utf-8")
    return made


if __name__ == "__main__":
    for path in write_all():
        print(path.name)
