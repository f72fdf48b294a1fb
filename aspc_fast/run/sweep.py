"""Datasets x settings x seeds as populations: plan, train shard by shard, merge into one results folder."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aspc_fast.config import AgentConfig
from aspc_fast.data.packed import Packed, Packing
from aspc_fast.data.store import Store, load_store
from aspc_fast.engine.select import resolve_engine
from aspc_fast.errors import UserError
from aspc_fast.files import read_json, write_json
from aspc_fast.results.loggers import require_wandb, run_names, tensorboard_problem
from aspc_fast.results.merging import Merging
from aspc_fast.results.names import DONE, LOGGING, METRICS, SUMMARY
from aspc_fast.results.records import Observer, Record, read_metrics
from aspc_fast.run.plan import DataSize, PlannedRun, cross
from aspc_fast.run.population import check_device, packing
from aspc_fast.run.shard import Shard, ShardSource, begun, packing_of, read_shard, train_shard
from aspc_fast.run.sweep_plan import SweepPlan, SweepSettings, plan_sweep
from aspc_fast.run.train import CHECKPOINT_SETTINGS, begin_or_compare, describe_data, opened, summarise


def sweep(
    sources: Sequence[str | Path],
    seeds: Sequence[int],
    out: Path,
    *,
    base: AgentConfig | None = None,
    varied: Mapping[str, Sequence[Any]] | None = None,
    settings: SweepSettings | None = None,
    observer: Observer | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_plan: Callable[[SweepPlan], None] = lambda plan: None,
    run_shards: Callable[[list[Path], Observer, Callable[[], bool]], None] | None = None,
    parts: int = 1,
) -> dict[str, Any]:
    """Train every dataset x setting x seed and return the summary; the same call goes on with an interrupted sweep.

    sources: what ``load`` takes. varied: AgentConfig field -> values. run_shards: trains the shard folders it is given
    (default: one after the other, here); parts: at least so many shards. Raises Interrupted, UserError.
    """
    base, settings, observer = base or AgentConfig(), settings or SweepSettings(), observer or Observer()
    device = settings.resolved_device
    check_device(device)
    runs = len(sources) * len(seeds) * math.prod(len(values) for values in (varied or {}).values())
    algos = (varied or {}).get("algo", [base.algo])
    engines = {algo: resolve_engine(settings.engine, device, settings.steps * runs, algo) for algo in algos}
    if settings.wandb is not None:
        require_wandb(runs)
    first = cross(1, [0], base, varied or {})[0].config  # those that need another packing have their turn later
    needed = packing(first, settings.store_next)
    store = load_store([(str(s), None) for s in sources], needed, progress=observer.on_loading)
    datasets = store.datasets
    sizes = [DataSize(display_name(d), len(d), d.obs_dim, d.act_dim) for d in datasets]
    described = _describe(datasets, seeds, base, varied or {}, settings, engines)
    read_from = [ShardSource(_absolute(d.source), d.fingerprint, d.env) for d in datasets]
    with opened(out) as folder:
        assert folder is not None
        fresh = not folder.has_run()
        # the runs themselves say which alpha came from where
        free = {"workers", "processes", "memory_gb", "tensorboard", "wandb", "alpha_from", *CHECKPOINT_SETTINGS}
        may_change = {"settings": free}
        plan = plan_sweep(sizes, seeds, base, varied or {}, settings, parts)
        described["runs"] = [_describe_run(i, run, datasets[run.dataset]) for i, run in enumerate(plan.runs)]
        begin_or_compare(folder, described, True, may_change)
        if fresh or not (out / "shards").is_dir():
            _write_shards(out, plan, read_from, settings, engines)
        shards = _shards(out)
        if [read_shard(shard).numbers for shard in shards] != plan.shards and not any(map(begun, shards)):
            _write_shards(out, plan, read_from, settings, engines)  # another --memory-gb, and nothing to lose
            shards = _shards(out)
        plan = dataclasses.replace(plan, shards=[read_shard(shard).numbers for shard in shards])
        if sorted(number for part in plan.shards for number in part) != list(range(len(plan.runs))):
            raise UserError(f"{out / 'shards'}: a shard is missing or there twice, the sweep's runs are not all there")
        for shard in shards:
            _point_to(shard, read_from, settings)
        on_plan(plan)
        _write_logging(out, shards, plan, settings, observer)
        left = [shard for shard in shards if not (shard / DONE).exists()]
        if not left and (out / SUMMARY).exists():
            return read_json(out / SUMMARY)  # nothing to do: its seconds are those of the training
        begin = time.monotonic()
        merging = Merging(out, lambda: _shards(out), observer)
        try:
            if run_shards is None:
                _run_here(left, merging, stop, store)
            else:
                store.close()  # whoever trains them reads them
                run_shards(left, merging, stop)
        finally:
            merging.finish()
        summary = _summarise(out, plan, time.monotonic() - begin)
        write_json(out / SUMMARY, summary)
        return summary


def display_name(data: Packed) -> str:
    """What tables call a dataset: its id, or the stem of its file."""
    return data.dataset_id or Path(data.source).stem


def _run_here(shards: list[Path], observer: Observer, stop: Callable[[], bool], store: Store) -> None:
    """One after the other, those whose datasets lie alike in memory together: one store at a time, each filled once."""
    groups: dict[Packing, list[Path]] = {store.packing: []}
    for folder in shards:
        groups.setdefault(packing_of(read_shard(folder)), []).append(folder)
    for needed, folders in groups.items():
        if folders and needed != store.packing:
            store.close()
            used = {run.dataset: shard for shard in map(read_shard, folders) for run in shard.runs}
            sources = [shard.sources[dataset] for dataset, shard in sorted(used.items())]
            store = load_store([(s.source, s.env) for s in sources], needed, progress=observer.on_loading)
        for folder in folders:
            train_shard(folder, observer, stop, store, last=folder is folders[-1])


def _write_shards(
    out: Path, plan: SweepPlan, sources: list[ShardSource], settings: SweepSettings, engines: dict[str, str]
) -> None:
    staging = out / ".shards"
    for left in (staging, out / "shards"):  # of a sweep that was killed here, perhaps with another plan
        if left.exists():
            shutil.rmtree(left)
    for number, indices in enumerate(plan.shards):
        Shard(
            numbers=indices,
            runs=[plan.runs[i] for i in indices],
            sources=sources,
            schedule=settings.schedule(),
            device=settings.resolved_device,
            engine=engines[plan.runs[indices[0]].config.algo],
            store_next=settings.store_next,
            workers=settings.workers,
            processes=settings.processes,
            precision=settings.precision,
        ).write(staging / f"{number:03d}")
    staging.replace(out / "shards")


def _write_logging(out: Path, shards: list[Path], plan: SweepPlan, settings: SweepSettings, observer: Observer) -> None:
    """Tell every shard how its runs are called and where they are logged besides metrics.jsonl.

    Anew at each call, since a sweep may go on with other loggers.
    """
    problem = tensorboard_problem() if settings.tensorboard else None
    if problem is not None:
        observer.on_message(problem)  # here once, instead of by every shard
    datasets = [size.name for size in plan.sizes]
    names = run_names([(datasets[r.dataset], r.config.algo, r.setting, f"seed{r.seed}") for r in plan.runs])
    for shard, runs in zip(shards, plan.shards, strict=True):
        how: dict[str, Any] = {"tensorboard": settings.tensorboard and problem is None, "wandb": settings.wandb}
        how |= {"names": [names[i] for i in runs], "datasets": [datasets[plan.runs[i].dataset] for i in runs]}
        write_json(shard / LOGGING, {**how, "group": out.resolve().name})


def _shards(out: Path) -> list[Path]:
    return sorted(path for path in (out / "shards").iterdir() if path.is_dir())


def _point_to(shard: Path, sources: list[ShardSource], settings: SweepSettings) -> None:
    """Let a shard read its data where this command says it is (a path out of a file is not followed), so evaluated."""
    described = read_shard(shard)
    told = dataclasses.replace(described, sources=sources, workers=settings.workers, processes=settings.processes)
    if described != told:
        told.write(shard)


def _absolute(source: str) -> str:
    return str(Path(source).resolve()) if Path(source).exists() else source


def _describe(
    datasets: Sequence[Packed],
    seeds: Sequence[int],
    base: AgentConfig,
    varied: Mapping[str, Sequence[Any]],
    settings: SweepSettings,
    engines: dict[str, str],
) -> dict[str, Any]:
    return {
        "kind": "sweep",
        "datasets": [{k: v for k, v in describe_data(d).items() if k != "source"} for d in datasets],
        "seeds": list(seeds),
        "agent": base.to_json(),
        "varied": {name: list(values) for name, values in varied.items()},
        "settings": {
            **dataclasses.asdict(settings),
            "device": settings.resolved_device,
            "engine": ", ".join(dict.fromkeys(engines.values())),
        },
    }


def _describe_run(number: int, run: PlannedRun, data: Packed) -> dict[str, Any]:
    return {
        "run": number,
        "dataset": display_name(data),
        "dataset_id": data.dataset_id,
        "env": data.env,
        "algo": run.config.algo,
        "seed": run.seed,
        "setting": run.setting,
        "agent": run.config.to_json(),
    }


def _summarise(out: Path, plan: SweepPlan, seconds: float) -> dict[str, Any]:
    """What summary.json says; of all records only those are kept that it needs."""
    kept: dict[int, list[Record]] = {number: [] for number in range(len(plan.runs))}
    last_steps, alphas = dict.fromkeys(kept, 0), {}
    speed, speeds = 0.0, 0
    for record in read_metrics(out / METRICS):
        if record["kind"] == "system":
            speed, speeds = speed + record["run_updates_per_second"], speeds + 1
            continue
        number = record["run"]
        last_steps[number] = max(last_steps[number], record["step"])
        if record["kind"] == "train":
            if "alpha_after" in record:
                alphas[number] = record
        else:
            kept[number].append(record)
    rows = []
    for number, own in kept.items():
        diverged = next((r for r in own if r["kind"] == "diverged"), None)
        state, known = "diverged" if diverged else "done", [alphas[number]] if number in alphas else []
        rows.append({"run": number, "state": state, "step": last_steps[number], **summarise([*known, *own])})
        if diverged:
            rows[-1] |= {"diverged_at": diverged["step"], "quantity": diverged["quantity"]}
    widest = max((plan.memory(i) for i in range(len(plan.shards))), key=lambda m: m.total_bytes)
    return {
        "runs": rows,
        "wall_seconds": round(seconds, 1),
        "run_updates_per_second": round(speed / speeds, 1) if speeds else None,
        "plan": {**vars(widest), "populations": len(plan.shards)},
    }
