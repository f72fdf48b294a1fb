"""`aspc-fast doctor`."""

from __future__ import annotations

from itertools import groupby
from json import dumps
from pathlib import Path

from rich.table import Table
from rich.text import Text

from aspc_fast import __version__
from aspc_fast.cli.console import make_console
from aspc_fast.tools.doctor import can_train, diagnose
from aspc_fast.tools.doctor_row import Row

_STYLE = {"ok": "green", "missing": "yellow", "failed": "bold red"}


def doctor(
    results: Path = Path("results"), data_dir: Path | None = None, simulators: bool = True, json: bool = False
) -> int:
    """Tell what works on this machine, and for everything that does not, what to do about it.

    Exit code 1 only if training cannot work; packages, datasets and simulators that are missing are no failure.

    Args:
        results: folder in which results would be written.
        data_dir: folder of the datasets (default: $ASPC_FAST_DATA, else ~/.cache/aspc_fast/datasets).
        simulators: also build one small simulator per domain.
        json: print JSON instead of a table.
    """
    with make_console(stderr=True).status("looking around") as status:
        rows = diagnose(
            results, data_dir, simulators=simulators, progress=lambda what: status.update(f"looking at: {what}")
        )
    trainable = can_train(rows)
    if json:
        print(
            dumps({"aspc_fast": __version__, "can_train": trainable, "rows": [row.to_json() for row in rows]}, indent=1)
        )
    else:
        show(rows, trainable)
    return 0 if trainable else 1


def show(rows: list[Row], trainable: bool) -> None:
    """The findings by section, then what to do, then one line that sums up."""
    console = make_console()
    for section, found in groupby(rows, key=lambda row: row.section):
        table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
        table.add_column(width=26, no_wrap=True)
        table.add_column(width=8, no_wrap=True)
        table.add_column(overflow="fold")
        for row in found:
            value = Text(row.value)
            if row.remedy:
                value.append(f"\n-> {row.remedy}", "cyan")
            table.add_row(Text(f"  {row.name}"), Text(row.state, _STYLE[row.state]), value)
        console.print(Text(section, "bold"), table, sep="\n")
    missing = sum(row.state == "missing" for row in rows)
    if not trainable:
        failed = ", ".join(row.name for row in rows if row.state == "failed")
        console.print(Text(f"training cannot work here: {failed}", "bold red"))
    else:
        console.print(f"training works here; {missing} optional things are missing" if missing else "everything works")


COMMANDS = {"doctor": doctor}
