"""A page as HTML: one file, no script, nothing to load, well-formed as XML too; light or dark as the reader has it."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from aspc_fast.report import svg
from aspc_fast.report.blocks import Page

# What a results folder says lands in this page, so the page may not load or run anything, whatever a name contains.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page_text(page: Page) -> str:
    """The page; every text in it is escaped by the templates."""
    return _environment().get_template("page.html").render(page=page, policy=POLICY)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("aspc_fast.report"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    made.filters |= {
        "place": lambda value: f"{value:.1f}",
        "dash": svg.dash,
        "kind": lambda block: type(block).__name__,
    }
    sizes = {
        name: getattr(svg, name.upper()) for name in ("width", "height", "left", "right", "top", "bottom", "styles")
    }
    made.globals["size"] = sizes
    return made
