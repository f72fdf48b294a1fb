"""A population on the cores of a CPU: processes that each train a share of the runs, one thread each, in shared memory.

A 256-wide run does not fill two cores, two runs do. The learning state and the datasets lie in memory that all
processes see; what travels is the number of steps and the sums of the metrics. Every run gets exactly the numbers that
``SplitEngine`` gives it on one thread.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.data.packed import Packed
from aspc_fast.data.store import Store, anonymous_memory
from aspc_fast.engine.base import Learners
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.replay import Replay
from aspc_fast.engine.select import make_engine

_ALIGN = 64


@dataclass(frozen=True)
class _Share:
    """What a process must know: its runs first .. last - 1 of the population, and where everything lies."""

    engine: str
    spec: Spec
    hyper: dict[str, np.ndarray]
    first: int
    last: int
    layout: dict[str, tuple[int, tuple[int, ...], str]]
    datasets: tuple[Packed, ...]
    dataset_of_run: tuple[int, ...]
    entries: int


class SideBySideEngine:
    """See ``aspc_fast.engine.base.Engine``; for the engines of one CPU thread, eager and compiled. Close it."""

    def __init__(
        self,
        name: str,
        learners: Learners,
        store: Store,
        datasets: Sequence[Packed],
        dataset_of_run: Sequence[int],
        processes: int,
    ) -> None:
        self.name, (self.spec, state, self.hyper, _) = name, learners
        fd, layout = _shared_layout(state)
        self.state = _state_in(fd, layout)
        self.state.copy_(state)
        runs = state.runs
        processes = min(processes, runs)
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads is not safe
        self._workers: list[tuple[Any, Connection]] = []
        plain = {n: tensor.numpy() for n, tensor in self.hyper.tensors().items()}
        for k in range(processes):
            first, last = k * runs // processes, (k + 1) * runs // processes
            share = _Share(
                *(name, self.spec, {n: values[first:last] for n, values in plain.items()}, first, last, layout),
                datasets=tuple(datasets),
                dataset_of_run=tuple(dataset_of_run[first:last]),
                entries=store.entries,
            )
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, share, DupFd(fd), DupFd(store.fd)), daemon=True)
            process.start()
            there.close()
            self._workers.append((process, here))
        os.close(fd)
        self._ask("ready", None)

    def step(self, batch: Batch) -> Metrics:
        """One training step of every run on a given batch, in this process."""
        metrics = make_engine(self.name, Learners(self.spec, self.state, self.hyper)).step(batch)
        self.restored()
        return metrics

    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps of every run on sampled batches; their metrics go into ``means``."""
        parts = []
        for told in self._ask("advance", steps):
            parts.append(MetricMeans())
            parts[-1].load_json(told, "cpu")
        self.state.step.add_(steps)
        means.add_side_by_side(parts)

    def restored(self) -> None:
        """The state was overwritten from outside."""
        self._ask("restored", int(self.state.step))

    def close(self) -> None:
        """End the processes."""
        for process, pipe in self._workers:
            pipe.close()
            process.terminate()
        for process, _ in self._workers:
            process.join()
        self._workers = []

    def _ask(self, what: str, argument: Any) -> list[Any]:
        """The same of all; their answers in the order of the runs."""
        answers = []
        try:
            for _, pipe in self._workers:
                pipe.send((what, argument))
            for _, pipe in self._workers:
                answers.append(pipe.recv())
        except (EOFError, OSError):
            raise RuntimeError(
                "a training process ended by itself, perhaps for memory; --processes 1 uses none"
            ) from None
        for error in (answer for answer in answers if isinstance(answer, BaseException)):
            raise error
        return answers


def _work(pipe: Connection, share: _Share, state_fd: Any, store_fd: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its processes in order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    engine: Any = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            what, argument = pipe.recv()
            try:
                if what == "ready":
                    engine = _engine(share, state_fd.detach(), store_fd.detach())
                    answer: Any = None
                elif what == "restored":
                    engine.state.step.fill_(argument)
                    engine.restored()
                    answer = None
                else:
                    means = MetricMeans()
                    engine.advance(argument, means)
                    answer = means.to_json()
            except Exception as error:
                answer = error
            pipe.send(answer)


def _engine(share: _Share, state_fd: int, store_fd: int) -> Any:
    whole = _state_in(state_fd, share.layout)
    own = {name: t[share.first : share.last] for name, t in whole.tensors().items() if t.ndim}
    state = AgentState(**own, step=whole.step.clone())
    tensors = {name: torch.from_numpy(values.copy()) for name, values in share.hyper.items()}
    hyper = Hyper(share.spec.algorithm.exact, **tensors)
    entries = np.frombuffer(mmap.mmap(store_fd, 4 * share.entries), np.float32, share.entries)
    dtype = state.dtype
    replay = Replay.of_store(entries, share.datasets, share.dataset_of_run, share.spec, "cpu", dtype)
    return make_engine(share.engine, Learners(share.spec, state, hyper, replay))


def _shared_layout(state: AgentState) -> tuple[int, dict[str, tuple[int, tuple[int, ...], str]]]:
    """Anonymous memory for a copy of ``state``, and where each tensor lies in it."""
    layout: dict[str, tuple[int, tuple[int, ...], str]] = {}
    end = 0
    for name, tensor in state.tensors().items():
        layout[name] = (end, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        end += -(-tensor.numel() * tensor.element_size() // _ALIGN) * _ALIGN
    fd = anonymous_memory()
    os.ftruncate(fd, end)
    return fd, layout


def _state_in(fd: int, layout: dict[str, tuple[int, tuple[int, ...], str]]) -> AgentState:
    memory = mmap.mmap(fd, 0)
    return AgentState(**{name: _tensor(memory, *where) for name, where in layout.items()})


def _tensor(memory: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: str) -> Tensor:
    count = int(np.prod(shape, dtype=np.int64))
    return torch.frombuffer(memory, dtype=getattr(torch, dtype), count=count, offset=offset).reshape(shape)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
