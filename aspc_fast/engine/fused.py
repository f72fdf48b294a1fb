"""The Triton kernels as an engine; on CUDA whole periods are replayed from a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch

from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import Batch, Spec
from aspc_fast.config import Precision
from aspc_fast.engine.base import Learners, graph_steps
from aspc_fast.engine.kinds import Kind, check_algorithm, step_kind
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.errors import UserError

if TYPE_CHECKING:  # Triton is optional: only this engine needs it
    from aspc_fast.engine.fused_program import Launch
    from aspc_fast.kernels.problem import Tiles

STAGES = ("sample", "target", "critic", "actor", "meta", "targets")
MIN_HIDDEN, MAX_HIDDEN = 16, 512  # a matmul's smallest side; a row tile's largest
MAX_GRAPH_STEPS = 128  # longer periods are replayed step by step


class FusedEngine:
    """See ``aspc_fast.engine.base.Engine``. ``precision`` is that of the matmuls of a float32 state. ``tiles``: as of
    ``fused_tiles.find_tiles``; the attribute names those taken.

    Needs a CUDA device. On the CPU it runs in Triton's interpreter if TRITON_INTERPRET=1 was set at the start: slow, a
    proof of the kernels. Raises UserError where it cannot work.
    """

    name = "fused"

    def __init__(self, learners: Learners, *, precision: Precision = "tf32", tiles: Tiles | str | None = None) -> None:
        self.spec, self.state, self.hyper, self.replay = spec, state, *_ = learners
        check(spec, state.actor.device, state.actor.dtype)
        from aspc_fast.engine.fused_program import Program
        from aspc_fast.engine.fused_tiles import find_tiles
        from aspc_fast.kernels.common import INTERPRETED
        from aspc_fast.kernels.problem import make_problem

        self._index = state.actor.device.index if state.actor.is_cuda else None  # launches go to the current device
        with self._on_device():
            self.tiles, chosen = find_tiles(tiles, learners)
        problem = make_problem(spec, len(state.rho), state.actor.dtype, precision, chosen)
        self.program = Program(learners, problem)
        self._done = int(state.step)
        self._uses_graphs = state.actor.is_cuda and not INTERPRETED
        self._graphs: dict[tuple[Kind, ...], torch.cuda.CUDAGraph] = {}

    def restored(self) -> None:
        """The state was overwritten from outside."""
        self._done = int(self.state.step)

    @torch.no_grad()
    def step(self, batch: Batch, stop_after: str | None = None) -> Metrics:
        """One training step on a given batch, or its first stages: the last one to run is ``stop_after`` (of STAGES).

        Targets then move only if it is "targets". What the stages left is in ``program.work``.
        """
        if stop_after is not None and stop_after not in STAGES:
            raise UserError(f"stop_after must be one of {', '.join(STAGES)}, got {stop_after!r}")
        last = len(STAGES) if stop_after is None else STAGES.index(stop_after)
        whole = stop_after in (None, "targets")
        kind = self._kind(self._done + 1)
        self.program.work.load(batch)
        launches = self.program.launches(kind, sample=False, move_targets=whole)
        with self._on_device():
            self._run([launch for launch in launches if STAGES.index(launch.stage) <= last])
        self._done += last > 0  # the target pass moves the clock
        return self.program.metrics(kind, STAGES[: last + 1])

    def sample(self) -> Batch:
        """Draw the next step's batch as ``advance`` would; views of the engine's memory."""
        with self._on_device():
            self._run(self.program.launches("critic")[:1])
        return self.program.work.batch()

    @torch.no_grad()
    def advance(self, steps: int, means: MetricMeans) -> None:
        """``steps`` training steps on sampled batches; their metrics go into ``means``."""
        kinds = [self._kind(self._done + i) for i in range(1, steps + 1)]
        self.program.work.sums.zero_()
        at = 0
        while at < steps:
            chunk = self._chunk(steps - at)
            with self._on_device():
                self._run_kinds(tuple(kinds[at : at + chunk]))
            at += chunk
            self._done += chunk
        self.program.add_sums(means, kinds)

    def _on_device(self) -> AbstractContextManager[object]:
        return nullcontext() if self._index is None else torch.cuda.device(self._index)

    def _kind(self, step: int) -> Kind:
        return step_kind(self.spec, step)

    def _chunk(self, left: int) -> int:
        """How many of the steps ``left`` come next: a period where one can start, else one step."""
        period = graph_steps(self.spec)
        starts_here = self._done % period == 0 and period <= min(left, MAX_GRAPH_STEPS)
        return period if starts_here else 1

    def _run_kinds(self, kinds: tuple[Kind, ...]) -> None:
        if not self._uses_graphs:
            self._run(self._launches(kinds))
            return
        if kinds not in self._graphs:
            self._graphs[kinds] = self._capture(kinds)
        self._graphs[kinds].replay()

    @staticmethod
    def _run(launches: Sequence[Launch]) -> None:
        from aspc_fast.engine.fused_program import run

        run(launches)

    def _launches(self, kinds: Sequence[Kind]) -> list[Launch]:
        return [launch for kind in kinds for launch in self.program.launches(kind)]

    def _capture(self, kinds: tuple[Kind, ...]) -> torch.cuda.CUDAGraph:
        """The steps as a CUDA graph; what the capture's first run changed is put back."""
        from aspc_fast.engine.fused_program import capture

        before, sums = self.state.clone(), self.program.work.sums.clone()
        graph = capture(self._launches(kinds))
        self.state.copy_(before)
        self.program.work.sums.copy_(sums)
        return graph


def check(spec: Spec, device: torch.device, dtype: torch.dtype) -> None:
    """UserError where the kernels cannot run."""
    check_algorithm("fused", spec)
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise UserError("engine fused needs the package triton, which is not installed here") from error
    from aspc_fast.kernels.common import INTERPRETED, MIXED

    if MIXED:
        raise UserError("TRITON_INTERPRET was changed after triton had been imported: set it before the start")
    if device.type != "cuda" and not INTERPRETED:
        raise UserError(
            f"engine fused needs a CUDA device, got {device} (TRITON_INTERPRET=1, set before the start, runs its "
            "kernels on the CPU as a slow check)"
        )
    hidden = spec.shapes.hidden_dim
    if hidden & (hidden - 1) or not MIN_HIDDEN <= hidden <= MAX_HIDDEN:
        raise UserError(f"engine fused needs hidden_dim a power of two from {MIN_HIDDEN} to {MAX_HIDDEN}, got {hidden}")
    if dtype not in (torch.float32, torch.float64):
        raise UserError(f"engine fused needs a float32 or float64 state, got {dtype}")
