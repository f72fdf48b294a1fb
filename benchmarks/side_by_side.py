"""A sweep of 8 runs on a CPU's cores over as many single runs side by side as there are cores, in run-updates/s.

`python -m benchmarks.side_by_side`: windows take turns, a slow moment of the machine hits both. ``--check`` ends with
exit code 1 if the median ratio is below 1. ``--json`` keeps the numbers as a part of a file, as
``benchmarks.host`` does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from aspc_fast.evaluation.simulators import cores
from aspc_fast.suite import BY_ID
from benchmarks.parts import keep_part
from benchmarks.synthetic import make_data

RUNS = 8
TO_REACH = 1.0


def rate(out: Path, field: str) -> float:
    """Mean of a speed over a run's log points, but for the first, in which processes begin or code is compiled."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return statistics.mean([record[field] for record in records if field in record][1:])


def run(commands: Sequence[Sequence[str]], threads: int) -> None:
    """The commands at the same time, with so many threads each."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started = [
        subprocess.Popen([sys.executable, "-m", "aspc_fast", *words], env=environment, stdout=subprocess.DEVNULL)
        for words in commands
    ]
    if any([process.wait() for process in started]):
        raise SystemExit("a training failed")


def window(work: Path, data: Path, engine: str, steps: int) -> tuple[float, float]:
    """Run-updates per second of the sweep, and of single runs side by side."""
    common = ["--engine", engine, "--device", "cpu", "--eval-every", "0", "--no-tensorboard", "--log-every", "100"]
    sweep = ["sweep", "--data", str(data), "--seeds", str(RUNS), "--steps", str(steps), "--processes", str(cores())]
    # processes of a sweep take one thread each, whatever is said here; the native engine trains runs in threads
    run([[*sweep, "--final-episodes", "0", "--out", str(work / "sweep"), *common]], threads=cores())
    own = str(steps * RUNS // cores())
    singles = [work / f"single-{k}" for k in range(cores())]
    run(
        [
            ["train", str(data), "--steps", own, "--seed", str(k), "--out", str(out), *common]
            for k, out in enumerate(singles)
        ],
        threads=1,
    )
    together = rate(work / "sweep", "run_updates_per_second")
    return together, sum(rate(out, "updates_per_second") for out in singles)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--json", type=Path, help="keep the numbers there, beside those of other commands")
    parser.add_argument("--steps", type=int, default=500, help="of each of the sweep's runs")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    windows: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(KeyboardInterrupt):
        (data,) = make_data(Path(name) / "data", 20_000, [BY_ID["hopper-random-v2"]])
        for k in range(options.windows):
            together, alone = window(Path(name) / str(k), data, options.engine, options.steps)
            windows.append((together, alone))
            print(f"sweep {together:8.1f}  single runs {alone:8.1f}  ratio {together / alone:.3f}", flush=True)
    median = statistics.median(together / alone for together, alone in windows)
    print(f"median {median:.3f} on {cores()} cores, {options.engine}")
    if options.json is not None:
        told = {"engine": options.engine, "steps": options.steps, "windows": windows, "ratio": (median, TO_REACH)}
        keep_part(options.json, f"a sweep of {RUNS} runs, engine {options.engine}", told)
    return int(options.check and median < TO_REACH)


if __name__ == "__main__":
    raise SystemExit(main())
