"""`aspc-fast bench` without the command-line library, for bare machines: python -m benchmarks.ladder."""

from __future__ import annotations

import argparse
from pathlib import Path

from aspc_fast.cli.bench import bench


def main() -> None:
    """Parse the few options and run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--engines", nargs="*", default=[])
    parser.add_argument("--runs", nargs="*", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    bench(tuple(options.engines), tuple(options.runs), options.device, seconds=options.seconds, out=options.out)


if __name__ == "__main__":
    main()
