"""Train one run: the loop between engine, evaluation, checkpoints and the results folder."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aspc_fast.agent.state import AgentState
from aspc_fast.config import AgentConfig
from aspc_fast.data.transitions import Transitions
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.select import resolve_engine
from aspc_fast.errors import UserError
from aspc_fast.evaluation import Evaluation, evaluate, make_task
from aspc_fast.files import read_json, write_json
from aspc_fast.run import checkpoint as ckpt
from aspc_fast.run.policy import Policy
from aspc_fast.run.population import Population, RunSpec, build_population
from aspc_fast.run.results import (
    CONFIG,
    FORMAT_VERSION,
    METRICS,
    SUMMARY,
    ResultsFolder,
    provenance,
    read_metrics,
)

SLICE = 100  # training steps between looks at the stop signal
LAST_EVALUATIONS = 10  # the paper's final score is the mean of so many last evaluations

Record = dict[str, Any]


@dataclass(frozen=True)
class TrainSettings:
    """How long and where to train; all intervals are in training steps."""

    steps: int = 1_000_000
    """Training steps (critic updates) in total."""
    seed: int = 0
    """Seed of initial weights, batches, noise and evaluation episodes."""
    device: str = "auto"
    """cpu, cuda, cuda:N; auto: cuda if there is one."""
    engine: str = "auto"
    """How updates are executed; auto: the fastest that works here."""
    eval_every: int = 5000
    """Steps between evaluations; 0: none."""
    eval_episodes: int = 10
    """Episodes per evaluation."""
    log_every: int = 1000
    """Steps over which logged metrics are averaged."""
    checkpoint_every: int = 10_000
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name, lowest in (("steps", 1), ("seed", 0), ("eval_every", 0), ("eval_episodes", 1)):
            _check_whole(name, getattr(self, name), lowest)
        for name in ("log_every", "checkpoint_every"):
            _check_whole(name, getattr(self, name), 1)
        if self.seed >= 2**63:
            raise UserError(f"seed must be below 2**63, got {self.seed}")

    @property
    def resolved_device(self) -> str:
        """The device once ``auto`` is resolved."""
        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def resolved_engine(self) -> str:
        """The engine once ``auto`` is resolved."""
        return resolve_engine(self.engine, self.resolved_device, self.steps)


class Observer:
    """What a user interface wants to know while training runs; override what you need."""

    def on_start(self, first_step: int, steps: int) -> None:
        """Training begins (or resumes) after ``first_step``."""

    def on_progress(self, step: int) -> None:
        """``step`` training steps are done."""

    def on_record(self, record: Record) -> None:
        """A line of metrics.jsonl: kind "train" (means over log_every steps) or "eval"."""

    def on_message(self, text: str) -> None:
        """One sentence worth telling the user."""


class Interrupted(Exception):
    """Training was asked to stop; a checkpoint of ``step`` has been written if there is a results folder."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


class Diverged(Exception):
    """A quantity became NaN or infinite at ``step``; the last good state is saved if there is a results folder."""

    def __init__(self, step: int, quantity: str) -> None:
        super().__init__(f"training diverged: {quantity} is not finite at step {step}")
        self.step, self.quantity = step, quantity


@dataclass
class TrainedRun:
    """Result of ``train``: the policy, every record, and the last evaluation (None if nothing was evaluated)."""

    policy: Policy
    records: list[Record]
    evaluation: Evaluation | None
    summary: dict[str, Any]
    folder: Path | None = None


@dataclass
class _Session:
    """One process's work on one run."""

    data: Transitions
    config: AgentConfig
    settings: TrainSettings
    population: Population
    observer: Observer
    folder: ResultsFolder | None
    step: int = 0
    means: MetricMeans = field(default_factory=MetricMeans)
    records: list[Record] = field(default_factory=list)
    evaluation: Evaluation | None = None
    good: AgentState | None = None


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
    with _opened(out) as folder:
        if folder is not None:
            _check_folder(folder, data, config, settings, resume)
        population = build_population(
            [data],
            [RunSpec(0, config, settings.seed)],
            device=settings.resolved_device,
            engine=settings.resolved_engine,
        )
        session = _Session(data, config, settings, population, observer, folder)
        if folder is not None:
            _restore(session, folder) if resume else folder.start_metrics(0)
        _loop(session, stop)
        return _finish(session)


@contextlib.contextmanager
def _opened(out: Path | None) -> Iterator[ResultsFolder | None]:
    if out is None:
        yield None
        return
    folder = ResultsFolder(out)
    folder.open()
    try:
        yield folder
    finally:
        folder.close()


def _check_folder(
    folder: ResultsFolder, data: Transitions, config: AgentConfig, settings: TrainSettings, resume: bool
) -> None:
    """Write config.json for a new run, or compare it with this one for a resumed run."""
    path = folder.path / CONFIG
    described = {
        "format_version": FORMAT_VERSION,
        "dataset": {
            "source": data.source,
            "id": data.dataset_id,
            "env": data.env,
            "frame": data.frame,
            "transitions": len(data),
            "obs_dim": data.obs_dim,
            "act_dim": data.act_dim,
            "max_action": data.max_action,
            "fingerprint": data.fingerprint,
        },
        "agent": config.to_json(),
        "settings": vars(settings) | {"device": settings.resolved_device, "engine": settings.resolved_engine},
    }
    if not folder.has_run():
        write_json(path, described | provenance())
        return
    if not resume:
        raise UserError(f"{folder.path}: holds a run already; add --resume to go on with it, or choose another --out")
    saved = read_json(path)
    version = saved.get("format_version") if isinstance(saved, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: format version {version!r}, this program reads version {FORMAT_VERSION}")
    for section, may_change in (("agent", ()), ("settings", ("steps",)), ("dataset", ("source",))):
        for name, value in described[section].items():  # type: ignore[attr-defined]
            if name not in may_change and saved.get(section, {}).get(name) != value:
                before = saved.get(section, {}).get(name)
                raise UserError(f"{path}: {name} was {before!r} and is now {value!r}; a resumed run must keep it")


def _restore(session: _Session, folder: ResultsFolder) -> None:
    if not (folder.checkpoints / ckpt.LATEST).exists():
        session.observer.on_message("no checkpoint yet: starting from step 0")
        folder.start_metrics(0)
        return
    saved = ckpt.load_checkpoint(folder.checkpoints)
    ckpt.restore_state(session.population.state, saved, folder.checkpoints)
    session.step = int(saved.meta["step"])
    session.population.engine.restored()
    session.means.load_json(saved.meta["means"], session.population.state.rho.device)
    folder.start_metrics(int(saved.meta["metrics_bytes"]))
    session.records = list(read_metrics(folder.path / METRICS))
    session.observer.on_message(f"resumed from step {session.step}")


def _loop(session: _Session, stop: Callable[[], bool]) -> None:
    settings, engine = session.settings, session.population.engine
    task = _evaluation_task(session)
    session.observer.on_start(session.step, settings.steps)
    session.good = session.population.state.clone()
    last_log, clock = session.step, time.perf_counter()
    while session.step < settings.steps:
        steps = _steps_to_boundary(session.step, settings)
        engine.advance(steps, session.means)
        session.step += steps
        session.observer.on_progress(session.step)
        at_end = session.step == settings.steps
        due = {name for name, every in _intervals(settings).items() if at_end or session.step % every == 0}
        if due:
            _log(session, lambda now: (session.step - last_log) / max(now - clock, 1e-9))  # noqa: B023
            if task is not None and "eval" in due:
                _evaluate(session, task)
            if "checkpoint" in due:
                _save(session)
            last_log, clock = session.step, time.perf_counter()
        if not at_end and stop():
            if "checkpoint" not in due:
                _save(session)
            raise Interrupted(session.step)


def _intervals(settings: TrainSettings) -> dict[str, int]:
    intervals = {"log": settings.log_every, "checkpoint": settings.checkpoint_every, "eval": settings.eval_every}
    return {name: every for name, every in intervals.items() if every}


def _steps_to_boundary(step: int, settings: TrainSettings) -> int:
    ends = [(step // every + 1) * every for every in (*_intervals(settings).values(), SLICE)]
    return min(*ends, settings.steps) - step


def _log(session: _Session, updates_per_second: Callable[[float], float]) -> None:
    means = {name: values[0] for name, values in session.means.take().items()}
    rate = updates_per_second(time.perf_counter())  # after the read-back, which waits for the device
    bad = next((name for name, value in means.items() if not math.isfinite(value)), None)
    if bad is not None:
        _stop_diverged(session, bad)
    assert session.good is not None
    session.good.copy_(session.population.state)
    _record(session, {"kind": "train", "step": session.step, **means, "updates_per_second": round(rate, 1)})


def _stop_diverged(session: _Session, suspect: str) -> None:
    """Replay from the last good state, step by step, to the first step whose metrics are not finite; save before it."""
    engine, state = session.population.engine, session.population.state
    assert session.good is not None
    last = session.step
    state.copy_(session.good)
    engine.restored()
    session.step = int(state.step)
    while session.step < last:
        session.good.copy_(state)
        means = MetricMeans()
        engine.advance(1, means)
        session.step += 1
        bad = next((name for name, values in means.take().items() if not math.isfinite(values[0])), None)
        if bad is not None:
            suspect = bad
            break
    step = session.step
    if ckpt.all_finite(session.good):
        state.copy_(session.good)
        session.step = int(state.step)
        session.means = MetricMeans()
        _save(session)
    raise Diverged(step, suspect)


def _evaluation_task(session: _Session) -> str | None:
    """The name to evaluate under, or None (with a sentence) where that is impossible."""
    name = session.data.dataset_id or session.data.env
    if session.settings.eval_every == 0:
        return None
    if name is None:
        session.observer.on_message(f"{session.data.source}: simulator unknown, so nothing is evaluated (see --env)")
        return None
    try:
        make_task(name, session.data.frame)
    except UserError as error:
        session.observer.on_message(f"training without evaluation: {error}")
        return None
    return name


def _evaluate(session: _Session, task: str) -> None:
    settings, policy = session.settings, session.population.policy(0)
    seed = evaluation_seed(settings.seed, session.step)
    result = evaluate(policy, task, settings.eval_episodes, seed, frame=session.data.frame)
    session.evaluation = result
    _record(session, {"kind": "eval", "step": session.step, **result.to_json()})


def evaluation_seed(seed: int, step: int) -> int:
    """Seed of the evaluation after ``step``: fresh start states each time, the same ones when a run is repeated."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0] % 2**19)


def _record(session: _Session, record: Record) -> None:
    session.records.append(record)
    if session.folder is not None:
        session.folder.append(record)
    session.observer.on_record(record)


def _save(session: _Session) -> None:
    if session.folder is None:
        return
    if not ckpt.all_finite(session.population.state):
        _stop_diverged(session, "a weight")
    normaliser = session.population.normalisers[0]
    tensors = ckpt.state_tensors(session.population.state) | {
        "normaliser.mean": torch.from_numpy(normaliser.mean),
        "normaliser.std": torch.from_numpy(normaliser.std),
    }
    meta = {"metrics_bytes": session.folder.metrics_bytes(), "means": session.means.to_json()}
    ckpt.save_checkpoint(session.folder.checkpoints, session.step, tensors, meta)


def _finish(session: _Session) -> TrainedRun:
    evaluations = [r for r in session.records if r["kind"] == "eval"]
    last_train = next((r for r in reversed(session.records) if r["kind"] == "train"), {})
    summary: dict[str, Any] = {
        "steps": session.step,
        "engine": session.population.engine.name,
        "alpha": last_train.get("alpha_after"),
        "score": None,
    }
    if evaluations:
        last, tail = evaluations[-1], evaluations[-LAST_EVALUATIONS:]
        summary |= {
            "score": last["score"],
            "score_std": last["score_std"],
            "episodes": len(last["returns"]),
            "mean_of_last_evaluations": float(np.mean([e["score"] for e in tail])),
            "evaluations_in_mean": len(tail),
            **{name: last[name] for name in ("env", "engine", "frame", "comparable")},
        }
        summary["simulator"] = summary.pop("engine")
        summary["engine"] = session.population.engine.name
    if session.folder is not None:
        write_json(session.folder.path / SUMMARY, summary)
    folder = session.folder.path if session.folder is not None else None
    return TrainedRun(session.population.policy(0), session.records, session.evaluation, summary, folder)


def _check_whole(name: str, value: Any, lowest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise UserError(f"{name} must be a whole number of at least {lowest}, got {value!r}")
