"""Runs ``child`` over many damaged inputs, watches the clock, and counts; a child that dies or hangs is replaced."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FAILURES = ("traceback", "wrong", "crash", "hang", "allocated", "not one sentence", "wrote elsewhere")


@dataclass
class Counts:
    """Outcomes by kind of file and by kind of damage, and the inputs that failed."""

    by_target: dict[str, Counter[str]] = field(default_factory=dict)
    by_damage: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, result: dict[str, Any]) -> None:
        """Count one input's outcome."""
        for table, key in ((self.by_target, "target"), (self.by_damage, "did")):
            table.setdefault(result[key], Counter())[result["outcome"]] += 1
        if result["outcome"] in FAILURES:
            self.failures.append(result)
        self.slowest = max(self.slowest, result.get("seconds", 0.0))

    def to_json(self) -> dict[str, Any]:
        """Plain values, sorted."""
        tables = {
            name: {k: dict(v) for k, v in sorted(getattr(self, name).items())} for name in ("by_target", "by_damage")
        }
        total = sum((Counter(c) for c in self.by_target.values()), Counter())
        return {
            "inputs": sum(total.values()),
            "outcomes": dict(total),
            **tables,
            "slowest_seconds": self.slowest,
            "failures": self.failures,
        }


def corrupt(inputs: int, seed: int = 0, on_result: Callable[[dict[str, Any]], None] = lambda result: None) -> Counts:
    """Damage and read ``inputs`` inputs, the same for the same ``seed``."""
    counts, done = Counts(), 0
    while done < inputs:
        for result in _children(seed, done, inputs - done):
            counts.add(result)
            on_result(result)
            done = result["index"] + 1
    return counts


def patience(begun: int | None) -> float:
    """Seconds that input ``begun`` (None: between inputs, or before the first) may take before it counts as a hang.

    On a machine that may be busy; a good day's input takes a hundredth of a second.
    """
    return 900.0 if begun is None else 120.0


def _children(seed: int, first: int, count: int) -> list[dict[str, Any]] | Any:
    command = [sys.executable, "-m", "tests.bad_day.child", str(seed), str(first), str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []

    def forward() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    for work in (forward, lambda: errors.extend(child.stderr or [])):
        threading.Thread(target=work, daemon=True).start()
    begun: int | None = None
    while True:
        try:
            line = lines.get(timeout=patience(begun))
        except queue.Empty:
            line, outcome = None, "hang"
            child.kill()
        else:
            outcome = "crash"
        if line is None:
            code = child.wait()
            if code == 0:
                return
            if begun is None:
                raise RuntimeError(f"the reader did not even begin: {''.join(errors)[-2000:]}")
            from tests.bad_day.targets import TARGETS

            target = TARGETS[begun % len(TARGETS)].name
            yield {"index": begun, "target": target, "did": "unknown", "outcome": outcome, "text": f"exit code {code}"}
            return
        told = json.loads(line)
        if "begin" in told:
            begun = told["begin"]
        else:
            begun = None
            yield told
