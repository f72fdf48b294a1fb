"""What mkdocs calls while it builds these pages: formulas, drawings and measured tables. No network, no script."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import measured
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

DOCS = Path(__file__).resolve().parents[1]
FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
DRAWING = re.compile(r'(?:<p>)?<img alt="([^"]*)" src="[^"]*figures/([a-z0-9-]+\.svg)"[^>]*>(?:</p>)?')
PLACE = re.compile(r"<!-- measured: ([a-z0-9-]+) -->")
NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
# a text font's prime stands high and large enough by itself; style.css names the font
PRIMED = re.compile(r"<msup>(<m[io]>[^<]*</m[io]>)<mi>&#x02032;</mi></msup>")
ARGUMENTS = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3}


def to_mathml(source: str, block: bool) -> str:
    """One LaTeX formula as a ``<math>`` element, which browsers draw without a script.

    Raises ValueError where the converter would show a command as text or leave out an argument: no formula shows half.
    """
    made = convert(source, display="block" if block else "inline")
    try:
        root = ET.fromstring(made)
    except ET.ParseError as error:
        raise ValueError(f"{source!r}: {error}") from None
    short = [e.tag for e in root.iter() if len(e) != ARGUMENTS.get(e.tag.removeprefix(NAMESPACE), len(e))]
    if short or "\\" in "".join(root.itertext()) or source.count("{") != source.count("}"):
        raise ValueError(f"{source!r}: a command or an argument is not understood")
    note = html.escape(" ".join(source.split()))
    made = made.replace('<mo stretchy="false">&#x0007C;', '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;')
    made = PRIMED.sub(r'<mrow>\1<mo class="prime" lspace="0" rspace="0">&#x02032;</mo></mrow>', made)
    return made.replace("<math ", f'<math alttext="{note}" ', 1)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Tables of what was measured, straight from benchmarks/results/*.json."""
    named = {name for path in DOCS.rglob("*.md") for name in PLACE.findall(path.read_text(encoding="utf-8"))}

    def table(match: re.Match[str]) -> str:
        try:
            return measured.markdown(match.group(1), named)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise PluginError(f"{page.file.src_uri}: measured: {match.group(1)}: {error!r}") from error

    return PLACE.sub(table, markdown)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Formulas become MathML, and drawings part of the page, so that they follow its light or dark colours."""

    def formula(match: re.Match[str]) -> str:
        source = html.unescape(match.group(2)).strip()
        block = match.group(1) == "div"
        try:
            made = to_mathml(source[2:-2], block)
        except ValueError as error:
            raise PluginError(f"{page.file.src_uri}: {error}") from error
        return f'<div class="formula">{made}</div>' if block else made

    def drawing(match: re.Match[str]) -> str:
        text, name = match.groups()
        svg = (DOCS / "figures" / name).read_text(encoding="utf-8")
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)
        return f'<div class="drawing">{svg}</div>'

    return DRAWING.sub(drawing, FORMULA.sub(formula, content))
