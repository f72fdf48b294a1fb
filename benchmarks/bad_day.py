"""A bad day: damaged inputs and kills by the thousand. Prints counts and writes them as JSON.

`python -m benchmarks.bad_day --inputs 2000 --kills 50`: the same inputs and the same file operations at which a
kill falls for the same --seed. Exit code 1 if anything went wrong. The test suite runs less of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.parts import write_result
from tests.bad_day.drive import corrupt
from tests.bad_day.kills import survive


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=2000, help="damaged inputs to read")
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs to survive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bad_day.json"))
    options = parser.parse_args()
    told: dict[str, Any] = {"seed": options.seed}
    begin = time.monotonic()

    def show(result: dict[str, Any]) -> None:
        if (result["index"] + 1) % 100 == 0:
            print(f"{result['index'] + 1} of {options.inputs} inputs, {time.monotonic() - begin:.0f} s", flush=True)

    counts = corrupt(options.inputs, options.seed, show)
    told["corruption"] = counts.to_json() | {"seconds": round(time.monotonic() - begin, 1)}
    for target, outcomes in told["corruption"]["by_target"].items():
        print(f"{target:24} " + "  ".join(f"{outcome} {n}" for outcome, n in sorted(outcomes.items())))
    print(f"{'all':24} " + "  ".join(f"{outcome} {n}" for outcome, n in sorted(told["corruption"]["outcomes"].items())))
    for failure in counts.failures:
        print(json.dumps(failure, indent=1))
    if options.kills:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            told["kills"] = survive(options.kills, Path(folder), options.seed)
        told["kills"]["seconds"] = round(time.monotonic() - begin, 1)
        print(f"kills survived: {told['kills']['kills']}, ends compared: {told['kills']['runs_compared']}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_result(options.out, told)
    print(f"written to {options.out}")
    return 1 if counts.failures else 0


if __name__ == "__main__":
    sys.exit(main())
