"""The loop that trains a population: engine, logs, evaluation, checkpoints, divergence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from aspc_fast.agent.state import AgentState
from aspc_fast.clock import CLOCK
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.errors import UserError
from aspc_fast.results import checkpoint as ckpt
from aspc_fast.results.folder import ResultsFolder
from aspc_fast.results.names import METRICS
from aspc_fast.results.records import Observer, Record, read_metrics
from aspc_fast.results.scribe import Scribe
from aspc_fast.run.evaluations import Evaluations, known_results
from aspc_fast.run.evaluators import Evaluator
from aspc_fast.run.population import Population
from aspc_fast.run.schedule import Schedule
from aspc_fast.run.snapshot import Snapshot

SLICE = 100  # training steps between looks at the stop signal


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


class Loop:
    """One process's work on one population.

    A single run (no ``run_numbers``) stops when it diverges, telling the exact step; in a population a diverged run
    is marked and left behind while the others go on (runs never touch each other's numbers).
    """

    def __init__(
        self,
        population: Population,
        schedule: Schedule,
        evaluator: Evaluator | None,
        observer: Observer,
        folder: ResultsFolder | None = None,
        run_numbers: list[int] | None = None,
    ) -> None:
        self.population, self.schedule, self.observer, self.folder = population, schedule, observer, folder
        self.records: list[Record] = []
        self.diverged: dict[int, Record] = {}
        self.step = 0
        self._numbers: list[int] | list[None] = [None] if run_numbers is None else run_numbers
        self._label_runs = run_numbers is not None
        self._means = MetricMeans()
        self._evaluations = Evaluations(population, evaluator, folder.checkpoints if folder else None)
        for problem in self._evaluations.problems:
            observer.on_message(problem)
        self._good: AgentState | None = None
        self._snapshot = Snapshot()
        self._scribe = Scribe(folder) if folder is not None else None
        self._saved = time.monotonic()

    def close(self) -> None:
        """Let the disk finish; call it however training ended."""
        if self._scribe is not None:
            with CLOCK.waiting("last writes"):
                self._scribe.close()

    def run(self, stop: Callable[[], bool]) -> None:
        """Train to the end; raises Interrupted if ``stop`` says so, Diverged if a single run does."""
        engine, schedule = self.population.engine, self.schedule
        self.observer.on_start(self.step, schedule.steps)
        self._good = None if self._label_runs else self.population.state.clone()
        last_log, clock = self.step, time.perf_counter()
        self._saved = time.monotonic()
        while self.step < schedule.steps:
            steps = schedule.steps_to_boundary(self.step, SLICE)
            with CLOCK.waiting("updates"):
                engine.advance(steps, self._means)
            self.step += steps
            self.observer.on_progress(self.step)
            self._collect()
            self._look_at_disk()
            due = schedule.due(self.step)
            if "log" in due or "eval" in due:
                with CLOCK.waiting("records"):
                    self._log(last_log, clock)
                last_log, clock = self.step, time.perf_counter()
            if "eval" in due and self._evaluations:
                self._submit(schedule.eval_episodes)
            if self.step == schedule.steps and schedule.final_episodes and self._evaluations:
                self._submit(schedule.final_episodes, final=True)
            if self.step == schedule.steps:
                break
            asked = stop()
            if asked or self._checkpoint_due(due):
                self._save(wait=asked, by_time=not (asked or "checkpoint" in due))
            if asked:
                raise Interrupted(self.step)
        self._save(wait=not self._evaluations)
        if self._evaluations:
            self._collect(wait_for_all=True)
            self._save(wait=True)

    def restore(self) -> None:
        """Go on from the folder's checkpoint, if there is one; evaluations it had pending are handed in again."""
        assert self.folder is not None
        if not ckpt.has_checkpoint(self.folder.checkpoints):
            self.folder.start_metrics(0)
            return
        saved, stepped_back = ckpt.load_or_step_back(self.folder.checkpoints)
        where = self.folder.checkpoints / ckpt.LATEST
        ckpt.restore_state(self.population.state, saved, self.folder.checkpoints)
        self.population.engine.restored()
        try:
            self.step = int(saved.meta["step"])
            self._means.load_json(saved.meta["means"], self.population.state.device)
            self.diverged = {int(run): record for run, record in saved.meta["diverged"].items()}
            self.folder.start_metrics(int(saved.meta["metrics_bytes"]), saved.meta.get("metrics_sha256"))
            records = list(read_metrics(self.folder.path / METRICS))
            self.observer.on_restore(self.step, records, [int(step) for step, *_ in saved.meta["pending"]])
            runs = range(len(self.population.runs))
            alive = [run for run in runs if run not in self.diverged]
            have = known_results(records, dict(zip(self._numbers, runs, strict=True)))
            if not self._label_runs:
                self.records = records
            self._evaluations.restore(saved, alive, have)
            self._collect()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            raise UserError(f"{where}: damaged, field {error} is missing or of the wrong type") from None
        if stepped_back is not None:
            self.observer.on_message(stepped_back)
        self.observer.on_message(f"resumed from step {self.step}")

    def _log(self, last_log: int, clock: float) -> None:
        means = self._means.take_columns()  # reads back, so waits for the device: the clock is right after it
        rate = (self.step - last_log) / max(time.perf_counter() - clock, 1e-9)
        names, runs = list(means), len(self.population.runs)
        values = np.stack([means[name] for name in names], axis=1) if names else np.empty((runs, 0))
        for run in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
            if run not in self.diverged:
                self._on_divergence(run, names[int(np.argmin(np.isfinite(values[run])))])
        kind, speed = {"kind": "train", "step": self.step}, {"updates_per_second": round(rate, 1)}
        rows = enumerate(values.tolist()) if names else ()
        records = [
            self._label(run) | kind | dict(zip(names, row, strict=True))
            for run, row in rows
            if run not in self.diverged
        ]
        if self._label_runs:
            used = torch.cuda.max_memory_allocated() if self.population.state.device.type == "cuda" else None
            speed["run_updates_per_second"] = round(rate * runs, 1)
            records.append({"kind": "system", "step": self.step, **speed, "device_bytes": used})
        elif records:
            records[0] |= speed
        self._write(records)
        if self._good is not None:
            self._good.copy_(self.population.state)

    def _on_divergence(self, run: int, quantity: str) -> None:
        if not self._label_runs:
            self._stop_diverged(quantity)
        if self._scribe is not None:
            self._scribe.wait()  # the last good state is that of the last checkpoint
        kept = ckpt.keep_run(self.folder.checkpoints, run, len(self.population.runs)) if self.folder else None
        self.diverged[run] = {"kind": "diverged", "step": self.step, "quantity": quantity}
        self.diverged[run]["last_good_state"] = kept.name if kept else None
        self._record(run, self.diverged[run])

    def _stop_diverged(self, suspect: str) -> None:
        """Replay from the last good state to the first step whose metrics are not finite; save the state before it."""
        engine, state, good = self.population.engine, self.population.state, self._good
        assert good is not None
        last = self.step
        state.copy_(good)
        engine.restored()
        self.step = int(state.step)
        while self.step < last:
            good.copy_(state)
            means = MetricMeans()
            engine.advance(1, means)
            self.step += 1
            bad = next((name for name, values in means.take().items() if not math.isfinite(values[0])), None)
            if bad is not None:
                suspect = bad
                break
        diverged = Diverged(self.step, suspect)
        if not ckpt.unfinite_runs(good):
            state.copy_(good)
            self.step = int(state.step)
            self._means = MetricMeans()
            self._save(wait=True)
        self._record(0, {"kind": "diverged", "step": diverged.step, "quantity": diverged.quantity})
        if self._scribe is not None:
            self._scribe.settle()
        raise diverged

    def _submit(self, episodes: int, final: bool = False) -> None:
        alive = [run for run in range(len(self.population.runs)) if run not in self.diverged]
        self._evaluations.submit(self.step, episodes, final, alive)
        self._collect()

    def _collect(self, wait_for_all: bool = False) -> None:
        for result in self._evaluations.finished(wait_for_all):
            if math.isfinite(result.record["score"]):
                self._record(result.run, result.record)
            elif result.run not in self.diverged:
                self._on_divergence(result.run, "an action")

    def _record(self, run: int, record: Record) -> None:
        self._write([self._label(run) | record])

    def _write(self, records: list[Record]) -> None:
        if self.folder is None or not self._label_runs:
            self.records += records  # a single run hands them out; a population's are on the disk
        if self._scribe is not None:
            self._scribe.records(records)
        self.observer.on_records(records)

    def _label(self, run: int) -> Record:
        """What a record says of whose it is: nothing, of a single run."""
        return {"run": self._numbers[run]} if self._label_runs else {}

    def _look_at_disk(self) -> None:
        if self._scribe is not None:
            self._scribe.check()
            complaint = self._scribe.complaint()
            if complaint is not None:
                self.observer.on_message(complaint)

    def _checkpoint_due(self, due: set[str]) -> bool:
        """By steps, or by time if the disk is free; a checkpoint by steps waits for the one before it."""
        if "checkpoint" in due:
            return True
        late = time.monotonic() - self._saved >= self.schedule.checkpoint_seconds
        return not self.schedule.checkpoint_every and late and not (self._scribe and self._scribe.writing_checkpoint)

    def _save(self, wait: bool = False, by_time: bool = False) -> None:
        """Hand a checkpoint to the disk; with ``wait`` it is there when this returns, and raises if it cannot be."""
        if self.folder is None or self._scribe is None:
            return
        with CLOCK.waiting("checkpoints"):
            for run in ckpt.unfinite_runs(self.population.state):
                if run not in self.diverged:
                    if by_time:
                        return  # the next log point says so, at a step that does not depend on a clock
                    self._on_divergence(run, "a weight")
            if self._scribe.writing_checkpoint:
                self._scribe.wait()  # the snapshot is still being read
            tensors = self._snapshot.take(self.population.state)
            for i, normaliser in enumerate(self.population.normalisers):
                tensors[f"normaliser.{i}.mean"] = torch.from_numpy(normaliser.mean)
                tensors[f"normaliser.{i}.std"] = torch.from_numpy(normaliser.std)
            pending, waiting = self._evaluations.to_checkpoint()
            meta = {"means": self._means.to_json(), "pending": pending, "diverged": dict(self.diverged)}
            self._scribe.checkpoint(self.step, tensors | waiting, meta)
            self._saved = time.monotonic()
        if wait:
            with CLOCK.waiting("last checkpoint"):
                self._scribe.settle()
