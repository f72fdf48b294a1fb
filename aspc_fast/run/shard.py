"""One shard of a sweep: a population with a folder of its own, trainable by any process that sees that folder."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from aspc_fast.config import AgentConfig, Precision
from aspc_fast.data.packed import Packed, Packing
from aspc_fast.data.store import Store, load_store
from aspc_fast.errors import UserError
from aspc_fast.files import read_json, write_json
from aspc_fast.registry import is_everywhere
from aspc_fast.results.checkpoint import has_checkpoint
from aspc_fast.results.folder import ResultsFolder
from aspc_fast.results.logged_run import LoggedRun
from aspc_fast.results.loggers import logged
from aspc_fast.results.names import CHECKPOINTS, DONE, LOGGING, SHARD, TENSORBOARD
from aspc_fast.results.records import Observer
from aspc_fast.run.cores import processes_for, side_by_side
from aspc_fast.run.evaluators import Evaluator, InlineEvaluator, WorkerEvaluator
from aspc_fast.run.loop import Loop
from aspc_fast.run.memory import memory_named
from aspc_fast.run.plan import DataSize, PlannedRun, memory
from aspc_fast.run.population import RunSpec, build_population, packing
from aspc_fast.run.schedule import Schedule

_ADVICE = (
    "lower --memory-gb (smaller populations; a sweep that has checkpoints keeps its own), or begin in another --out"
    " with a smaller batch_size or --no-store-next"
)


@dataclass(frozen=True)
class ShardSource:
    """Where a shard's dataset is and what it must be."""

    source: str
    fingerprint: str
    env: str | None


@dataclass(frozen=True)
class Shard:
    """What shard.json says: the sweep's run numbers, their settings (in the same order), and how they are trained."""

    numbers: list[int]
    runs: list[PlannedRun]
    sources: list[ShardSource]
    schedule: Schedule
    device: str
    engine: str
    store_next: bool
    workers: int
    processes: int = 0
    precision: Precision = "tf32"

    def write(self, folder: Path) -> None:
        """Describe the shard in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        told = vars(self) | {"runs": self.numbers, "planned": [run.to_json() for run in self.runs]}
        told |= {"sources": [vars(source) for source in self.sources], "schedule": vars(self.schedule)}
        write_json(folder / SHARD, {name: value for name, value in told.items() if name != "numbers"}, seal=True)


def read_shard(folder: Path) -> Shard:
    """The shard described in ``folder``; UserError naming shard.json and the field if it is missing or damaged."""
    path = folder / SHARD
    described = read_json(path)
    try:
        sources = [ShardSource(**source) for source in described["sources"]]
        runs = [
            PlannedRun(int(run["dataset"]), AgentConfig.from_json(run["agent"]), int(run["seed"]), str(run["setting"]))
            for run in described["planned"]
        ]
        numbers = [int(number) for number in described["runs"]]
        if len(numbers) != len(runs) or not runs or not all(0 <= run.dataset < len(sources) for run in runs):
            raise ValueError("'runs', 'planned' and 'sources' do not fit together")
        if not all(isinstance(text, str) for source in sources for text in (source.source, source.fingerprint)):
            raise ValueError("'sources' must be text")
        told = dict(described["schedule"])
        seconds = float(told.pop("checkpoint_seconds", Schedule.checkpoint_seconds))
        schedule = Schedule(**{name: int(value) for name, value in told.items()}, checkpoint_seconds=seconds)
        if schedule.steps < 1 or schedule.log_every < 1 or schedule.checkpoint_every < 0 or schedule.eval_every < 0:
            raise ValueError("'schedule' holds a negative number")
        if not schedule.checkpoint_seconds > 0:
            raise ValueError("'checkpoint_seconds' must be positive")
        precision = described.get("precision", "tf32")
        if precision not in get_args(Precision):
            raise ValueError(f"'precision' must be one of {', '.join(get_args(Precision))}")
        for name in ("device", "engine"):
            if not isinstance(described[name], str):
                raise ValueError(f"{name!r} must be text")
        return Shard(
            *(numbers, runs, sources, schedule, described["device"], described["engine"]),
            store_next=bool(described["store_next"]),
            workers=int(described["workers"]),
            processes=int(described.get("processes", 0)),
            precision=precision,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: damaged, field {error} is missing or of the wrong type") from None


def train_shard(
    folder: Path,
    observer: Observer,
    stop: Callable[[], bool] = lambda: False,
    store: Store | None = None,
    last: bool = False,
) -> None:
    """Train (or go on training) the shard described in ``folder``; it is done when done.json is there.

    Records name runs by the sweep's numbers. ``store``: the sweep's datasets, if in memory already;
    ``last``: nobody needs them after this. Raises Interrupted if ``stop`` says so, UserError on a changed dataset.
    """
    if (folder / DONE).exists():
        return
    shard = read_shard(folder)
    used = sorted({run.dataset for run in shard.runs})
    store, datasets = _datasets(shard, used, store, observer)
    runs = [RunSpec(used.index(run.dataset), run.config, run.seed) for run in shard.runs]
    sizes = [DataSize(d.source, len(d), d.obs_dim, d.act_dim) for d in datasets]
    own = [dataclasses.replace(run, dataset=used.index(run.dataset)) for run in shard.runs]
    plan = memory(own, sizes, shard.store_next)
    results = ResultsFolder(folder)
    results.open()
    evaluator = _evaluator(shard.schedule, shard.workers)
    try:
        with (
            memory_named(str(folder), plan, _ADVICE),
            contextlib.ExitStack() as ending,
            _logged(folder, shard, observer) as both,
        ):
            population = build_population(
                datasets,
                runs,
                device=shard.device,
                engine=shard.engine,
                precision=shard.precision,
                store_next=shard.store_next,
                store=store.array(),
            )
            updates = shard.schedule.steps * len(runs)
            processes = processes_for(shard.processes, shard.engine, len(runs), updates)
            known = is_everywhere(shard.runs[0].config.algo)  # not so with an algorithm that only this process knows
            if shard.device.startswith("cpu") and processes > 1 and known:
                population = side_by_side(population, store, processes)
                ending.callback(population.engine.close)  # type: ignore[attr-defined]
            if last and not shard.device.startswith("cpu"):
                store.close()  # the device has its own copy now
            loop = Loop(population, shard.schedule, evaluator, both, results, run_numbers=shard.numbers)
            with contextlib.closing(loop):
                loop.restore()
                loop.run(stop)
        write_json(folder / DONE, {"step": loop.step, "diverged": sorted(loop.diverged)})
    finally:
        if evaluator is not None:
            evaluator.close()
        results.close()


def packing_of(shard: Shard) -> Packing:
    """How its datasets must lie in a store."""
    return packing(shard.runs[0].config, shard.store_next)


def _datasets(shard: Shard, used: list[int], store: Store | None, observer: Observer) -> tuple[Store, list[Packed]]:
    """The shard's datasets, out of ``store`` if it has them as they are needed here, else read."""
    needed = packing_of(shard)
    if store is None or store.packing != needed:
        sources = [(shard.sources[i].source, shard.sources[i].env) for i in used]
        store = load_store(sources, needed, progress=observer.on_loading)
    datasets = []
    for source in (shard.sources[i] for i in used):
        data = store.find(source.fingerprint)
        if data is None:
            raise UserError(f"{source.source}: the data changed since the sweep began (its fingerprint differs)")
        datasets.append(data)
    return store, datasets


def _logged(folder: Path, shard: Shard, observer: Observer) -> contextlib.AbstractContextManager[Observer]:
    """The observer with the loggers of the shard's logging.json; events lie in the sweep's folder, beside shards/."""
    if not (folder / LOGGING).exists():
        return contextlib.nullcontext(observer)
    how = read_json(folder / LOGGING)
    trained = {"schedule": vars(shard.schedule), "device": shard.device, "engine": shard.engine}
    runs: dict[int | None, LoggedRun] = {}
    for number, run, name, data in zip(shard.numbers, shard.runs, how["names"], how["datasets"], strict=True):
        agent = run.config.to_json()
        about = {"run": number, "dataset": data, "seed": run.seed, "setting": run.setting, "agent": agent}
        about |= {"source": vars(shard.sources[run.dataset]), "store_next": shard.store_next, **trained}
        runs[number] = LoggedRun(name, {**agent, "dataset": data, "seed": run.seed}, about)
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
    """Whether the shard has a checkpoint, or is done."""
    return (folder / DONE).exists() or has_checkpoint(folder / CHECKPOINTS)


def _evaluator(schedule: Schedule, workers: int) -> Evaluator | None:
    if not schedule.eval_every and not schedule.final_episodes:
        return None
    nested = multiprocessing.current_process().daemon  # a daemonic process may not start workers of its own
    return WorkerEvaluator(workers) if workers and not nested else InlineEvaluator()
