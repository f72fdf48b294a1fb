"""`aspc-fast report`."""

from __future__ import annotations

from pathlib import Path

import tyro

from aspc_fast.cli.console import make_console, say
from aspc_fast.errors import UserError
from aspc_fast.report.build import build_comparison, build_report


def report(
    folders: tyro.conf.Positional[tuple[Path, ...]],
    out: Path | None = None,
    compare: bool = False,
    published: Path | None = None,
) -> int:
    """Tables, curves and a page from results folders; or, of two folders, the differences run for run.

    Args:
        folders: results folders of sweeps or single runs, finished or not; a folder of results folders stands for all.
        out: where to write the files; default FIRST_FOLDER/report.
        compare: match the runs of two folders, of two commits say, and write compare.html and compare.md.
        published: a JSON file of published scores to stand beside the package's own (docs/use.md shows the form).
    """
    if compare:
        if len(folders) != 2:
            raise UserError(f"report --compare: name two results folders, A and B; got {len(folders)}")
        target, names = build_comparison(folders[0], folders[1], out), ["compare.html", "compare.md"]
    else:
        target, names = build_report(list(folders), out, published), ["index.html", "report.md", "report.csv"]
    console = make_console()
    for name in names:
        say(console, str(target / name))
    return 0


COMMANDS = {"report": report}
