"""benchmarks/results/*.json as Markdown: machine, versions and command above each table; no number is typed by hand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from aspc_fast.registry import algorithm

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
Json = dict[str, Any]


def markdown(name: str, named: set[str]) -> str:
    """The Markdown of one place: a file's stem, "gpu" (one sentence) or "others" (files that no place names)."""
    if name == "gpu":
        return gpu_sentence()
    if name == "others":
        rest = [path for path in sorted(RESULTS.glob("*.json")) if path.stem not in named]
        return "\n\n".join(f"### {path.stem}\n\n{table(path)}" for path in rest)
    path = RESULTS / f"{name}.json"
    return table(path) if path.exists() else f"Not measured yet: there is no `benchmarks/results/{path.name}`."


def gpu_sentence() -> str:
    """Whether anything under benchmarks/results was measured on a GPU."""
    gpus = sorted({gpu for path in RESULTS.glob("*.json") if (gpu := about(read(path)).get("gpu"))})
    if gpus:
        return f"Measured so far on: two CPU cores, and {', '.join(gpus)}."
    return "**Nothing has been timed on a GPU yet**: no file of `benchmarks/results/` names one."


def read(path: Path) -> Json:
    """One result file."""
    made: Json = json.loads(path.read_text(encoding="utf-8"))
    return made


def about(found: Json) -> Json:
    """The machine of a result file, wherever it stands in it."""
    machine: Json = found.get("machine") or found.get("ours", {}).get("machine") or {}
    return machine


def table(path: Path) -> str:
    """Where it was measured, then the numbers."""
    found = read(path)
    for key, write in KINDS.items():
        if key in found:
            return f"{origin(path, found)}\n\n{write(found)}"
    return f"{origin(path, found)}\n\nNo table for this kind of file; see the JSON."


def origin(path: Path, found: Json) -> str:
    """One paragraph: date, machine, versions, commit, command."""
    machine = about(found)
    versions = found.get("versions") or found.get("ours", {}).get("versions", {})
    place = machine.get("gpu") or f"{machine.get('cpus')} CPU cores, no GPU, {machine.get('threads')} threads"
    parts = [f"`benchmarks/results/{path.name}`", str(found.get("date", ""))[:10], place]
    parts += [f"torch {versions['torch']}"] if "torch" in versions else []
    parts += [f"commit `{found['commit']}`"] if found.get("commit") else []
    text = ", ".join(part for part in parts if part) + "."
    if found.get("what"):
        text += f" {found['what'][0].upper()}{found['what'][1:]}."
    return text + (f"\n\n```bash\n{command(found['command'])}\n```" if found.get("command") else "")


def command(words: list[str]) -> str:
    """The command as a user would type it: the program by its name, files without the folder of one machine."""
    program, *rest = words
    module = PurePath(program)
    start = "aspc-fast" if module.name in ("__main__.py", "aspc-fast") else f"python -m benchmarks.{module.stem}"
    return " ".join([start, *(shlex.quote(PurePath(w).name if w.startswith("/") else w) for w in rest)])


def rows(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ladder(found: Json) -> str:
    """`aspc-fast bench`."""
    made = found["ladder"]
    base = {m["algo"]: m["median"] for m in made if m["engine"] == "reference"}
    plain = {(m["engine"], m["runs"]): m["median"] for m in made if m["algo"] == "td3bc"}
    body = []
    for m in made:
        name = "`reference.py`" if m["engine"] == "reference" else f"`{m['engine']}`"
        other = plain.get((m["engine"], m["runs"])) if m["algo"] != "td3bc" else None
        cost = f"{other / m['median']:.2f}" if other else ""
        ratio = f"{m['median'] / base[m['algo']]:.2f}" if m["algo"] in base else ""
        low, high = min(m["windows"]), max(m["windows"])
        cells = [f"{m['median']:,.0f}", f"{low:,.0f} to {high:,.0f}", ratio, cost, f"{m['start_seconds']:.1f} s"]
        body.append([f"{name}, {algorithm(m['algo']).title}", str(m["runs"]), *cells])
    head = ["way of running", "runs", "median run-updates/s", "windows", "x reference", "it / TD3+BC", "ready after"]
    return rows(head, body)


def rivals(found: Json) -> str:
    """`python -m benchmarks.rivals`."""
    head = ["algorithm", "`eager`", "`compiled`", "plain PyTorch", "MFLOP", "of it, plain", "GFLOP/s, `eager`"]
    body = [
        [
            algorithm(r["algo"]).title,
            *(f"{r['median'][way]:,.1f}" for way in ("eager", "compiled", "reference")),
            *(f"{r['flops'] / 1e6:,.0f}", f"{r['reference_flops'] / 1e6:,.0f}"),
            f"{r['eager_flops_per_second'] / 1e9:.1f}",
            f"{r['eager_flops_per_second'] / found['matmul_rate']:.0%}",
            *(f"{r['eager_over_aspc']:.2f}", f"{r['compiled_over_reference']:.2f}"),
        ]
        for r in found["rivals"]
    ]
    return rows([*head, "of matmul", "x ASPC", "`compiled` x plain"], body)


def headline(found: Json) -> str:
    """`python -m benchmarks.headline`."""
    head = ["engine", "runs", "run-updates/s", "minutes per 1e6 updates", "ready after", "TFLOP/s", "GB/s of state"]
    body = [
        [
            f"`{r['engine']}`",
            *(str(r["runs"]), f"{r['run_updates_per_second']:,.0f}", f"{r['minutes_for_a_million_updates']:.2f}"),
            *(f"{r['ready_after_seconds']:.0f} s", f"{r['tflops']:.1f}", f"{r['state_gb_per_second']:.1f}"),
        ]
        for r in found["rows"]
    ]
    return rows(head, body)


def parity(found: Json) -> str:
    """`python -m benchmarks.score_parity`."""
    theirs = {(r["data"], r["seed"]): r for r in found["reference"]["rows"]}
    body = []
    for r in found["ours"]["rows"]:
        other = theirs[r["data"], r["seed"]]
        shown = [f"{x['score']:.1f} ± {x['episode_std']:.1f}" for x in (r, other)]
        body.append([r["data"], str(r["seed"]), *shown, f"{r['seconds']:.0f} s", f"{other['seconds']:.0f} s"])
    head = ["dataset", "seed", f"score, `{found['ours']['rows'][0]['engine']}`", "score, `reference.py`"]
    return rows([*head, "time", "time, `reference.py`"], body)


def scores(found: Json) -> str:
    """A sweep's scores."""
    by_dataset: dict[str, list[float]] = {}
    for row in found["scores"]:
        by_dataset.setdefault(row["dataset"], []).append(row["final_score"])
    body = [[name, ", ".join(f"{score:.1f}" for score in own)] for name, own in by_dataset.items()]
    told = f"Wall time {found['wall_seconds']:.0f} s, {found['run_updates_per_second']:.1f} run-updates/s."
    return told + "\n\n" + rows(["dataset", "final score of each seed"], body)


HOST = {
    "first_update": ("command to first update", "s"),
    "blocked_per_1e6": ("training blocked per 1e6 steps", "s"),
    "memory_over_store": ("peak host memory over the store's size", ""),
    "whole": ("the whole dry run", "s"),
}


def host(found: Json) -> str:
    """`python -m benchmarks.host` and `benchmarks.side_by_side`."""
    body, commands = [], []
    for name, part in found["parts"].items():
        judged = [(f"{name}, {which}: {HOST[what][0]}", got, limit, HOST[what][1])
                  for which, numbers in part.get("judged", {}).items()
                  for what, (got, limit) in numbers.items()]  # fmt: skip
        judged += [(f"{name} over single runs side by side", *part["ratio"], "")] if "ratio" in part else []
        body += [[what, f"{got:.2f} {unit}".strip(), f"{limit:g} {unit}".strip()] for what, got, limit, unit in judged]
        for which in ("first", "again"):
            if which in part and part[which]["full"]:
                cpu = f"{part[which]['children_cpu']:.0f} core-seconds"
                body.append([f"{name}, {which}: of the decoding processes", cpu, ""])
        about = f"commit `{part['commit']}`, load average at the end {part['load'][0]:.1f}"
        commands.append(f"- {name}: `{command(part['command'])}`, {part['date'][:10]}, {about}")
    return rows(["", "measured", "to reach"], body) + "\n\n" + "\n".join(commands)


def peers(found: Json) -> str:
    """`python -m benchmarks.peers`."""
    told = found["peers"]
    columns = list(dict.fromkeys(column for row in told["rows"] for column in row["columns"]))
    body = []
    for row in told["rows"]:
        own = [row["columns"].get(column) for column in columns]
        name = row["name"] if row["whose"] != "ours" else "`{}`, {}".format(*row["name"].split(", "))
        body.append([name, *(f"{one['median']:.1f} ({one['cores_used']:.2f})" if one else "" for one in own)])
    ratios = [told["ratios"].get(column) for column in columns]
    body.append(["**our fastest ASPC over the best peer**", *(f"**{r['ratio']:.2f}**" if r else "" for r in ratios)])
    kinds = {row["whose"]: row["versions"] for row in told["rows"]}
    libraries = [f"{whose}: " + ", ".join(" ".join(v) for v in own.items()) for whose, own in kinds.items() if own]
    note = [f"Libraries: {'; '.join(libraries)}.", *(f"{sentence}." for sentence in told["left_out"])]
    return rows(["run-updates/s (cores used)", *columns], body) + "\n\n" + " ".join(note)


KINDS: dict[str, Callable[[Json], str]] = {
    "rivals": rivals,
    "ladder": ladder,
    "rows": headline,
    "reference": parity,
    "scores": scores,
    "parts": host,
    "peers": peers,
}
