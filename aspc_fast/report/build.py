"""`build_report`: results folders in; report.md, report.csv and index.html out."""

from __future__ import annotations

from pathlib import Path

from aspc_fast.errors import UserError
from aspc_fast.files import replacing
from aspc_fast.report.content import Content, collect
from aspc_fast.report.markdown import markdown_text
from aspc_fast.report.page import page_text
from aspc_fast.report.read import read_folders
from aspc_fast.report.runs_csv import csv_text

REPORT = "report"


def build_report(folders: list[Path], out: Path | None = None) -> Path:
    """Read one or more results folders and write report.md, report.csv and index.html; returns their folder.

    ``out`` defaults to FIRST_FOLDER/report. A folder may hold a sweep or a single run, finished or not; a folder that
    holds results folders stands for all of them. Raises UserError for what is missing, damaged or cannot be written.
    """
    if not folders:
        raise UserError("report: name at least one results folder")
    content: Content = collect(read_folders(folders))
    target = out if out is not None else folders[0] / REPORT
    pages = {
        "report.md": markdown_text(content),
        "report.csv": csv_text(content),
        "index.html": page_text(content),
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            with replacing(target / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(f"{target}: cannot write the report here ({error.strerror or error})") from None
    return target
