"""A million updates for real, where no simulator is: train datasets as one sweep, save the policies for elsewhere.

python -m benchmarks.real DATA.hdf5 ... --out FOLDER [--steps 1000000] [--seeds 1] [--engine auto] [--device auto]

FOLDER/DATASET-seedN.safetensors are the policies (score them where simulators are: ``aspc-fast evaluate FILE``);
FOLDER/real.json holds seconds and run-updates/s. The same command goes on with an interrupted one.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import aspc_fast as af
from aspc_fast.errors import UserError
from aspc_fast.files import read_json, write_json
from aspc_fast.results.export import export
from aspc_fast.results.names import CONFIG
from aspc_fast.results.provenance import provenance


def main() -> None:
    """Train, export every run's last policy, write real.json and print one line per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
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
    folder = options.out / "sweep"
    settings = {name: getattr(options, name) for name in ("steps", "engine", "device")}
    summary = af.sweep(
        options.data,
        options.seeds,
        out=folder,
        eval_every=0,
        final_episodes=0,
        workers=0,
        tensorboard=False,
        checkpoint_every=max(1, options.steps // 10),
        **settings,
    )
    rows = []
    for described, row in zip(read_json(folder / CONFIG)["runs"], summary["runs"], strict=True):
        policy = options.out / f"{described['dataset']}-seed{described['seed']}.safetensors"
        if row["state"] == "done":
            export(folder, "safetensors", policy, row["run"])
        rows.append({"dataset": described["dataset"], "seed": described["seed"], **row})
        print(
            f"{described['dataset']} seed {described['seed']}: {row['state']}, alpha {row.get('alpha')}, {policy.name}"
        )
    speed = {name: summary[name] for name in ("wall_seconds", "run_updates_per_second")}
    about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **provenance()}
    write_json(options.out / "real.json", {**about, **settings, **speed, "runs": rows})
    print(f"{len(rows)} runs, {options.steps:,} updates each: {speed['wall_seconds']} s")


if __name__ == "__main__":
    main()
