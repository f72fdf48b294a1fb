"""A million updates for real, where no simulator is: train datasets as one sweep, save the policies for elsewhere.

python -m benchmarks.real DATA.hdf5 ... --out FOLDER [--work FOLDER] [--steps 1000000] [--seeds 1] [--engine auto]

FOLDER/DATASET-seedN.safetensors are the policies (score them where simulators are: ``aspc-fast evaluate FILE``),
written anew after each checkpoint, so that a run that is cut off leaves its last ones; FOLDER/real.json holds seconds
and run-updates/s. Nothing else lies there, at most MAX_FILES together: the sweep itself is in --work. The same command
goes on with an interrupted one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import aspc_fast as af
from aspc_fast.errors import UserError
from aspc_fast.files import read_json
from aspc_fast.results.checkpoint import LATEST
from aspc_fast.results.export import export
from aspc_fast.results.names import CHECKPOINTS, CONFIG, SHARDS
from benchmarks.parts import write_result

MAX_FILES = 8  # what a machine that hands results back may keep
SAVES = 20  # checkpoints of a training


def main() -> None:
    """Train, export every run's last policy, write real.json and print one line per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="where the sweep lies (default: OUT-work beside OUT)")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    try:
        train(options)
    except UserError as error:
        raise SystemExit(f"benchmarks.real: {error}") from None


def train(options: argparse.Namespace) -> None:
    """See ``main``. Raises UserError for data or settings that do not work."""
    count = len(options.data) * options.seeds
    if count >= MAX_FILES:
        raise UserError(f"{count} runs make {count} policies, but with real.json at most {MAX_FILES} files are kept")
    folder = options.work or options.out.with_name(options.out.name + "-work")
    options.out.mkdir(parents=True, exist_ok=True)
    every = max(1, options.steps // SAVES)
    settings = {name: getattr(options, name) for name in ("steps", "engine", "device")}
    coming = _Policies(folder, options.out, every, settings)
    summary = af.sweep(
        options.data,
        options.seeds,
        out=folder,
        callback=coming.on_record,
        eval_every=0,
        final_episodes=0,
        workers=0,
        tensorboard=False,
        checkpoint_every=every,
        log_every=min(1000, every),
        **settings,
    )
    rows = []
    for described, row in zip(coming.runs(), summary["runs"], strict=True):
        rows.append({"dataset": described["dataset"], "seed": described["seed"], **row})
        policy = coming.file_of(described)
        if row["state"] == "done":
            export(folder, "safetensors", policy, row["run"])
        print(f"{policy.stem}: {row['state']}, alpha {row.get('alpha')}, {policy.name}")
    speed = {name: summary[name] for name in ("wall_seconds", "run_updates_per_second")}
    coming.write({**speed, "runs": rows})
    print(f"{len(rows)} runs, {options.steps:,} updates each: {speed['wall_seconds']} s")


class _Policies:
    """Exports every run's policy when there is a new checkpoint."""

    def __init__(self, folder: Path, out: Path, every: int, settings: dict[str, Any]) -> None:
        self.folder, self.out, self.every, self.settings = folder, out, every, settings
        self._exported, self._begin, self._first = 0, time.monotonic(), 0

    def runs(self) -> list[dict[str, Any]]:
        """What the sweep's config.json says of each run."""
        return read_json(self.folder / CONFIG)["runs"]

    def file_of(self, described: dict[str, Any]) -> Path:
        """Where a run's policy goes."""
        return self.out / f"{described['dataset']}-seed{described['seed']}.safetensors"

    def on_record(self, record: dict[str, Any]) -> None:
        """At the first record behind a checkpoint that one is on disk."""
        step = int(record["step"])
        self._first = self._first or step
        if (step - 1) // self.every <= self._exported or not self._on_disk():
            return
        self._exported = (step - 1) // self.every
        seconds = time.monotonic() - self._begin
        runs = self.runs()
        for number, described in enumerate(runs):
            export(self.folder, "safetensors", self.file_of(described), number)
        speed = len(runs) * (step - self._first) / seconds if seconds else None
        self.write({"so_far": step, "wall_seconds": seconds, "run_updates_per_second": speed})

    def _on_disk(self) -> bool:
        """Whether every population has a checkpoint: they are written beside training."""
        shards = [path for path in (self.folder / SHARDS).iterdir() if path.is_dir()]
        return all((shard / CHECKPOINTS / LATEST).is_file() for shard in shards)

    def write(self, values: dict[str, Any]) -> None:
        """real.json."""
        write_result(self.out / "real.json", self.settings | values)


if __name__ == "__main__":
    main()
