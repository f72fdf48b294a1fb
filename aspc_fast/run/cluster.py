"""Shards of a sweep as Ray tasks: more than one GPU or machine. The results folder must be visible to all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aspc_fast.errors import UserError
from aspc_fast.results.names import DONE, METRICS
from aspc_fast.results.records import Observer
from aspc_fast.results.tail import Tail
from aspc_fast.run.loop import Interrupted
from aspc_fast.run.shard import train_shard

MAX_RETRIES = 5  # a shard whose worker is lost goes on from its checkpoint elsewhere, so often
POLL_SECONDS = 0.5

Runner = Callable[[list[Path], Observer, Callable[[], bool]], None]


def ray_runner(address: str | None, gpus: float, cpus: float) -> Runner:
    """What trains shards on the Ray cluster at ``address`` (None: one started here), each with these resources.

    UserError if Ray is missing or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray, which is missing: pip install 'aspc_fast[ray]'") from None
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at {address!r}: {error}") from None

    def run(shards: list[Path], observer: Observer, stop: Callable[[], bool]) -> None:
        remote = ray.remote(num_gpus=gpus, num_cpus=cpus, max_retries=MAX_RETRIES)(_train_here)
        tasks: dict[Any, Path] = {remote.remote(str(shard.resolve())): shard for shard in shards}
        followers = [_Follower(shard, observer) for shard in shards]
        waiting = list(tasks)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=POLL_SECONDS)
            for follower in followers:
                follower.forward()
            for task in done:
                _result(ray, task, tasks[task])
            if waiting and stop():
                for task in waiting:
                    ray.cancel(task, force=False)  # raises KeyboardInterrupt there: it stops at its last checkpoint
                raise Interrupted(min((follower.step for follower in followers), default=0))

    return run


def _train_here(folder: str) -> None:
    """A Ray task: train the shard in its folder; what a lost worker had begun goes on from its checkpoint."""
    import os

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _wait_for_lock(Path(folder))


def _wait_for_lock(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            train_shard(folder, Observer())
            return
        except UserError as error:
            # a worker that is being lost may hold the folder for a moment longer
            if "another process" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def _result(ray: Any, task: Any, shard: Path) -> None:
    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, UserError) else error
        raise UserError(f"{shard}: {str(cause).strip().splitlines()[-1]}") from None
    except ray.exceptions.RayError as error:
        raise UserError(f"{shard}: its worker was lost {MAX_RETRIES + 1} times ({type(error).__name__})") from None
    if not (shard / DONE).exists():
        raise UserError(
            f"{shard}: Ray says the shard is done but {DONE} is not here; is the folder shared by all nodes?"
        )


class _Follower:
    """Hands the records that a shard's worker writes to an observer here."""

    def __init__(self, shard: Path, observer: Observer) -> None:
        self._tail, self._observer = Tail(shard / METRICS), observer
        self.step = 0

    def forward(self) -> None:
        """Hand on what is new."""
        for record in self._tail.new():
            self.step = max(self.step, int(record.get("step", 0)))
            self._observer.on_record(record)
        self._observer.on_progress(self.step)
