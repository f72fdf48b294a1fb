"""Evaluation beside training: snapshots of policies go in, results come out with the step they belong to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from aspc_fast.errors import UserError
from aspc_fast.evaluation import make_task, rollout
from aspc_fast.evaluation.scores import normalised_scores
from aspc_fast.results.policy import Policy, PolicyBatch

AHEAD = 2  # jobs that wait at the workers, so that none is idle until training looks again
MAX_TRIES = 5  # a job that kills its worker so often is given up


@dataclass(frozen=True)
class Job:
    """Evaluate ``policies`` (by run) of one task after ``step``; ``final`` marks the last evaluation of a run."""

    step: int
    task: str
    frame: str
    policies: dict[int, Policy]
    episodes: int
    final: bool = False


@dataclass(frozen=True)
class Result:
    """What one run scored: the fields of an ``eval`` record."""

    run: int
    record: dict[str, Any]


class Evaluator(ABC):
    """Where jobs are done; what is not overridden holds of one that does each at once."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Hand in a job; returns at once where workers do it."""

    @abstractmethod
    def finished(self) -> list[Result]:
        """Results that are ready."""

    def wait(self) -> None:  # noqa: B027
        """Return when some pending job is done."""

    def room(self) -> bool:
        """Whether a job handed in now would be begun soon."""
        return True

    def pending(self) -> list[Job]:
        """Jobs whose results have not been handed out."""
        return []

    def close(self) -> None:  # noqa: B027
        """Let go of workers."""


def evaluation_seed(step: int) -> int:
    """Seed of the evaluation after ``step``: fresh start states each time, the same for all runs and repetitions."""
    return int(np.random.SeedSequence([step]).generate_state(1)[0] % 2**19)


def evaluate_job(job: Job, threads: int | None = None) -> list[Result]:
    """All runs of the job in one vectorised environment: run k owns the k-th block of ``episodes`` slots."""
    task, seed, runs = make_task(job.task, job.frame), evaluation_seed(job.step), list(job.policies)
    episodes = rollout(
        PolicyBatch([job.policies[run] for run in runs]),
        *(task, len(runs) * job.episodes, seed),
        episodes_per_run=job.episodes,
        strict=False,
        threads=threads,
    )
    results = []
    for k, run in enumerate(runs):
        own = slice(k * job.episodes, (k + 1) * job.episodes)
        scores = normalised_scores(episodes.returns[own], task)
        record = {
            "kind": "eval",
            "step": job.step,
            "score": float(scores.mean()),
            "score_std": float(scores.std()),
            "returns": episodes.returns[own].tolist(),
            "lengths": episodes.lengths[own].tolist(),
            "normalised_scores": scores.tolist(),
            "dataset": job.task,
            "env": task.env,
            "engine": task.engine,
            "frame": task.frame,
            "comparable": task.comparable,
            "measure": task.measure,
            "seed": seed,
            "final": job.final,
        }
        results.append(Result(run, record))
    return results


class InlineEvaluator(Evaluator):
    """Evaluates where it is called: training waits. For single runs and for programs that must not start processes."""

    def __init__(self) -> None:
        self._results: list[Result] = []

    def submit(self, job: Job) -> None:
        """Do the job now, on one thread: a policy's matrices are too small to share, and threads would only wait."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._results += evaluate_job(job)
        finally:
            torch.set_num_threads(threads)

    def finished(self) -> list[Result]:
        """Everything done since the last call."""
        results, self._results = self._results, []
        return results


class WorkerEvaluator(Evaluator):
    """Worker processes, one task at a time each. A worker that dies is replaced and its job done again."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = self._start()
        self._jobs: list[tuple[Job, Future[list[Result]], int]] = []

    def submit(self, job: Job) -> None:
        """Queue the job."""
        self._jobs.append((job, self._queue(job), 1))

    def finished(self) -> list[Result]:
        """Results in the order of completion; jobs of dead workers are handed in again."""
        results: list[Result] = []
        lost: list[tuple[Job, int]] = []
        waiting = []
        for job, future, tries in self._jobs:
            if not future.done():
                waiting.append((job, future, tries))
            elif isinstance(future.exception(), BrokenProcessPool):
                lost.append((job, tries))
            else:
                results += future.result()
        self._jobs = waiting
        if lost:
            self._replace_pool(lost)
        return results

    def wait(self) -> None:
        """Return when some pending job is done, or its worker is."""
        wait([future for _, future, _ in self._jobs], return_when=FIRST_COMPLETED)

    def room(self) -> bool:
        """Whether fewer jobs are here than keep every worker busy until somebody asks again."""
        return len(self._jobs) < self._workers + AHEAD

    def pending(self) -> list[Job]:
        """Jobs whose results have not been handed out."""
        return [job for job, _, _ in self._jobs]

    def close(self) -> None:
        """End the workers; pending jobs are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _queue(self, job: Job) -> Future[list[Result]]:
        try:
            return self._pool.submit(evaluate_job, job, 1)
        except BrokenProcessPool:
            self._replace_pool([])
            return self._pool.submit(evaluate_job, job, 1)

    def _replace_pool(self, lost: Sequence[tuple[Job, int]]) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._start()
        again = [(job, tries + 1) for job, tries in lost]
        again += [(job, tries) for job, future, tries in self._jobs]  # their futures died with the pool
        for job, tries in again:
            if tries > MAX_TRIES:
                raise UserError(
                    f"evaluating {job.task} at step {job.step} killed its worker {MAX_TRIES} times, perhaps for memory;"
                    " the same command with --workers 0 goes on from the last checkpoint and shows where"
                )
        self._jobs = [(job, self._pool.submit(evaluate_job, job, 1), tries) for job, tries in again]

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork of a process that uses CUDA or threads is not safe
        return ProcessPoolExecutor(self._workers, context, initializer=_become_worker)


def _become_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which ends its workers in order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    os.nice(5)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # a trainer that was killed tells nobody: its workers would wait for work for ever
        os._exit(1)
