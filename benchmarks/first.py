"""The first minutes on a GPU: the most important questions in the order of importance, answers kept as they come.

python -m benchmarks.first --out FILE.json [--minutes 7.5]

1. Is each engine right here? The golden traces that ship with the package, in float64.
2. Updates/s of 1, 39 and 195 runs in each engine. 3. ASPC over TD3+BC in the fastest of them.

Each question is a process of its own, so that one that crashes costs its own answer only. The questions of 1. run at
once, and beside them every engine of 2. compiles for later: the compilers keep what they made on disk. Timing is done
alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aspc_fast.files import write_json
from benchmarks.parts import origin

ENGINES = ("fused:throughput", "fused:latency", "compiled", "eager")
RUNS = (39, 1, 195)
ROWS = 20_000  # per dataset: what is timed does not depend on it, building it does
MARK = "ANSWER "

Answer = dict[str, Any]


def answer(question: Answer) -> Answer:
    """In a child: ask this process's GPU."""
    if question["what"] == "right":
        return _right(question)
    from benchmarks.headline import measure

    names = ("engine", "runs", "seconds", "rows", "device", "algo", "precision")
    return measure(**{name: question[name] for name in names if name in question})


def _right(question: Answer) -> Answer:
    import torch

    from aspc_fast.engine.kinds import ALGORITHMS
    from aspc_fast.engine.select import make_engine
    from aspc_fast.tools.trace import read_trace, shipped_traces
    from aspc_fast.tools.verify import verify

    name, _, tiles = question["engine"].partition(":")

    def make(learners: Any) -> Any:
        if name == "fused":
            from aspc_fast.engine.fused import FusedEngine

            return FusedEngine(learners, precision="fp32", tiles=tiles)
        return make_engine(name, learners, precision="fp32")

    failed, quantities = [], 0
    for path in shipped_traces(ALGORITHMS):
        checks = verify(read_trace(path), torch.float64, make, question["device"])
        quantities += len(checks)
        failed += [f"{path.stem}: {c.quantity} off by {c.deviation:.1e}" for c in checks if not c.passed]
    return {"right": not failed, "quantities": quantities, "failed": failed}


class Asked:
    """A question put to a process of its own."""

    def __init__(self, question: Answer) -> None:
        self.question, self.begin = question, time.monotonic()
        command = [sys.executable, "-m", "benchmarks.first", "--ask", json.dumps(question)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait(self, seconds: float) -> Answer:
        """Its answer, or why there is none, after at most so many seconds."""
        try:
            said, _ = self._process.communicate(timeout=max(1.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return {**self.question, "error": f"no answer within {time.monotonic() - self.begin:.0f} s"}
        lines = said.strip().splitlines()
        found = next((line for line in reversed(lines) if line.startswith(MARK)), None)
        if found is None:
            why = f"exit code {self._process.returncode}: {lines[-1] if lines else 'nothing said'}"
            return {**self.question, "error": why[:300]}
        warned = [line.strip() for line in lines if "Warning:" in line]
        return {**self.question, **json.loads(found.removeprefix(MARK)), "warnings": warned[:5]}


class Sheet:
    """The answers so far, in a file that is whole at any moment."""

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.answers, self.end = path, list[Answer](), time.monotonic() + 60 * minutes
        self._about = origin()

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def add(self, found: Answer) -> None:
        """Keep and print one."""
        self.answers.append(found)
        print(told(found), flush=True)
        write_json(self.path, {**self._about, "answers": self.answers})

    def ask(self, question: Answer) -> Answer:
        """Ask alone; without time left the question is kept unanswered."""
        enough = self.left > 5
        found = Asked(question).wait(self.left) if enough else {**question, "error": "not asked: the time was over"}
        self.add(found)
        return found


def told(found: Answer) -> str:
    """One answer in one line."""
    who = f"{found['engine']:17}" + (f"{found['algo']:6} {found['runs']:4} runs: " if found["what"] == "speed" else "")
    if "error" in found:
        return f"{who}{found['error']}"
    if found["what"] == "right":
        verdict = "right" if found["right"] else "WRONG: " + "; ".join(found["failed"][:3])
        return f"{who}{verdict} ({found['quantities']} quantities of golden traces)"
    if found["what"] == "ratio":
        return f"{who}{found['runs']:4} runs: ASPC costs {found['aspc_over_td3bc']:.3f} times TD3+BC"
    return (
        f"{who}{found['run_updates_per_second']:12,.0f} run-updates/s, ready after {found['ready_after_seconds']:.0f} s"
    )


def first(sheet: Sheet, engines: Sequence[str], runs: Sequence[int], common: Answer, seconds: float) -> None:
    """See the module."""
    right = [Asked({"what": "right", "engine": e, **common}) for e in reversed(engines)]
    speeds = [{"what": "speed", "algo": "aspc", "runs": r, "engine": e, **common} for r in runs for e in engines]
    warm = [Asked({**question, "seconds": 0}) for question in speeds if question["engine"] != "eager"]
    for asked in right:
        sheet.add(asked.wait(min(240.0, sheet.left)))
    for asked in warm:  # what they say is said again below
        asked.wait(min(240.0 - (time.monotonic() - asked.begin), sheet.left))
    best: dict[int, Answer] = {}
    for question in speeds:
        found = sheet.ask({**question, "seconds": seconds})
        speed = found.get("run_updates_per_second", 0)
        if speed > best.get(question["runs"], {}).get("run_updates_per_second", 0):
            best[question["runs"]] = found
    for count, fast in best.items():
        plain = sheet.ask(
            {"what": "speed", "algo": "td3bc", "runs": count, "engine": fast["engine"], **common} | {"seconds": seconds}
        )
        if "error" not in plain:
            ratio = plain["run_updates_per_second"] / fast["run_updates_per_second"]
            sheet.add({"what": "ratio", "engine": fast["engine"], "runs": count, "aspc_over_td3bc": ratio})


def main() -> None:
    """Ask, or (--ask) answer one question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--engines", nargs="*", default=list(ENGINES))
    parser.add_argument("--runs", nargs="*", type=int, default=list(RUNS))
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--ask", help="answer one question, for the children")
    options = parser.parse_args()
    if options.ask is not None:
        print(MARK + json.dumps(answer(json.loads(options.ask))), flush=True)
        return
    if options.out is None:
        parser.error("--out is needed")
    sheet = Sheet(options.out, options.minutes)
    first(sheet, options.engines, options.runs, {"rows": options.rows, "device": options.device}, options.seconds)


if __name__ == "__main__":
    main()
