"""`aspc-fast report`."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.console import Console

from aspc_fast.report.build import build_report


def report(folders: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None) -> int:
    """Tables, curves and a page from results folders.

    Args:
        folders: results folders of sweeps or single runs, finished or not; a folder of results folders stands for all.
        out: where to write report.md, report.csv and index.html; default FIRST_FOLDER/report.
    """
    target = build_report(list(folders), out)
    console = Console(soft_wrap=True)
    for name in ("index.html", "report.md", "report.csv"):
        console.print(str(target / name), highlight=False, markup=False)
    return 0


COMMANDS = {"report": report}
