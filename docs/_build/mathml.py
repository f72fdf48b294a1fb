"""LaTeX as far as these pages use it -> MathML, which browsers draw without a script or a font from elsewhere.

Known: letters, numbers, operators, ^ _ {} ', Greek and the commands in the tables below, \\frac \\sqrt \\bar \\text
\\mathrm \\operatorname, \\left \\right, and the environments aligned and cases. Anything else is an error, so that
a formula never shows half.
"""

from __future__ import annotations

import re
from html import escape

LETTERS = {
    **dict(alpha="α", beta="β", gamma="γ", delta="δ", epsilon="ε", eta="η", theta="θ", kappa="κ", lambda_="λ"),
    **dict(pi="π", rho="ρ", sigma="σ", tau="τ", partial="∂", infty="∞", Delta="Δ", ell="ℓ"),
    "lambda": "λ",
}
OPERATORS = {
    **dict(nabla="∇", sum="∑", cdot="·", odot="⊙", times="×", leftarrow="←", rightarrow="→", le="≤", ge="≥"),
    **dict(approx="≈", ne="≠", pm="±", mid="∣", ldots="…", lfloor="⌊", rfloor="⌋", langle="⟨", rangle="⟩"),
    **{"in": "∈", "to": "→", "lvert": "|", "rvert": "|", "{": "{", "}": "}", "oplus": "⊕", "gg": "≫", "ll": "≪"},
}
FUNCTIONS = {"min", "max", "log", "exp", "sin", "cos", "tanh"}
SPACES = {",": "0.17em", ";": "0.28em", "quad": "1em", "qquad": "2em", " ": "0.25em"}
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|[A-Za-z]|\s+|.", re.DOTALL)


class MathError(ValueError):
    """A formula uses something that is not known here."""


def to_mathml(source: str, block: bool) -> str:
    """One formula as a ``<math>`` element; raises MathError."""
    parser = _Parser(source)
    body = parser.row(stop=None)
    note = escape(" ".join(source.split()), quote=True)
    display = ' display="block"' if block else ""
    return f'<math{display} alttext="{note}">{body}</math>'


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = [t for t in TOKEN.findall(source.strip()) if not t.isspace()]
        self.at = 0

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if token is None or (expected is not None and token != expected):
            raise MathError(f"expected {expected or 'more'}, found {token!r} in {self.source!r}")
        self.at += 1
        return token

    def row(self, stop: str | None) -> str:
        parts = []
        while self.peek() not in (stop, None):
            parts.append(self.scripted())
        if stop is not None:
            self.take(stop)
        return f"<mrow>{''.join(parts)}</mrow>"

    def scripted(self) -> str:
        named = (self.peek() or "").lstrip("\\") in FUNCTIONS
        base, under, over = self.atom(), "", ""
        while self.peek() in ("^", "_", "'"):
            mark = self.take()
            if mark == "'":  # a text font's prime stands high and large enough by itself; style.css names the font
                base = f'<mrow>{base}<mo class="prime" lspace="0" rspace="0">′</mo></mrow>'
            elif mark == "^":
                over = self.atom()
            else:
                under = self.atom()
        made = base
        if under and over:
            made = f"<msubsup>{base}{under}{over}</msubsup>"
        elif under or over:
            tag = "msub" if under else "msup"
            made = f"<{tag}>{base}{under or over}</{tag}>"
        return made + ('<mspace width="0.17em"/>' if named else "")

    def group(self) -> str:
        if self.peek() == "{":
            self.take()
            return self.row("}")
        return self.atom()

    def raw_group(self) -> str:
        """The source between braces, with its spaces."""
        self.take("{")
        words = []
        while self.peek() != "}":
            words.append(self.take())
        self.take("}")
        found = re.search(r"\{\s*" + r"\s*".join(map(re.escape, words)) + r"\s*\}", self.source)
        return (found.group()[1:-1] if found else "".join(words)).replace("\\_", "_")

    def atom(self) -> str:  # noqa: PLR0911, PLR0912 (a table of cases)
        token = self.take()
        if token == "{":
            return self.row("}")
        if not token.startswith("\\"):
            if token.isdigit() or re.fullmatch(r"\d+\.\d+", token):
                return f"<mn>{token}</mn>"
            if token.isalpha():
                return f"<mi>{token}</mi>"
            if token in "+-=()[]|,.;:/<>!*":
                stretchy = ' stretchy="false"' if token in "()[]|/" else ""
                stretchy += ' lspace="0" rspace="0"' if token in "|/" else ""
                return f"<mo{stretchy}>{escape({'-': '−', '*': '∗'}.get(token, token))}</mo>"
            raise MathError(f"{token!r} in {self.source!r}")
        name = token[1:]
        if name in LETTERS:
            return f"<mi>{LETTERS[name]}</mi>"
        if name in OPERATORS:
            return f'<mo stretchy="false">{escape(OPERATORS[name])}</mo>'
        if name in FUNCTIONS:
            return f"<mi>{name}</mi>"
        if name in SPACES:
            return f'<mspace width="{SPACES[name]}"/>'
        if name in ("text", "mathrm", "operatorname"):
            words = self.raw_group()
            return f"<mtext>{escape(words).replace(' ', '&#160;')}</mtext>"
        if name == "frac":
            return f"<mfrac>{self.group()}{self.group()}</mfrac>"
        if name == "sqrt":
            return f"<msqrt>{self.group()}</msqrt>"
        if name == "bar":  # drawn by style.css: an accent falls onto the letter where the font is no mathematical one
            return f'<mrow class="bar">{self.group()}</mrow>'
        if name in ("left", "right"):
            fence = self.take()
            shown = OPERATORS.get(fence[1:], "") if fence.startswith("\\") else fence
            return f'<mo fence="true" stretchy="true">{escape(shown)}</mo>' if shown != "." else ""
        if name == "begin":
            return self.environment()
        raise MathError(f"\\{name} in {self.source!r}")

    def environment(self) -> str:
        kind = self.raw_group()
        if kind not in ("aligned", "cases"):
            raise MathError(f"environment {kind} in {self.source!r}")
        rows: list[list[str]] = [[]]
        cell: list[str] = []
        while True:
            token = self.peek()
            if token in ("&", "\\\\", "\\end"):
                rows[-1].append(f"<mtd>{''.join(cell)}</mtd>")
                cell = []
                self.take()
                if token == "\\\\":
                    rows.append([])
                elif token == "\\end":
                    break
            else:
                cell.append(self.scripted())
        if self.raw_group() != kind:
            raise MathError(f"environment {kind} does not end in {self.source!r}")
        table = "".join(f"<mtr>{''.join(cells)}</mtr>" for cells in rows)
        if kind == "cases":
            return f'<mo fence="true" stretchy="true">{{</mo><mtable class="cases">{table}</mtable>'
        return f'<mtable displaystyle="true" class="aligned">{table}</mtable>'
