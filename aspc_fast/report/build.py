"""`build_report` and `build_comparison`: results folders in; Markdown, CSV and one HTML page out."""

from __future__ import annotations

from pathlib import Path

from aspc_fast.errors import UserError
from aspc_fast.files import replacing
from aspc_fast.report.compare import compare
from aspc_fast.report.compare_page import compare_page
from aspc_fast.report.content import collect
from aspc_fast.report.markdown import markdown_text
from aspc_fast.report.page import page_text
from aspc_fast.report.published import load_published
from aspc_fast.report.read import read_folders
from aspc_fast.report.runs_csv import csv_text
from aspc_fast.report.sections import report_page

REPORT = "report"


def build_report(folders: list[Path], out: Path | None = None, published: Path | None = None) -> Path:
    """Read one or more results folders and write report.md, report.csv and index.html; returns their folder.

    ``out`` defaults to FIRST_FOLDER/report. A folder may hold a sweep or a single run, finished or not; a folder that
    holds results folders stands for all of them. ``published`` is a file of more published scores. Raises UserError
    for what is missing, damaged or cannot be written.
    """
    if not folders:
        raise UserError("report: name at least one results folder")
    content = collect(read_folders(folders), load_published(published))
    page = report_page(content)
    files = {
        "report.md": markdown_text(page, "Curves: index.html. Every run: report.csv."),
        "report.csv": csv_text(content),
        "index.html": page_text(page),
    }
    return _write(out if out is not None else folders[0] / REPORT, files)


def build_comparison(a: Path, b: Path, out: Path | None = None) -> Path:
    """Compare the runs of two results folders (or folders of such) and write compare.md and compare.html.

    ``out`` defaults to A/report; returns the folder. Raises UserError as ``build_report``, and if no run is in both.
    """
    page = compare_page(compare(read_folders([a]), read_folders([b])))
    files = {"compare.md": markdown_text(page, "Curves: compare.html."), "compare.html": page_text(page)}
    return _write(out if out is not None else a / REPORT, files)


def _write(target: Path, files: dict[str, str]) -> Path:
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with replacing(target / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(f"{target}: cannot write the report here ({error.strerror or error})") from None
    return target
