"""Results folders -> ``Folder``: sweeps and single runs, finished or not."""

from __future__ import annotations

import bisect
from pathlib import Path

from aspc_fast.config import AgentConfig
from aspc_fast.errors import UserError
from aspc_fast.files import read_json
from aspc_fast.registry import names as algorithms
from aspc_fast.report.model import SERIES, Evaluated, Folder, Run, Speed
from aspc_fast.report.settings import OF_THE_DOMAIN, separate, setting, word
from aspc_fast.results import fields
from aspc_fast.results.fields import Record
from aspc_fast.results.names import CONFIG, FORMAT_VERSION, METRICS, SUMMARY

ATTEMPTS = 3  # at a folder that a run writes into

_RATES = {
    **{"run_updates": "run_updates_per_second", "updates": "updates_per_second"},
    **{"wall_seconds": "wall_seconds", "device_bytes": "device_bytes"},
}


def read_folders(folders: list[Path]) -> list[Folder]:
    """Every results folder among ``folders``, or directly inside one of them; each is read once."""
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such results folder")
        inside = [folder] if (folder / CONFIG).exists() else sorted(p.parent for p in folder.glob(f"*/{CONFIG}"))
        if not inside:
            raise UserError(f"{folder}: not a results folder, it holds no {CONFIG} (nor do the folders in it)")
        found |= {path.resolve(): None for path in inside}
    names = _names(list(found))
    read = [read_folder(path, name) for path, name in zip(found, names, strict=True)]
    separate([run for folder in read for run in folder.runs])
    return read


def read_folder(path: Path, name: str) -> Folder:
    """One results folder, which a report calls ``name``; UserError naming file, field and value if it is damaged."""
    for _ in range(ATTEMPTS - 1):
        before = _state(path / METRICS)
        try:
            return _read_folder(path, name)
        except UserError:
            if _state(path / METRICS) == before:
                raise
            # A run that goes on after a kill cuts its metrics back: old lines seemed to end in the midst of new ones.
    return _read_folder(path, name)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _read_folder(path: Path, name: str) -> Folder:
    where = str(path / CONFIG)
    config = fields.record(read_json(path / CONFIG), where)
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(f"{where}: field 'format_version' is {version!r}, this program reads {FORMAT_VERSION}")
    settings = fields.section(config, "settings", where)
    sweep = config.get("kind") == "sweep"
    label = fields.clean(name)
    runs = _sweep_runs(config, label, settings, where) if sweep else [_single_run(config, label, settings, where)]
    command = config.get("command")
    folder = Folder(
        name=label,
        sweep=sweep,
        runs=runs,
        settings=settings,
        versions=fields.section(config, "versions", where),
        machine=fields.section(config, "machine", where),
        commit=fields.text(config, "commit", where, ""),
        command=[fields.clean(str(word)) for word in command] if isinstance(command, list) else [],
    )
    _read_metrics(folder, path / METRICS)
    if (path / SUMMARY).exists():
        _read_summary(folder, path / SUMMARY)
    return folder


def _sweep_runs(config: Record, folder: str, settings: Record, where: str) -> list[Run]:
    runs: list[Run] = []
    for entry in fields.objects(config, "runs", where):
        here = f"{where}: run {len(runs)}"
        index = fields.whole(entry, "run", here)
        if any(run.index == index for run in runs):
            raise UserError(f"{where}: field 'run' is {index} in two entries of 'runs'")
        agent = _agent(entry, here)
        runs.append(
            Run(
                folder=folder,
                index=index,
                dataset=fields.text(entry, "dataset", here) or "unnamed",
                dataset_id=fields.text(entry, "dataset_id", here, "") or None,
                env=fields.text(entry, "env", here, "") or None,
                algo=fields.text(entry, "algo", here),
                setting=setting(fields.text(entry, "setting", here, ""), agent),
                seed=fields.whole(entry, "seed", here, 0),
                agent=agent,
                planned=fields.whole(settings, "steps", where, 0) or None,
            )
        )
    return runs


def _single_run(config: Record, folder: str, settings: Record, where: str) -> Run:
    if "dataset" not in config:
        raise UserError(f"{where}: field 'dataset' is missing, so this is not the configuration of a run or a sweep")
    dataset = fields.section(config, "dataset", where)
    agent = _agent(config, where)
    here = f"{where}: field 'dataset'"
    dataset_id = fields.text(dataset, "id", here, "") or None
    algo = fields.text(agent, "algo", f"{where}: field 'agent'")
    usual = AgentConfig(algo=algo).to_json() if algo in algorithms() else {}
    changed = {k: v for k, v in agent.items() if k in usual and k not in ("algo", *OF_THE_DOMAIN) and v != usual[k]}
    return Run(
        folder=folder,
        index=0,
        dataset=dataset_id or Path(fields.text(dataset, "source", here, "")).stem or "unnamed",
        dataset_id=dataset_id,
        env=fields.text(dataset, "env", here, "") or None,
        algo=algo,
        setting=fields.clean(", ".join(word(*item) for item in changed.items())),
        seed=fields.whole(settings, "seed", f"{where}: field 'settings'", 0),
        agent=agent,
        planned=fields.whole(settings, "steps", f"{where}: field 'settings'", 0) or None,
    )


def _agent(owner: Record, where: str) -> Record:
    values = fields.section(owner, "agent", where)
    return {fields.clean(n): fields.clean(v) if isinstance(v, str) else v for n, v in values.items()}


def _read_metrics(folder: Folder, path: Path) -> None:
    by_index = {run.index: run for run in folder.runs}
    population: set[int] = set()  # a sweep's speed follows the train records of the runs that had it
    for count, entry in fields.json_lines(path):
        where = f"{path}: line {count}"
        kind = fields.text(entry, "kind", where)
        if kind not in ("train", "eval", "diverged", "system"):
            continue  # a later version's records are none of this report's business
        step = fields.whole(entry, "step", where)
        if kind == "system" or (kind == "train" and not folder.sweep):
            members = frozenset(population if folder.sweep else by_index)
            known = {field: fields.number(entry, name, where) for field, name in _RATES.items()}
            folder.speeds.append(Speed(step, runs=members, **known))
        if kind == "system":
            population = set()
            continue
        index = fields.whole(entry, "run", where) if folder.sweep else 0
        if index not in by_index:
            raise UserError(f"{where}: field 'run' is {index}, which {CONFIG} does not know")
        run = by_index[index]
        run.step = max(run.step, step)
        if kind == "train":
            population.add(index)
            for name in SERIES:
                value = fields.number(entry, name, where)
                if value is not None:
                    run.series.setdefault(name, []).append((step, value))
        elif kind == "diverged":
            run.diverged = (step, fields.text(entry, "quantity", where, "a quantity"))
            run.state = "diverged"
        else:
            _add_evaluation(run, entry, step, where)


def _add_evaluation(run: Run, entry: Record, step: int, where: str) -> None:
    if "score" not in entry:
        raise UserError(f"{where}: field 'score' is missing")
    score = fields.number(entry, "score", where)
    if score is None:
        return  # not a number, so nothing was measured
    returns = entry.get("returns")
    evaluated = Evaluated(
        step=step,
        score=score,
        std=fields.number(entry, "score_std", where),
        episodes=len(returns) if isinstance(returns, list) else fields.whole(entry, "episodes", where, 1),
        final=entry.get("final") is True,
        simulator=" in ".join(t for t in (fields.text(entry, n, where, "") for n in ("env", "engine")) if t),
        comparable=fields.text(entry, "comparable", where, ""),
    )
    bisect.insort(run.evaluations, evaluated, key=lambda e: (e.step, e.final))  # workers may answer out of order


def _read_summary(folder: Folder, path: Path) -> None:
    where = str(path)
    summary = fields.record(read_json(path), where)
    folder.wall_seconds = fields.number(summary, "wall_seconds", where)
    folder.run_updates = fields.number(summary, "run_updates_per_second", where)
    plan = fields.section(summary, "plan", where)
    known = {n: fields.number(plan, n, f"{where}: field 'plan'") for n in plan if n.endswith("_bytes")}
    folder.populations = fields.whole(plan, "populations", f"{where}: field 'plan'", 1)
    folder.plan = {name: value for name, value in known.items() if value is not None}
    if not folder.sweep:
        step = fields.whole(summary, "steps", where, 0)
        _apply(folder.runs[0], "done", step, fields.number(summary, "mean_of_last_evaluations", where), summary, where)
        return
    by_index = {run.index: run for run in folder.runs}
    for position, entry in enumerate(fields.objects(summary, "runs", where)):
        here = f"{where}: entry {position} of 'runs'"
        index = fields.whole(entry, "run", here)
        if index not in by_index:
            raise UserError(f"{here}: field 'run' is {index}, which {CONFIG} does not know")
        state = fields.text(entry, "state", here)
        if state not in ("done", "diverged", "running"):
            raise UserError(f"{here}: field 'state' must be done, diverged or running, got {state!r}")
        step = fields.whole(entry, "step", here, 0)
        _apply(by_index[index], state, step, fields.number(entry, "final_score", here), entry, here)


def _apply(run: Run, state: str, step: int, score: float | None, entry: Record, where: str) -> None:
    if state == "diverged":
        run.state = "diverged"
        run.diverged = run.diverged or (step, "a quantity")
    elif state == "done" and run.state != "diverged" and run.step <= step:
        run.state = "done"  # a run that went on after this summary was written is unfinished again
    run.step = max(run.step, step)
    run.summary_score, run.summary_episodes = score, fields.whole(entry, "episodes", where, 0)


def _names(paths: list[Path]) -> list[str]:
    """Short names that tell the folders apart, without the machine's path."""
    for depth in range(1, 8):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({i})" for i, path in enumerate(paths, 1)]
