"""One shard of a sweep: a population with a folder of its own, trainable by any process that sees that folder."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aspc_fast.config import AgentConfig
from aspc_fast.data.load import load
from aspc_fast.errors import UserError
from aspc_fast.files import read_json, write_json
from aspc_fast.run.checkpoint import LATEST
from aspc_fast.run.evaluators import Evaluator, InlineEvaluator, WorkerEvaluator
from aspc_fast.run.loggers import TENSORBOARD, LoggedRun, logged
from aspc_fast.run.loop import Loop, Observer, Schedule
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.run.results import ResultsFolder

SHARD, LOGGING, DONE = "shard.json", "logging.json", "done.json"


@dataclass(frozen=True)
class ShardSource:
    """Where a shard's dataset is and what it must be."""

    source: str
    fingerprint: str
    env: str | None


def write_shard(
    folder: Path,
    *,
    runs: list[int],
    planned: list[dict[str, Any]],
    sources: list[ShardSource],
    schedule: Schedule,
    device: str,
    engine: str,
    store_next: bool,
    workers: int,
) -> None:
    """Describe a shard: ``runs`` are the sweep's run numbers, ``planned`` their descriptions (dataset: index)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / SHARD,
        {
            "runs": runs,
            "planned": planned,
            "sources": [vars(source) for source in sources],
            "schedule": vars(schedule),
            "device": device,
            "engine": engine,
            "store_next": store_next,
            "workers": workers,
        },
    )


def write_logging(
    folder: Path, *, names: list[str], datasets: list[str], tensorboard: bool, wandb: str | None, group: str
) -> None:
    """How a shard's runs are called and where they are logged besides metrics.jsonl; loggers may change at a resume."""
    logging = {"names": names, "datasets": datasets, "tensorboard": tensorboard, "wandb": wandb, "group": group}
    write_json(folder / LOGGING, logging)


def train_shard(folder: Path, observer: Observer, stop: Callable[[], bool] = lambda: False) -> None:
    """Train (or go on training) the shard described in ``folder``; it is done when done.json is there.

    Records name runs by the sweep's numbers. Raises Interrupted if ``stop`` says so, UserError on a changed dataset.
    """
    if (folder / DONE).exists():
        return
    described = read_json(folder / SHARD)
    sources = [ShardSource(**source) for source in described["sources"]]
    used = sorted({int(run["dataset"]) for run in described["planned"]})
    datasets = []
    for i in used:
        data = load(sources[i].source, env=sources[i].env)
        if data.fingerprint != sources[i].fingerprint:
            raise UserError(f"{sources[i].source}: the data changed since the sweep began (its fingerprint differs)")
        datasets.append(data)
    runs = [
        RunSpec(used.index(int(run["dataset"])), AgentConfig.from_json(run["agent"]), int(run["seed"]))
        for run in described["planned"]
    ]
    schedule = Schedule(**described["schedule"])
    results = ResultsFolder(folder)
    results.open()
    evaluator = _evaluator(schedule, int(described["workers"]))
    try:
        population = build_population(
            datasets,
            runs,
            device=described["device"],
            engine=described["engine"],
            store_next=bool(described["store_next"]),
        )
        with _logged(folder, described, observer) as both:
            loop = Loop(population, schedule, evaluator, both, results, run_numbers=described["runs"])
            loop.restore()
            loop.run(stop)
        write_json(folder / DONE, {"step": loop.step, "diverged": sorted(loop.diverged)})
    except torch.OutOfMemoryError:
        raise UserError(
            f"{folder}: the device ran out of memory; lower --memory-gb (smaller populations), --batch-size, or use"
            " --no-store-next"
        ) from None
    finally:
        if evaluator is not None:
            evaluator.close()
        results.close()


def _logged(folder: Path, described: dict[str, Any], observer: Observer) -> contextlib.AbstractContextManager[Observer]:
    """The observer with the loggers of the shard's logging.json; events lie in the sweep's folder, beside shards/."""
    if not (folder / LOGGING).exists():
        return contextlib.nullcontext(observer)
    how = read_json(folder / LOGGING)
    runs: dict[int | None, LoggedRun] = {}
    for number, planned, name, data in zip(
        described["runs"], described["planned"], how["names"], how["datasets"], strict=True
    ):
        about = {"run": number, "dataset": data, "seed": planned["seed"], "setting": planned["setting"]}
        settings = {field: described[field] for field in ("schedule", "device", "engine", "store_next")}
        source = described["sources"][planned["dataset"]]
        hparams = {**planned["agent"], "dataset": data, "seed": planned["seed"]}
        runs[number] = LoggedRun(name, hparams, {**about, "agent": planned["agent"], "source": source, **settings})
    return logged(
        observer,
        runs,
        folder=folder,
        tensorboard=folder.parents[1] / TENSORBOARD if how["tensorboard"] else None,
        wandb=how["wandb"],
        population=f"population-{folder.name}",
        group=how["group"],
    )


def begun(folder: Path) -> bool:
    """Whether the shard has a checkpoint."""
    return (folder / "checkpoints" / LATEST).exists()


def _evaluator(schedule: Schedule, workers: int) -> Evaluator | None:
    if not schedule.eval_every and not schedule.final_episodes:
        return None
    nested = multiprocessing.current_process().daemon  # a daemonic process may not start workers of its own
    return WorkerEvaluator(workers) if workers and not nested else InlineEvaluator()
