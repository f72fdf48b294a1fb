"""The CPU engine in C++ (``cpp/``): hand-written products on panels, everything else fused between them.

It computes what the eager functions compute, from the same random numbers; results do not depend on the number of
threads. One run takes one thread or an even number of them (one critic each half, then a share of the batch each);
where there are more runs than threads, every thread takes a run.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.engine.base import Learners
from aspc_fast.engine.kinds import Kind, check_algorithm, step_kind
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.native_build import NativeUnavailable, library
from aspc_fast.errors import UserError

SCALARS = {torch.float32: "float", torch.float64: "double"}
NETWORKS = ("actor", "actor_target", "actor_m", "actor_v", "critic", "critic_target", "critic_m", "critic_v")
LEARNED = ("rho", "rho_m", "rho_v", "ema_q")
HYPER = (
    *("discount", "tau", "policy_noise", "noise_clip", "max_action", "actor_lr", "critic_lr", "alpha_lr"),
    *("alpha_lr_decay", "ema", "weight_eq2", "weight_eq3", "learns_alpha", "true_act_dim", "reward_factor"),
    "reward_shift",
)
KINDS: tuple[Kind, ...] = ("critic", "actor", "meta")
MAX_METRICS = 32
MAX_CREW = 8  # threads of one run: a batch of 256 has 32 blocks of rows to share
SLICE = 40  # steps of one run before the thread takes the next, where there are more runs than threads

_CRITIC = ("critic_loss", "q1_mean")
_ACTOR = (*_CRITIC, "actor_loss", "q_pi_mean", "q_abs_mean", "bc_mse", "alpha_used", "lambda")
_META = (
    *(*_ACTOR, "eq1", "eq2", "eq3", "ema_q", "delta_q", "bc_sup", "delta_bc_sup", "q_new_mean", "q_new_abs_mean"),
    *("bc_mse_new", "alpha_loss", "alpha_grad", "alpha_grad_eq1", "alpha_grad_eq2", "alpha_grad_eq3", "alpha_lr_used"),
)
NAMES: dict[Kind, tuple[str, ...]] = {
    "critic": _CRITIC,
    "actor": (*_ACTOR, "alpha_after"),
    "meta": (*_META, "alpha_after"),
}


class _Program(ctypes.Structure):
    """As ``Program`` in cpp/agent.h."""

    _fields_ = [
        *((n, ctypes.c_int64) for n in ("obs", "act", "hidden", "robust", "batch", "policy_freq", "alpha_freq")),
        ("learns_alpha", ctypes.c_int64),
        *((n, ctypes.c_double) for n in ("beta1", "beta2", "eps")),
    ]


class _Arguments(ctypes.Structure):
    """As ``Arguments`` in cpp/agent.h, with its Hyper and Store."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*NETWORKS, *LEARNED)),
        *((name, ctypes.c_double) for name in (f"hyper_{h}" for h in HYPER)),
        *((name, ctypes.c_void_p) for name in ("buffer", "columns", "extra")),
        *((name, ctypes.c_int64) for name in ("extras", "length", "width", "start", "seed")),
        *((name, ctypes.c_void_p) for name in ("batch", "noise")),
        ("sums", ctypes.c_double * MAX_METRICS * len(KINDS)),
    ]


class NativeEngine:
    """See ``aspc_fast.engine.base.Engine``. UserError where the population does not fit or nothing can be compiled.

    threads: for all runs together; by default what torch may use.
    """

    name = "native"

    def __init__(self, learners: Learners, threads: int | None = None) -> None:
        self.spec, self.state, self.hyper, self.replay = spec, state, hyper, _ = learners
        self.threads = threads
        _check(spec, state)
        scalar = SCALARS[state.dtype]
        self._library = library(scalar)
        size = ctypes.sizeof(_Program) * 1000000 + ctypes.sizeof(_Arguments) * 100 + state.dtype.itemsize
        if self._library.aspc_sizes() != size:
            raise NativeUnavailable("engine native was compiled for another layout of its arguments")
        self._done = int(state.step)
        self._hyper = _columns(spec, hyper)
        self._own = {name: torch.zeros(state.runs, dtype=state.dtype) for name in LEARNED}  # what TD3+BC lacks
        self._handle: int | None = None
        self._crews = (0, 0)

    def restored(self) -> None:
        """The state was overwritten from outside."""
        self._done = int(self.state.step)

    @torch.no_grad()
    def step(self, batch: Batch) -> Metrics:
        """One training step on a given batch."""
        shapes, runs, dtype = self.spec.shapes, self.state.runs, self.state.dtype
        sizes = ((shapes.obs_dim,), (shapes.act_dim,), (), (shapes.obs_dim,), (), (shapes.act_dim,))
        own = Batch(*(t.to("cpu", dtype).contiguous() for t in batch))
        for name, tensor, width in zip(Batch._fields, own, sizes, strict=True):
            if tensor.shape != (runs, self.spec.config.batch_size, *width):
                raise UserError(
                    f"batch.{name} must be {[runs, self.spec.config.batch_size, *width]}, got {list(tensor.shape)}"
                )
        rows = torch.cat((*own[:2], own.next_observations, own.rewards[..., None], own.terminals[..., None]), dim=-1)
        given = [{"batch": rows[r].data_ptr(), "noise": own.noise[r].data_ptr()} for r in range(runs)]
        (sums,) = self._advance(1, given).values()
        kind = step_kind(self.spec, self._done)
        return dict(zip(NAMES[kind], sums.to(dtype), strict=True))

    @torch.no_grad()
    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps of every run on sampled batches; their metrics go into ``means``."""
        assert self.replay is not None, "advance() needs a replay store"
        first, replay = self._done + 1, self.replay
        stores = [
            {
                "buffer": replay.buffer.data_ptr(),
                "columns": replay.columns[r].data_ptr(),
                "extra": replay.extra[r].data_ptr(),
                "extras": replay.extra.shape[-1],
                "length": int(replay.lengths[r]),
                "width": int(replay.widths[r]),
                "start": int(replay.starts[r]),
                "seed": int(self.hyper.seeds[r]),
            }
            for r in range(self.state.runs)
        ]
        if steps:
            counts = [step_kind(self.spec, t) for t in range(first, first + steps)]
            for kind, sums in self._advance(steps, stores).items():
                means.add_sums(NAMES[kind], sums, counts.count(kind))

    def _advance(self, steps: int, inputs: Sequence[dict[str, Any]]) -> dict[Kind, Tensor]:
        """Sums [M, R] float64 of the metrics of ``steps`` steps, for each kind that was among them."""
        runs, tensors = len(inputs), self._own | self.state.tensors()
        arguments = (_Arguments * runs)()
        for r, given in enumerate(inputs):
            for name in (*NETWORKS, *LEARNED):
                setattr(arguments[r], name, tensors[name][r].data_ptr())
            for name, value in (self._hyper[r] | given).items():
                setattr(arguments[r], name, value)
        self._train(arguments, steps)
        kinds = {step_kind(self.spec, t) for t in range(self._done + 1, self._done + 1 + steps)}
        self._done += steps
        self.state.step.fill_(self._done)
        sums = torch.tensor([[list(row) for row in one.sums] for one in arguments], dtype=torch.float64)
        return {kind: sums[:, i, : len(NAMES[kind])].T for i, kind in enumerate(KINDS) if kind in kinds}

    def _train(self, arguments: ctypes.Array[_Arguments], steps: int) -> None:
        """``steps`` steps of every run: a crew of threads for each run, or one thread for each run that is waiting."""
        runs, threads = len(arguments), max(1, self.threads or torch.get_num_threads())
        size = min(threads // runs, MAX_CREW) // 2 * 2 or 1
        crews = min(runs, threads // size)
        self._open(runs, crews, size)
        work, handle, entry = self._library.aspc_work, self._handle, ctypes.sizeof(_Arguments)

        def train(run: int, crew: int, member: int, first: int, count: int) -> None:
            place = ctypes.addressof(arguments) + run * entry
            work(handle, place, run, crew, member, self._done + first, count, first == 0, first + count == steps)

        def take_turns(crew: int) -> None:
            while waiting:
                try:
                    run, first = waiting.popleft()
                except IndexError:
                    return
                count = min(SLICE, steps - first)
                train(run, crew, 0, first, count)
                if first + count < steps:
                    waiting.append((run, first + count))

        waiting = deque((run, 0) for run in range(runs))
        if size > 1:
            _together([partial(train, run, run, member, 0, steps) for run in range(runs) for member in range(size)])
        else:
            _together([partial(take_turns, crew) for crew in range(crews)])

    def _open(self, runs: int, crews: int, size: int) -> None:
        """Memory for so many runs and crews of threads, kept until another number of threads is asked for."""
        if self._handle is not None and self._crews == (crews, size):
            return
        if self._handle is not None:
            self._finalizer()
        c, s = self.spec.config, self.spec.shapes
        program = _Program(
            *(s.obs_dim, s.act_dim, s.hidden_dim, s.robust, c.batch_size, c.policy_freq, getattr(c, "alpha_freq", 1)),
            *(c.algo == "aspc", c.adam_beta1, c.adam_beta2, c.adam_eps),
        )
        self._handle = self._library.aspc_open(ctypes.byref(program), runs, crews, size)
        if self._handle is None:
            raise MemoryError("engine native found no memory for its weights and activations")
        self._finalizer: weakref.finalize[..., Any] = weakref.finalize(self, self._library.aspc_close, self._handle)
        self._crews = (crews, size)


def _together(jobs: Sequence[Callable[[], None]]) -> None:
    """Run all jobs at once, the first on this thread. None begins before all have a thread: a crew needs every one."""
    gate, complete = threading.Event(), False

    def run(job: Callable[[], None]) -> None:
        gate.wait()
        if complete:
            job()

    started: list[threading.Thread] = []
    try:
        for job in jobs[1:]:
            thread = threading.Thread(target=run, args=(job,), daemon=True)
            thread.start()
            started.append(thread)
        complete = True
        gate.set()
        jobs[0]()
    except RuntimeError as error:
        raise MemoryError(f"engine native could not start {len(jobs)} threads ({error})") from None
    finally:
        gate.set()
        for thread in started:
            thread.join()


def _check(spec: Spec, state: AgentState) -> None:
    check_algorithm("native", spec)
    if state.device.type != "cpu":
        raise UserError(f"engine native works on the CPU, got device {state.device}")
    if state.dtype not in SCALARS:
        raise UserError(f"engine native computes in float32 or float64, got {state.dtype}")
    for name, tensor in state.tensors().items():
        if tensor.ndim and not tensor[0].is_contiguous():
            raise UserError(f"engine native needs contiguous state, {name} is not")


def _columns(spec: Spec, hyper: Hyper) -> list[dict[str, float]]:
    """Each run's hyper-parameters as Python numbers; a common learning rate as the spec gives it."""
    none = torch.zeros_like(hyper.discount)  # TD3+BC has no outer loss
    known = hyper.tensors() | {"learns_alpha": none + float(spec.config.algo == "aspc")}
    values = {name: known.get(name, none).double().tolist() for name in HYPER}
    for name in ("actor_lr", "critic_lr"):
        common = spec.rate(name)
        values[name] = values[name] if common is None else [common] * len(values[name])
    return [{f"hyper_{n}": column[r] for n, column in values.items()} for r in range(len(hyper.seeds))]
