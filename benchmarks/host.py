"""What a sweep costs besides its updates: `python -m benchmarks.host`, the sweep with an engine that does nothing.

39 synthetic datasets of the suite's dimensions are written once (``--data``), then the sweep trains on them with all
defaults and an engine that only fills the metrics. Printed: where the wall time went, what training waited for and what
was done beside it, and the peak memory. ``--check`` ends with exit code 1 if a number to reach (LIMITS) is missed.

The disk is taken to write 200 MB/s: every fsync takes at least its file's bytes over that. The numbers for fewer
rows or steps than ``--full`` and 1e6 are printed as measured, and those that grow with steps also per 1e6 steps.
The decoded copies lie in a folder of this program's own, empty at first. ``--json`` keeps the numbers as a part of a
file that ``benchmarks.side_by_side`` adds to as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import Batch
from aspc_fast.clock import CLOCK
from aspc_fast.engine.base import Learners
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.select import register_engine
from aspc_fast.report.build import build_report
from aspc_fast.results.records import Observer
from aspc_fast.run.plan import gib
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from aspc_fast.suite import SUITE
from benchmarks.meters import Memory, slow_disk
from benchmarks.parts import keep_part
from benchmarks.synthetic import make_data

DISK_BYTES_PER_SECOND = 200e6
LIMITS = {  # of issue sizes: 2 cores, 39 full-size files, 1e6 steps, all defaults
    "blocked_per_1e6": {1: 8.0, 5: 40.0},
    "first_update": {"first": 60.0, "again": 15.0},
    "memory_over_store": 1.25,
    "whole": 90.0,
}


class NullEngine:
    """Does no update, but fills the metrics of ``steps`` steps: what one real run measured in its first period."""

    name = "null"
    pace = 0.0
    """Seconds that 1e6 steps shall take, as a GPU would; 0: as fast as can be."""

    def __init__(self, learners: Learners) -> None:
        self.spec, self.state, self.hyper, _ = spec, state, *_ = learners
        one, first = MetricMeans(), learners.part(slice(1))
        # one widest step on its own copy of the first run; the population's own state is left as it is
        EagerEngine(first._replace(state=first.state.clone())).advance(spec.period, one)
        self._period = [
            (tuple(part["names"]), sums.expand(-1, state.runs).contiguous(), part["count"])
            for part in one.to_json()
            for sums in [torch.tensor(part["sums"], dtype=torch.float64, device=state.device)]
        ]

    def step(self, batch: Batch) -> Metrics:
        """A step that takes no time: every metric at its mean, [R]."""
        self.state.step.add_(1)
        return {
            name: (row / count).to(self.state.dtype)
            for names, sums, count in self._period
            for name, row in zip(names, sums, strict=True)
        }

    def advance(self, steps: int, means: MetricMeans) -> None:
        """Takes no time (or ``pace``)."""
        if self.pace:
            time.sleep(self.pace * steps / 1e6)
        share = steps / self.spec.period
        for names, sums, count in self._period:
            means.add_sums(names, sums * share, max(1, round(count * share)))
        self.state.step.add_(steps)

    def restored(self) -> None:
        """Nothing is kept."""


class Watch(Observer):
    """Notes when training began, and speaks up."""

    def __init__(self) -> None:
        self.begun: float | None = None

    def on_start(self, first_step: int, steps: int) -> None:
        """The first update comes now."""
        self.begun = self.begun or time.perf_counter()

    def on_message(self, text: str) -> None:
        """One sentence."""
        print(f"  {text}")


def measure(sources: list[Path], out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One sweep and its report; seconds by what they went to."""
    settings = SweepSettings(steps=options.steps, engine="null", device="cpu", eval_every=0, final_episodes=0)
    memory, watch = Memory(), Watch()
    memory.start()
    CLOCK.take()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = children.ru_utime + children.ru_stime
    begin = time.perf_counter()
    sweep(sources, list(range(options.seeds)), out, settings=settings, observer=watch)
    ended = time.perf_counter()
    build_report([out], out / "report")
    reported = time.perf_counter() - ended
    waited, beside = CLOCK.take()
    assert watch.begun is not None
    store = _store_bytes(sources)
    growing = sum(seconds for name, seconds in waited.items() if name in ("records", "checkpoints", "evaluation"))
    once = sum(seconds for name, seconds in waited.items() if name in ("last checkpoint", "last writes"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seeds": options.seeds,
        "full": options.full,
        "steps": options.steps,
        "first_update": watch.begun - begin,
        "blocked_per_1e6": growing * 1e6 / options.steps + once,
        "children_cpu": children.ru_utime + children.ru_stime - before,
        "memory_over_store": memory.stop() / store,
        "store_bytes": store,
        "whole": ended - begin,
        "report": reported,
        "waited": waited,
        "beside": beside,
        "results_bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }


def _store_bytes(sources: list[Path]) -> int:
    total = 0
    for path, row in zip(sources, SUITE, strict=True):
        rows = int(path.stem.rsplit("-", 1)[1])
        total += 4 * rows * (2 * row.obs_dim + row.act_dim + 2)
    return total


def show(told: dict[str, Any], which: str) -> None:
    """A table of one measurement."""
    print(f"{which}: {told['seeds']} seed(s), {told['steps']:,} steps, store {gib(told['store_bytes'])}")
    for name in ("first_update", "blocked_per_1e6", "whole", "report", "children_cpu", "memory_over_store"):
        print(f"  {name:<20}{told[name]:10.2f}")
    for kind in ("waited", "beside"):
        for name, seconds in sorted(told[kind].items()):
            print(f"  {kind:<8}{name:<20}{seconds:10.2f} s")


def missed(first: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """The numbers to reach that were not reached, as sentences."""
    return [
        f"{which}: {what}: {got:.2f}, to reach {limit:g}"
        for which, told in (("first", first), ("again", again))
        for what, (got, limit) in judged(told, which).items()
        if got > limit
    ]


def judged(told: dict[str, Any], which: str) -> dict[str, tuple[float, float]]:
    """Numbers of the ``which`` (first, again) measurement with the limit each has to keep."""
    limits: dict[str, Any] = LIMITS
    wanted = {"blocked_per_1e6": limits["blocked_per_1e6"].get(told["seeds"])}
    if told["full"]:  # the others are of the suite's true sizes
        wanted["first_update"] = limits["first_update"][which]
        wanted["memory_over_store"] = limits["memory_over_store"]
        wanted["whole"] = limits["whole"] if told["seeds"] == 1 and which == "first" else None
    return {name: (told[name], limit) for name, limit in wanted.items() if limit}


def main() -> int:
    """Measure, print, and check if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder for the synthetic files (default: a temporary one)")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of a file, at most")
    parser.add_argument("--full", action="store_true", help="the suite's true sizes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--pace", type=float, default=0.0, help="seconds that 1e6 steps of the null engine shall take")
    parser.add_argument("--disk", type=float, default=DISK_BYTES_PER_SECOND, help="bytes per second; 0: as it is")
    parser.add_argument("--json", type=Path, help="keep the numbers there, beside those of other commands")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a number to reach is missed")
    options = parser.parse_args()
    NullEngine.pace = options.pace
    register_engine("null", NullEngine)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # one that was filled before would make "first" an "again"
        os.environ["ASPC_FAST_CACHE"] = str(work / "decoded")
        sources = make_data(options.data or work / "data", None if options.full else options.rows)
        if options.disk:
            stack.enter_context(slow_disk(options.disk))
        told = {}
        for which in ("first", "again"):
            told[which] = measure(sources, work / which, options)
            show(told[which], which)
            shutil.rmtree(work / which)
    if options.json is not None:
        judgements = {which: judged(one, which) for which, one in told.items()}
        sizes = "files of the true sizes" if options.full else f"files of {options.rows:,} rows"
        runs = f"{options.seeds * len(SUITE)} runs, {sizes}"
        keep_part(options.json, runs, {"judged": judgements, **told})
    complaints = missed(told["first"], told["again"])
    for complaint in complaints:
        print(f"missed: {complaint}")
    return int(options.check and bool(complaints))


if __name__ == "__main__":
    raise SystemExit(main())
