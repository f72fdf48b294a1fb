"""A population's evaluations: which runs can be evaluated, the snapshots that wait, and the jobs they become.

A snapshot is the actors of all runs [R, P_actor] on the host. Few wait in memory; where evaluation falls behind
training, the others wait in files beside the checkpoints, which name them. A snapshot becomes policies only when a
worker is about to take them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from aspc_fast.clock import CLOCK
from aspc_fast.errors import UserError
from aspc_fast.evaluation import make_task
from aspc_fast.evaluation.rates import simulator_steps_per_second
from aspc_fast.results import checkpoint as ckpt
from aspc_fast.results.records import Record
from aspc_fast.run.evaluators import Evaluator, Job, Result
from aspc_fast.run.population import Population

IN_MEMORY = 4  # snapshots; 12 MB each for 39 runs
PARTS = 16  # an evaluation is cut into about so many jobs, if it has runs enough


@dataclass
class Snapshot:
    """The actors after ``step``, in memory or in ``path``, and the jobs (task, frame, runs) not handed in."""

    step: int
    episodes: int
    final: bool
    actors: Tensor | None
    path: Path | None
    jobs: list[tuple[str, str, list[int]]] = field(default_factory=list)

    def load(self) -> Tensor:
        """The actors [R, P_actor] on the CPU; UserError if the file is damaged."""
        return self.actors if self.actors is not None else ckpt.read_pending(self.path)  # type: ignore[arg-type]

    def told(self) -> list[Any]:
        """How a checkpoint's JSON names it."""
        where = [] if self.path is None else [self.path.name]
        return [self.step, self.episodes, self.final, *where]


class Evaluations:
    """Hands snapshots to ``evaluator`` as jobs, as fast as it takes them. ``folder``: of the checkpoints, or None."""

    def __init__(self, population: Population, evaluator: Evaluator | None, folder: Path | None) -> None:
        self.problems: list[str] = []
        self._population, self._folder = population, folder
        self._tasks = self._evaluation_tasks() if evaluator is not None else {}
        self._evaluator = evaluator if self._tasks else None
        self._snapshots: list[Snapshot] = []

    def __bool__(self) -> bool:
        """Whether anything will be evaluated."""
        return self._evaluator is not None

    def submit(
        self,
        step: int,
        episodes: int,
        final: bool,
        runs: Iterable[int],
        actors: Tensor | None = None,
        known: frozenset[tuple[int, bool, int]] = frozenset(),
    ) -> None:
        """Evaluate ``runs`` as they are now, after ``step``; or as they were in the snapshot ``actors``.

        known: (step, final, run) of results that are there already.
        """
        if self._evaluator is None:
            return
        wanted = set(runs)
        jobs = [(task, frame, [r for r in own if r in wanted]) for (task, frame), own in self._tasks.items()]
        parts = [(t, f, [r for r in own if (step, final, r) not in known]) for t, f, own in _divided(jobs)]
        parts = [part for part in parts if part[2]]
        if not parts:
            return
        with CLOCK.waiting("evaluation"):
            if actors is None:
                state = self._population.actors.detach()
                actors = state.cpu() if state.is_cuda else state.clone()
            path = None
            if sum(s.actors is not None for s in self._snapshots) >= IN_MEMORY and self._folder is not None:
                path = ckpt.write_pending(self._folder, step, final, actors)
            self._snapshots.append(Snapshot(step, episodes, final, None if path else actors, path, parts))

    def finished(self, wait_for_all: bool = False) -> list[Result]:
        """Results that are ready; hands in what the workers have room for."""
        if self._evaluator is None:
            return []
        results: list[Result] = []
        while True:
            self._hand_in()
            results += self._evaluator.finished()
            left = any(snapshot.jobs for snapshot in self._snapshots)
            if wait_for_all and (left or self._evaluator.pending()):
                with CLOCK.waiting("last evaluations"):
                    self._evaluator.wait()
            elif not (left and self._evaluator.room()):
                break
        busy = {(job.step, job.final) for job in self._evaluator.pending()}
        self._snapshots = [s for s in self._snapshots if s.jobs or (s.step, s.final) in busy]
        return results

    def to_checkpoint(self) -> tuple[list[list[Any]], dict[str, Tensor]]:
        """What waits: descriptions for the checkpoint's JSON, and the tensors of those that have no file."""
        tensors = {f"pending.{i}": s.actors for i, s in enumerate(self._snapshots) if s.actors is not None}
        return [s.told() for s in self._snapshots], tensors

    def restore(self, saved: ckpt.Checkpoint, runs: Iterable[int], have: Iterable[tuple[int, bool, int]]) -> None:
        """Hand in again what waited at a checkpoint, but for the (step, final, run) whose results it knows."""
        known = frozenset(have)
        for i, (step, episodes, final, *where) in enumerate(saved.meta["pending"]):
            if where:
                assert self._folder is not None
                actors = ckpt.read_pending(ckpt.pending_path(self._folder, where[0]))
            else:
                actors = saved.tensors[f"pending.{i}"]
            self.submit(int(step), int(episodes), bool(final), runs, actors, known)

    def _hand_in(self) -> None:
        assert self._evaluator is not None
        for snapshot in self._snapshots:
            while snapshot.jobs and self._evaluator.room():
                with CLOCK.waiting("evaluation"):
                    task, frame, runs = snapshot.jobs.pop(0)
                    actors = snapshot.load()
                    policies = {run: self._population.policy(run, actors) for run in runs}
                    job = Job(snapshot.step, task, frame, policies, snapshot.episodes, snapshot.final)
                    self._evaluator.submit(job)

    def _evaluation_tasks(self) -> dict[tuple[str, str], list[int]]:
        """Runs by (task, frame); a sentence for those that cannot be evaluated."""
        tasks: dict[tuple[str, str], list[int]] = {}
        problems: dict[str, None] = {}
        for i, run in enumerate(self._population.runs):
            data = self._population.datasets[run.dataset]
            name = data.dataset_id or data.env
            if name is None:
                problems[f"{data.source}: simulator unknown, so nothing is evaluated (see --env)"] = None
                continue
            try:
                task = make_task(name, data.frame)
                if (task.obs_dim, task.act_dim) != (data.obs_dim, data.act_dim):
                    raise UserError(
                        f"{data.source} has {data.obs_dim} observation and {data.act_dim} action entries, "
                        f"{task.env} {task.obs_dim} and {task.act_dim}"
                    )
                tasks.setdefault((name, data.frame), []).append(i)
            except UserError as error:
                problems[f"training without evaluation: {error}"] = None
        self.problems = list(problems)
        return tasks


def known_results(records: Iterable[Record], index_of_run: dict[Any, int]) -> list[tuple[int, bool, int]]:
    """(step, final, run index) of every evaluation in ``records``; ``index_of_run``: number in them -> index."""
    return [
        (r["step"], r["final"], index_of_run[r.get("run")])
        for r in records
        if r["kind"] == "eval" and r.get("run") in index_of_run
    ]


def _divided(jobs: list[tuple[str, str, list[int]]]) -> list[tuple[str, str, list[int]]]:
    """The jobs, longest first; one that is more than a PARTS-th of all of them is cut by runs, so none is waited for.

    How they are cut does not depend on the number of workers: a batch of policies is the same wherever it is done.
    """
    seconds = {task: make_task(task, frame).horizon / simulator_steps_per_second(task) for task, frame, _ in jobs}
    share = sum(seconds[task] * len(runs) for task, _, runs in jobs) / PARTS
    parts: list[tuple[float, tuple[str, str, list[int]]]] = []
    for task, frame, runs in jobs:
        pieces = -(-len(runs) // max(1, int(share / seconds[task]))) if runs else 0
        for k in range(pieces):
            own = runs[k * len(runs) // pieces : (k + 1) * len(runs) // pieces]
            parts.append((seconds[task] * len(own), (task, frame, own)))
    return [part for _, part in sorted(parts, key=lambda entry: -entry[0])]
