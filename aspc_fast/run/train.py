"""Train one run: a population of one, its results folder and its summary."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aspc_fast.config import AgentConfig
from aspc_fast.data.packed import Packed
from aspc_fast.data.transitions import Transitions
from aspc_fast.engine.select import resolve_engine
from aspc_fast.errors import UserError
from aspc_fast.files import read_json, write_json
from aspc_fast.results.checkpoint import has_checkpoint
from aspc_fast.results.folder import ResultsFolder
from aspc_fast.results.logged_run import LoggedRun
from aspc_fast.results.loggers import logged, require_wandb
from aspc_fast.results.names import CONFIG, FORMAT_VERSION, SUMMARY, TENSORBOARD
from aspc_fast.results.policy import Policy
from aspc_fast.results.provenance import provenance
from aspc_fast.results.records import LAST_EVALUATIONS, Observer, Record
from aspc_fast.run.evaluators import InlineEvaluator
from aspc_fast.run.loop import Loop
from aspc_fast.run.memory import check_host, memory_named
from aspc_fast.run.plan import DataSize, PlannedRun, memory
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.run.schedule import Schedule
from aspc_fast.run.settings import Settings, check_whole

CHECKPOINT_SETTINGS = ("checkpoint_every", "checkpoint_seconds")  # when to save changes no number of a run


@dataclass(frozen=True)
class TrainSettings(Settings):
    """How long and where to train one run."""

    seed: int = 0
    """Seed of initial weights, batches and noise."""
    eval_every: int = 5000
    """Steps between evaluations; 0: none."""
    eval_episodes: int = 10
    """Episodes per evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, lowest in (("seed", 0), ("eval_every", 0), ("eval_episodes", 1)):
            check_whole(name, getattr(self, name), lowest)
        if self.seed >= 2**63:
            raise UserError(f"seed must be below 2**63, got {self.seed}")

    def schedule(self) -> Schedule:
        """When what happens."""
        names = ("steps", "eval_every", "eval_episodes", "log_every", "checkpoint_every", "checkpoint_seconds")
        return Schedule(**{name: getattr(self, name) for name in names})


@dataclass
class TrainedRun:
    """Result of ``train``: the policy, every record of metrics.jsonl and the summary (score, simulator, alpha...)."""

    policy: Policy
    records: list[Record]
    summary: dict[str, Any]
    folder: Path | None = None


def train(
    data: Transitions,
    config: AgentConfig | None = None,
    settings: TrainSettings | None = None,
    *,
    out: Path | None = None,
    resume: bool = False,
    observer: Observer | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainedRun:
    """Train one run on ``data``.

    With ``out`` everything is written there and ``resume`` continues from its last checkpoint, ending bit for bit where
    an uninterrupted run ends (same engine and machine). ``stop`` is asked every hundred steps; if true, a checkpoint is
    written and Interrupted raised. Raises Diverged on NaN or infinity, UserError on what the user can mend.
    """
    config, settings, observer = config or AgentConfig(), settings or TrainSettings(), observer or Observer()
    described = _describe(data, config, settings)
    if settings.wandb is not None:
        require_wandb()
    size = DataSize(data.source, len(data), data.obs_dim, data.act_dim)
    plan = memory([PlannedRun(0, config, settings.seed)], [size], store_next=True)
    advice = "lower --batch-size or --hidden-dim, or train on another --device"
    check_host(str(out or data.source), settings.resolved_device, plan, advice)
    with opened(out) as folder, contextlib.ExitStack() as loggers, memory_named(str(out or data.source), plan, advice):
        population = build_population(
            [data],
            [RunSpec(0, config, settings.seed)],
            device=settings.resolved_device,
            engine=described["settings"]["engine"],
            precision=settings.precision,
        )
        may_change = {"settings": {"steps", "tensorboard", "wandb", *CHECKPOINT_SETTINGS}, "dataset": {"source"}}
        if folder is not None and folder.has_run():
            begin_or_compare(folder, described, resume, may_change)
        observer = loggers.enter_context(_logged(observer, out, described, settings))
        if folder is not None:  # only now: a mistake found until here leaves no folder that claims to hold a run
            begin_or_compare(folder, described, resume or folder.has_run(), may_change)
        evaluator = InlineEvaluator() if settings.eval_every else None
        loop = Loop(population, settings.schedule(), evaluator, observer, folder)
        with contextlib.closing(loop):
            if folder is not None and resume:
                # where nothing is, too: a job that is called again and again says --resume always
                if not has_checkpoint(folder.checkpoints):
                    observer.on_message(f"{folder.path}: no checkpoint to go on from, so training begins at step 0")
                loop.restore()
            elif folder is not None:
                folder.start_metrics(0)
            loop.run(stop)
        summary = {"steps": loop.step, "engine": population.engine.name, **summarise(loop.records)}
        if folder is not None:
            write_json(folder.path / SUMMARY, summary)
        return TrainedRun(population.policy(0), loop.records, summary, out)


def _logged(
    observer: Observer, out: Path | None, described: dict[str, Any], settings: TrainSettings
) -> contextlib.AbstractContextManager[Observer]:
    """The observer with TensorBoard and W&B as the settings say."""
    data, agent = described["dataset"], described["agent"]
    name = out.resolve().name if out is not None else f"{Path(data['source']).stem}-{agent['algo']}-seed{settings.seed}"
    return logged(
        observer,
        {
            None: LoggedRun(
                name, {**agent, "dataset": data["id"] or Path(data["source"]).stem, "seed": settings.seed}, described
            )
        },
        folder=out,
        tensorboard=out / TENSORBOARD if out is not None and settings.tensorboard else None,
        wandb=settings.wandb,
    )


def summarise(records: list[Record]) -> dict[str, Any]:
    """Score, spread, simulator and alpha of one run from its records; score None if nothing was evaluated."""
    train_records = [r for r in records if r["kind"] == "train" and "alpha_after" in r]
    evaluations = [r for r in records if r["kind"] == "eval" and not r["final"]]
    final = next((r for r in reversed(records) if r["kind"] == "eval" and r["final"]), None)
    summary: dict[str, Any] = {"alpha": train_records[-1]["alpha_after"] if train_records else None, "score": None}
    last = evaluations[-1] if evaluations else final
    if last is not None:
        tail = evaluations[-LAST_EVALUATIONS:]
        summary |= {
            "score": last["score"],
            "score_std": last["score_std"],
            "episodes": len(last["returns"]),
            "mean_of_last_evaluations": float(np.mean([e["score"] for e in tail])) if tail else None,
            "evaluations_in_mean": len(tail),
            "final_score": final["score"] if final else None,
            "final_episodes": len(final["returns"]) if final else 0,
            "simulator": last["engine"],
            **{name: last[name] for name in ("env", "frame", "comparable")},
        }
    return summary


@contextlib.contextmanager
def opened(out: Path | None) -> Iterator[ResultsFolder | None]:
    """The results folder at ``out``, locked; None without one. A new one in which no run was begun is removed again."""
    if out is None:
        yield None
        return
    folder = ResultsFolder(out)
    made = [path for path in (out, *out.parents) if not path.exists()]
    folder.open()
    try:
        yield folder
    finally:
        if made and not folder.has_run():
            folder.remove_lock()
        folder.close()
        with contextlib.suppress(OSError):  # whatever else lies there was put there by somebody and stays
            for path in made if not folder.has_run() else ():
                path.rmdir()


def begin_or_compare(
    folder: ResultsFolder, described: dict[str, Any], resume: bool, may_change: dict[str, set[str]]
) -> None:
    """Write config.json for a new run, or compare it with this one for a resumed run. UserError if they differ."""
    path = folder.path / CONFIG
    if not folder.has_run():
        write_json(path, {"format_version": FORMAT_VERSION, **described, **provenance()}, seal=True)
        return
    if not resume:
        raise UserError(f"{folder.path}: holds a run already; add --resume to go on with it, or choose another --out")
    saved = read_json(path)
    version = saved.get("format_version") if isinstance(saved, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: format version {version!r}, this program reads version {FORMAT_VERSION}")
    if saved.get("kind") != described.get("kind"):
        holds, asked = ("a single run", "a sweep") if "kind" in described else ("a sweep", "a single run")
        raise UserError(f"{folder.path}: holds {holds}, so {asked} needs another --out")
    for section, values in described.items():
        before = saved.get(section)
        if not isinstance(values, dict):
            if before != values:
                raise UserError(f"{path}: {section} differs from what it was; a resumed run must keep it")
            continue
        for name, value in values.items():
            was = before.get(name, _DEFAULTS.get(name)) if isinstance(before, dict) else None
            if name not in may_change.get(section, ()) and was != value:
                if name == "fingerprint":
                    raise UserError(f"{folder.path}: was begun with other data than {values['source']} holds now")
                raise UserError(f"{path}: {name} was {was!r} and is now {value!r}; a resumed run must keep it")


def describe_data(data: Transitions | Packed) -> dict[str, Any]:
    """What config.json says of a dataset."""
    return {
        "source": data.source,
        "id": data.dataset_id,
        "env": data.env,
        "frame": data.frame,
        "transitions": len(data),
        "obs_dim": data.obs_dim,
        "act_dim": data.act_dim,
        "max_action": data.max_action,
        "fingerprint": data.fingerprint,
    }


def _describe(data: Transitions, config: AgentConfig, settings: TrainSettings) -> dict[str, Any]:
    device = settings.resolved_device
    engine = resolve_engine(settings.engine, device, settings.steps, config.algo)
    resolved = {"device": device, "engine": engine}
    return {"dataset": describe_data(data), "agent": config.to_json(), "settings": vars(settings) | resolved}


_DEFAULTS = {"precision": "tf32"}  # settings that folders written before they existed had without saying so
