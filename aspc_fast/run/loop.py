"""The loop that trains a population: engine, logs, evaluation, checkpoints, divergence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aspc_fast.agent.state import AgentState
from aspc_fast.clock import CLOCK
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.errors import UserError
from aspc_fast.evaluation import make_task
from aspc_fast.results import checkpoint as ckpt
from aspc_fast.results.folder import ResultsFolder
from aspc_fast.results.names import METRICS
from aspc_fast.results.records import Observer, Record, read_metrics
from aspc_fast.run.evaluators import Evaluator, Job
from aspc_fast.run.population import Population

SLICE = 100  # training steps between looks at the stop signal


@dataclass(frozen=True)
class Schedule:
    """When what happens, in training steps (0: never); ``final_episodes`` are rolled out once after the last step."""

    steps: int
    eval_every: int
    eval_episodes: int
    log_every: int
    checkpoint_every: int
    final_episodes: int = 0

    def due(self, step: int) -> set[str]:
        """What is due after ``step``: of log, eval, checkpoint; all of them (if ever) at the last step."""
        return {name for name, every in self._intervals().items() if step == self.steps or step % every == 0}

    def steps_to_boundary(self, step: int) -> int:
        """Steps until something is due, or SLICE."""
        ends = [(step // every + 1) * every for every in (*self._intervals().values(), SLICE)]
        return min(*ends, self.steps) - step

    def _intervals(self) -> dict[str, int]:
        intervals = {"log": self.log_every, "eval": self.eval_every, "checkpoint": self.checkpoint_every}
        return {name: every for name, every in intervals.items() if every}


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
        self._numbers = run_numbers
        self._label_runs = run_numbers is not None
        self._means = MetricMeans()
        self._tasks = self._evaluation_tasks() if evaluator is not None else {}
        self._evaluator = evaluator if self._tasks else None
        self._good: AgentState | None = None
        self._pending: list[tuple[int, int, bool, Tensor]] = []  # step, episodes, final, actors: for the checkpoint

    def run(self, stop: Callable[[], bool]) -> None:
        """Train to the end; raises Interrupted if ``stop`` says so, Diverged if a single run does."""
        engine, schedule = self.population.engine, self.schedule
        self.observer.on_start(self.step, schedule.steps)
        self._good = None if self._label_runs else self.population.state.clone()
        last_log, clock = self.step, time.perf_counter()
        while self.step < schedule.steps:
            steps = schedule.steps_to_boundary(self.step)
            with CLOCK.waiting("updates"):
                engine.advance(steps, self._means)
            self.step += steps
            self.observer.on_progress(self.step)
            self._collect()
            due = schedule.due(self.step)
            if due:
                with CLOCK.waiting("records"):
                    self._log(last_log, clock)
                if "eval" in due and self._evaluator is not None:
                    self._submit(schedule.eval_episodes)
                if self.step == schedule.steps and schedule.final_episodes and self._evaluator is not None:
                    self._submit(schedule.final_episodes, final=True)
                if "checkpoint" in due:
                    with CLOCK.waiting("checkpoints"):
                        self._save()
                last_log, clock = self.step, time.perf_counter()
            if self.step < schedule.steps and stop():
                if "checkpoint" not in due:
                    self._save()
                raise Interrupted(self.step)
        if self._evaluator is not None:
            self._collect(wait_for_all=True)
            self._save()

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
            self._means.load_json(saved.meta["means"], self.population.state.rho.device)
            self.diverged = {int(run): record for run, record in saved.meta["diverged"].items()}
            self.folder.start_metrics(int(saved.meta["metrics_bytes"]), saved.meta.get("metrics_sha256"))
            self.records = list(read_metrics(self.folder.path / METRICS))
            self.observer.on_restore(self.step, self.records, [int(step) for step, *_ in saved.meta["pending"]])
            for i, (step, episodes, final) in enumerate(saved.meta["pending"]):
                self._submit(int(episodes), bool(final), saved.tensors[f"pending.{i}"], int(step))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            raise UserError(f"{where}: damaged, field {error} is missing or of the wrong type") from None
        if stepped_back is not None:
            self.observer.on_message(stepped_back)
        self.observer.on_message(f"resumed from step {self.step}")

    def _log(self, last_log: int, clock: float) -> None:
        means = self._means.take()  # reads back, so waits for the device: the clock is right after it
        rate = (self.step - last_log) / max(time.perf_counter() - clock, 1e-9)
        for run in range(len(self.population.runs)):
            own = {name: values[run] for name, values in means.items()}
            bad = next((name for name, value in own.items() if not math.isfinite(value)), None)
            if bad is not None and run not in self.diverged:
                self._on_divergence(run, bad)
            if run not in self.diverged and own:
                speed = {} if self._label_runs else {"updates_per_second": round(rate, 1)}
                self._record(run, {"kind": "train", "step": self.step, **own, **speed})
        if self._good is not None:
            self._good.copy_(self.population.state)
        if self._label_runs:
            runs, cuda = len(self.population.runs), self.population.state.rho.is_cuda
            used = torch.cuda.max_memory_allocated() if cuda else None
            speed = {"updates_per_second": round(rate, 1), "run_updates_per_second": round(rate * runs, 1)}
            self._record(None, {"kind": "system", "step": self.step, **speed, "device_bytes": used})

    def _on_divergence(self, run: int, quantity: str) -> None:
        if not self._label_runs:
            self._stop_diverged(quantity)
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
            self._save()
        self._record(None, {"kind": "diverged", "step": diverged.step, "quantity": diverged.quantity})
        raise diverged

    def _evaluation_tasks(self) -> dict[tuple[str, str], list[int]]:
        """Runs by (task, frame); a sentence for those that cannot be evaluated."""
        tasks: dict[tuple[str, str], list[int]] = {}
        problems: dict[str, None] = {}
        for i, run in enumerate(self.population.runs):
            data = self.population.datasets[run.dataset]
            name = data.dataset_id or data.env
            if name is None:
                problems[f"{data.source}: simulator unknown, so nothing is evaluated (see --env)"] = None
                continue
            try:
                make_task(name, data.frame)
                tasks.setdefault((name, data.frame), []).append(i)
            except UserError as error:
                problems[f"training without evaluation: {error}"] = None
        for problem in problems:
            self.observer.on_message(problem)
        return tasks

    def _submit(
        self, episodes: int, final: bool = False, actors: Tensor | None = None, step: int | None = None
    ) -> None:
        """Hand in an evaluation of all runs as they are, or as they were in the snapshot ``actors`` of ``step``."""
        if self._evaluator is None:
            return
        step = self.step if step is None else step
        actors = self.population.state.actor.detach().cpu().clone() if actors is None else actors
        self._pending.append((step, episodes, final, actors))
        evaluated = [r for r in self.records if r["kind"] == "eval" and (r["step"], r["final"]) == (step, final)]
        have = {r.get("run") for r in evaluated}
        for (task, frame), runs in self._tasks.items():
            todo = [run for run in runs if run not in self.diverged and self._number(run) not in have]
            policies = {run: self.population.policy(run, actors) for run in todo}
            if policies:
                self._evaluator.submit(Job(step, task, frame, policies, episodes, final))
        self._collect()

    def _collect(self, wait_for_all: bool = False) -> None:
        if self._evaluator is None:
            return
        for result in self._evaluator.finished(wait_for_all):
            if math.isfinite(result.record["score"]):
                self._record(result.run, result.record)
            elif result.run not in self.diverged:
                self._on_divergence(result.run, "an action")
        alive = {(job.step, job.final) for job in self._evaluator.pending()}
        self._pending = [entry for entry in self._pending if (entry[0], entry[2]) in alive]

    def _record(self, run: int | None, record: Record) -> None:
        number = None if run is None else self._number(run)
        if number is not None:
            record = {"run": number, **record}
        self.records.append(record)
        if self.folder is not None:
            self.folder.append(record)
        self.observer.on_record(record)

    def _number(self, run: int) -> int | None:
        """What records call the population's run with index ``run``; None for a single run."""
        return self._numbers[run] if self._numbers is not None else None

    def _save(self) -> None:
        if self.folder is None:
            return
        for run in ckpt.unfinite_runs(self.population.state):
            if run not in self.diverged:
                self._on_divergence(run, "a weight")
        tensors = ckpt.state_tensors(self.population.state)
        for i, normaliser in enumerate(self.population.normalisers):
            tensors[f"normaliser.{i}.mean"] = torch.from_numpy(normaliser.mean)
            tensors[f"normaliser.{i}.std"] = torch.from_numpy(normaliser.std)
        tensors |= {f"pending.{i}": actors for i, (*_, actors) in enumerate(self._pending)}
        meta = {
            "metrics_bytes": self.folder.metrics_bytes(),
            "metrics_sha256": self.folder.metrics_sha256(),
            "means": self._means.to_json(),
            "pending": [[step, episodes, final] for step, episodes, final, _ in self._pending],
            "diverged": self.diverged,
        }
        ckpt.save_checkpoint(self.folder.checkpoints, self.step, tensors, meta)
