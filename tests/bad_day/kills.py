"""SIGKILL at random operations on files, in training, sweeps and writing checkpoints; the end must be the same.

A kill falls before, or half way through, the n-th thing that is asked of the disk: a record, a checkpoint, its rename.
So it depends on the seed alone, not on the machine's speed. Victims are forked from a server that has everything
imported, so a kill costs a fraction of a second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aspc_fast.config import AgentConfig
from aspc_fast.data.load import load
from aspc_fast.results.checkpoint import load_checkpoint
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from aspc_fast.run.train import TrainSettings, train
from tests.bad_day.disk import PowerCut, failing
from tests.helpers import TOO_LONG
from tests.run.test_train import write_data

AGENT = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5)
OPERATIONS = "operations.txt"
TIMES = ("updates_per_second", "run_updates_per_second", "wall_seconds")


def train_victim(folder: Path) -> None:
    """300 steps with an evaluation in Hopper and a checkpoint now and then."""
    settings = TrainSettings(
        steps=300, eval_every=150, eval_episodes=1, log_every=20, checkpoint_every=30, device="cpu", engine="eager"
    )
    train(load(folder.parent / "a.hdf5"), AGENT, settings, out=folder, resume=True)


def checkpoint_victim(folder: Path) -> None:
    """A checkpoint after every step: most moments lie inside the writing of one."""
    settings = TrainSettings(
        steps=40, eval_every=0, log_every=5, checkpoint_every=1, device="cpu", engine="eager", tensorboard=False
    )
    train(load(folder.parent / "a.hdf5"), AGENT, settings, out=folder, resume=True)


def sweep_victim(folder: Path) -> None:
    """Two datasets x two seeds in two populations."""
    settings = SweepSettings(
        steps=100, eval_every=0, final_episodes=0, log_every=20, checkpoint_every=10, device="cpu", engine="eager",
        workers=0,
    )  # fmt: skip
    sources = [folder.parent / "a.hdf5", folder.parent / "b.hdf5"]
    sweep(sources, [0, 1], folder, base=AGENT, settings=settings, parts=2)


VICTIMS: dict[str, Callable[[Path], None]] = {
    "training": train_victim,
    "writing checkpoints": checkpoint_victim,
    "sweep": sweep_victim,
}


def run_victim(name: str, folder: Path, at: int | None) -> None:
    """What a forked process does: the work, quietly, killed at file operation ``at``; 3 if it raises."""
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        with failing(folder, at, kind=PowerCut) as disk:
            VICTIMS[name](folder)
        (folder.parent / OPERATIONS).write_text(str(len(disk.asked)))
    except BaseException as error:
        (folder.parent / "error.txt").write_text(repr(error))
        os._exit(3)


def survive(kills: int, workdir: Path, seed: int = 0, only: str | None = None) -> dict[str, Any]:
    """Kill victims of every kind in turn, ``kills`` times in all, and compare every end with an undisturbed one.

    Returns counts; AssertionError if a run cannot go on or ends otherwise.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bad_day.kills"])
    write_data(workdir / "a.hdf5")
    write_data(workdir / "b.hdf5", 17, 6, "Walker2d-v4")
    rng, counts, ends = random.Random(seed), Counter(), Counter()
    names = [only] if only else list(VICTIMS)
    operations: dict[str, int] = {}
    for name in names:
        assert _exit_code(context, name, workdir / f"whole {name}") == 0, _why(workdir)
        operations[name] = int((workdir / OPERATIONS).read_text())
    running = dict.fromkeys(names, 0)
    while sum(counts.values()) < kills or any(running.values()):
        more = sum(counts.values()) < kills
        name = names[sum(counts.values()) % len(names)] if more else _open(running)
        # a run that goes on has fewer operations before it than a new one, and may end first
        at = rng.randrange(operations[name]) if more else None
        code = _exit_code(context, name, workdir / f"killed {name}", at)
        if code == -signal.SIGKILL:
            counts[name] += 1
            running[name] += 1
            continue
        assert code == 0, _why(workdir)
        assert at is None or running[name], f"operation {at} of a new run was never reached"
        compare(workdir / f"whole {name}", workdir / f"killed {name}")
        shutil.rmtree(workdir / f"killed {name}")
        ends[name] += 1
        running[name] = 0
    return {"kills": dict(counts), "runs_compared": dict(ends), "operations_of_a_whole_run": operations, "seed": seed}


def compare(whole: Path, killed: Path) -> None:
    """AssertionError unless both ended with the same weights, bit for bit, and the same records but for times."""
    for path in sorted(whole.rglob("metrics.jsonl")):
        assert _records(path) == _records(killed / path.relative_to(whole)), path.name
    for path in sorted(whole.rglob("latest.json")):
        one = load_checkpoint(path.parent).tensors
        other = load_checkpoint((killed / path.relative_to(whole)).parent).tensors
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), path
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (whole, killed)]
    assert _timeless(summaries[0]) == _timeless(summaries[1])
    left = [path for path in killed.rglob("*") if path.suffix in (".tmp", ".part") or path.name == ".shards"]
    assert not left, left


def _records(path: Path) -> list[Any]:
    return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]


def _timeless(value: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in value.items() if name not in TIMES}


def _open(running: dict[str, int]) -> str:
    return next(name for name, count in running.items() if count)


def _exit_code(context: Any, name: str, folder: Path, at: int | None = None) -> int | None:
    process = context.Process(target=run_victim, args=(name, folder, at))
    process.start()
    process.join(TOO_LONG)
    return process.exitcode


def _why(workdir: Path) -> str:
    told = workdir / "error.txt"
    return told.read_text() if told.exists() else "a hang?"
