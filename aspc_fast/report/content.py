"""Everything a report says, before it is said in HTML, Markdown or CSV: no form states what another leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from statistics import median
from typing import Any

from aspc_fast.report.effects import Effect, effects
from aspc_fast.report.model import Folder, Run, Variant
from aspc_fast.report.published import PublishedScores, load_published
from aspc_fast.report.settings import share
from aspc_fast.report.tables import (
    Aggregate,
    Comparison,
    DomainTable,
    aggregates,
    comparisons,
    domain_tables,
    number_notes,
    variants,
)
from aspc_fast.results.fields import clean

TITLE = "aspc_fast results"


@dataclass
class Content:
    """The report's numbers and sentences; ``notes``: which simulators, how comparable; rows point at them by number.

    ``shared``: the settings that all runs have in common, which no label repeats.
    """

    folders: list[Folder]
    runs: list[Run]
    variants: list[Variant]
    tables: list[DomainTable]
    notes: list[str]
    published: PublishedScores
    effects: list[Effect]
    aggregates: list[Aggregate]
    comparisons: list[Comparison]
    facts: list[tuple[str, str]]
    shared: str
    problems: list[str]
    unequal: str


def collect(folders: list[Folder], published: PublishedScores | None = None) -> Content:
    """Compute every table once; ``published`` defaults to the package's own numbers."""
    runs = [run for folder in folders for run in folder.runs]
    shared = share(runs)
    tables = domain_tables(runs)
    order = variants(runs)
    means = aggregates(tables)
    return Content(
        folders=folders,
        runs=runs,
        variants=order,
        tables=tables,
        notes=number_notes(tables),
        published=published or load_published(),
        effects=effects(folders),
        aggregates=means,
        comparisons=comparisons(tables),
        facts=_facts(runs, order),
        shared=shared,
        problems=_problems(runs, tables),
        unequal=_unequal(means),
    )


def folder_rows(folder: Folder) -> list[tuple[str, str]]:
    """What is known of a folder's speed, memory and making: (name, value), unknown ones left out."""
    settings, machine = folder.settings, folder.machine
    steps = max((run.step for run in folder.runs), default=0)
    run_rates = [s.run_updates for s in folder.speeds if s.run_updates]
    rates = [s.updates for s in folder.speeds if s.updates]
    wall = folder.wall_seconds or max((s.wall_seconds or 0.0 for s in folder.speeds), default=0.0)
    used = max((s.device_bytes or 0.0 for s in folder.speeds), default=0.0)
    several = folder.populations > 1
    run_updates = folder.run_updates or (median(run_rates) if run_rates else None)
    rows = [
        ("runs", f"{len(folder.runs):,}"),
        (
            "steps",
            f"{steps:,}" + (f" of {planned:,}" if (planned := folder.runs[0].planned if folder.runs else 0) else ""),
        ),
        ("wall time", duration(wall) if wall else ""),
        ("populations", f"{folder.populations:,}" if folder.populations > 1 else ""),
        ("updates/s, all runs" + " of a population" * several, f"{run_updates:,.0f}" if run_updates else ""),
        ("updates/s, each run", f"{median(rates):,.0f} (median)" if rates else ""),
        ("device memory", size(used) if used else ""),
        (
            "planned memory" + ", largest population" * several,
            ", ".join(f"{n.removesuffix('_bytes')} {size(v)}" for n, v in folder.plan.items()),
        ),
        ("engine", _said(settings.get("engine"))),
        ("device", _said(machine.get("gpu") or settings.get("device"))),
        ("machine", ", ".join(t for t in (_said(machine.get("platform")), _cpus(machine)) if t)),
        ("versions", ", ".join(f"{clean(str(n))} {_said(v)}" for n, v in folder.versions.items())),
        ("commit", folder.commit),
        ("command", command(folder.command)),
    ]
    return [(name, value) for name, value in rows if value]


def command(words: list[str]) -> str:
    """The command that made a folder, its program without the machine's path."""
    if not words:
        return ""
    program = PurePath(words[0]).name
    program = "aspc-fast" if program in ("__main__.py", "-c", "-m") else program
    return " ".join([program, *(f"'{w}'" if " " in w else w for w in words[1:])])


def duration(seconds: float) -> str:
    """42 s, 5 min 10 s, 2 h 03 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(amount: float) -> str:
    """Bytes with a decimal unit."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= factor:
            return f"{amount / factor:.1f} {unit}"
    return f"{amount:.0f} B"


def one(value: float | None) -> str:
    """One decimal and a true minus sign; a dash for None."""
    return "\u2013" if value is None else f"{value + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "\u2212")


def spread(value: float | None) -> str:
    """A standard deviation behind its mean; empty for None."""
    return "" if value is None else f"\u00b1 {one(value)}"


def interval(ends: tuple[float, float] | None, decimals: int = 1) -> str:
    """Both ends of an interval; a dash for None."""
    if ends is None:
        return "\u2013"
    return " to ".join(one(end) if decimals == 1 else f"{end:.{decimals}f}" for end in ends)


def _facts(runs: list[Run], order: list[Variant]) -> list[tuple[str, str]]:
    states = {state: sum(run.state == state for run in runs) for state in ("done", "diverged", "unfinished")}
    missing = sum(run.state != "diverged" and run.final_score is None for run in runs)
    counts = [
        (str(len(runs)), "run" if len(runs) == 1 else "runs"),
        (str(n := len({run.key for run in runs})), "dataset" if n == 1 else "datasets"),
        (str(len(order)), _kinds(order)),
        (str(n := len({run.seed for run in runs})), "seed" if n == 1 else "seeds"),
        (f"{max((run.step for run in runs), default=0):,}", "training steps"),
        (str(states["done"]), "done"),
    ]
    rare = [(states["diverged"], "diverged"), (states["unfinished"], "unfinished"), (missing, "not evaluated")]
    return counts + [(str(count), name) for count, name in rare if count]


def _kinds(order: list[Variant]) -> str:
    name = "algorithm" if len(order) == 1 else "algorithms"
    return f"{name} and settings" if any(variant.setting for variant in order) else name


def _problems(runs: list[Run], tables: list[DomainTable]) -> list[str]:
    marked: dict[str, list[str]] = {}
    for row in (row for table in tables for row in table.rows):
        for mark in row.marks:
            marked.setdefault(mark, []).append(f"{row.dataset}, {row.variant.label}")
    found = [
        f"{where}: {mark}"
        for mark, rows in marked.items()
        for where in (rows if len(rows) < 4 else [f"{len(rows)} rows"])
    ]
    seen: dict[tuple[str, Variant, int], list[str]] = {}
    for run in runs:
        seen.setdefault((run.key, run.variant, run.seed), []).append(run.folder)
    for (dataset, variant, seed), names in seen.items():
        if len(names) > 1:
            places = ", ".join(dict.fromkeys(names))
            found.append(f"{dataset}, {variant.label}: seed {seed} is counted {len(names)} times ({places})")
    return found


def _unequal(means: list[Aggregate]) -> str:
    """A sentence if interquartile means that stand below each other are over different numbers of runs or datasets."""
    scopes = {a.scope for a in means for b in means if a.scope == b.scope and a.datasets != b.datasets}
    if not scopes:
        return ""
    named = ", ".join(dict.fromkeys(a.scope for a in means if a.scope in scopes))
    return (
        f"Algorithms have scores on different datasets ({named}), so these means do not compare; the probability of"
        " improvement uses the datasets both have."
    )


def _cpus(machine: dict[str, Any]) -> str:
    cpus = machine.get("cpus")
    return f"{_said(cpus)} CPUs" if cpus else ""


def _said(value: Any) -> str:
    return "" if value is None else clean(str(value))
