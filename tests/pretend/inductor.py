"""Inductor's CUDA code for the compiled engine's parts, without a GPU: python -m tests.pretend.inductor [RUNS ...]

Inductor is stopped when the code is written; what the code would launch is counted in its text: Triton kernels, library
calls, and whatever falls back to single operations. Batches have the strides that the Triton gather gives them.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch._inductor.config
from torch._subclasses.fake_tensor import FakeTensorMode

from aspc_fast.agent.state import Batch, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.config import AgentConfig
from aspc_fast.engine import compiled
from aspc_fast.kernels.problem import Problem
from tests.pretend.device import CUDA, Pretend, _indexed_by_nobody

H200 = SimpleNamespace(
    name="NVIDIA H200",
    gcnArchName="",
    **dict(major=9, minor=0, multi_processor_count=132, total_memory=140 * 2**30, warp_size=32),
    **dict(max_threads_per_multi_processor=2048, regs_per_multiprocessor=65536, L2_cache_size=60 * 2**20),
    **dict(shared_memory_per_block=49152, shared_memory_per_block_optin=232448),
    shared_memory_per_multiprocessor=233472,
)
NOT_CACHED = {"compile_threads": 1, "fx_graph_cache": False, "force_disable_caches": True}
NOT_FOLDED = {"joint_graph_constant_folding": False}  # it makes real tensors
SUMS = 1  # the part's metrics are added to the period's sums


class Written(Exception):
    """The code is there: nothing more is wanted."""


class Calls(NamedTuple):
    """What one part's code launches."""

    kernels: int
    library: int
    single: int

    @property
    def total(self) -> int:
        """All launches."""
        return self.kernels + self.library + self.single


class Driver:
    """Stands for Triton's driver."""

    utils = SimpleNamespace(
        get_device_properties=lambda *_: {"max_shared_mem": 232448, "multiprocessor_count": 132, "warpSize": 32}
    )

    def get_current_target(self) -> Any:
        """sm_90."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        """The first."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """The first."""
        return CUDA

    def get_current_stream(self, *_: Any) -> int:
        """The default."""
        return 0


def count(runs: int, obs_dim: int = 45, act_dim: int = 24) -> dict[str, Calls]:
    """Launches of each part of a step."""
    config, shape = AgentConfig(), RunShape(obs_dim, act_dim)
    configs, shapes, seeds = [config] * runs, [shape] * runs, list(range(runs))
    spec = make_spec(configs, shapes)
    pretend = Pretend(FakeTensorMode(allow_non_fake_inputs=False))
    with _indexed_by_nobody():
        state = pretend.copy(init_state(spec, configs, shapes, seeds, torch.float32))
        hyper = pretend.copy(make_hyper(spec, configs, shapes, seeds, torch.float32))
        batch = _batch(pretend, spec, runs)
        return {part: _count(pretend, spec, part, (state, hyper, *batch)) for part in spec.algorithm.parts}


def _batch(pretend: Pretend, spec: Spec, runs: int) -> Batch:
    p, b = Problem(runs, spec.config.batch_size, spec.shapes), spec.config.batch_size
    d, a = spec.shapes.obs_dim, spec.shapes.act_dim
    with pretend.mode:

        def rows(width: int) -> torch.Tensor:
            return torch.empty(runs, b, width, device=CUDA)

        inputs, scalars = rows(p.input_stride), [torch.empty(runs, b, device=CUDA) for _ in range(2)]
        following, noise = rows(p.input_stride)[..., :d], rows(p.action_stride)[..., :a]
        return Batch(inputs[..., :d], inputs[..., d : d + a], scalars[0], following, scalars[1], noise)


def _count(pretend: Pretend, spec: Spec, part: str, arguments: tuple[Any, ...]) -> Calls:
    import triton
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.graph import GraphLowering

    written: list[str] = []

    def stop(graph: Any) -> None:
        code = graph.codegen()[0]
        written.append(getattr(code, "value", code))
        raise Written

    def nothing(*_: Any) -> None:
        return None

    stand_ins: dict[str, Any] = {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.get_device_properties": lambda *_: H200,
        "torch.cuda.current_device": lambda: 0,
        "torch.cuda.get_device_capability": lambda *_: (9, 0),
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.synchronize": nothing,
        "torch.cuda._lazy_init": nothing,
        "torch.cuda.get_rng_state": lambda *_: torch.empty(0),
        "torch.cuda.set_rng_state": nothing,
        "torch.cuda.device.__enter__": nothing,
        "torch.cuda.device.__exit__": nothing,
        "torch.cuda._DeviceGuard.__enter__": nothing,
        "torch.cuda._DeviceGuard.__exit__": nothing,
        "torch._functorch.aot_autograd.preserve_rng_state": nullcontext,
        "torch._dynamo.utils.preserve_rng_state": nullcontext,
        "torch._inductor.scheduler.has_triton": lambda *_: True,
        "torch.utils._triton.has_triton": lambda *_: True,
    }

    def backend(module: Any, inputs: Any) -> Any:
        with ExitStack() as stack:
            stack.enter_context(patch.object(GraphLowering, "compile_to_module", stop))
            stack.enter_context(patch.object(FakeTensorMode, "avoid_device_init", property(lambda self: True)))
            for name, stand_in in stand_ins.items():
                stack.enter_context(patch(name, stand_in))
            stack.enter_context(patch("torch.cuda._get_device_properties", lambda *_: H200, create=True))
            stack.enter_context(patch("torch._C._cuda_getDevice", lambda *_: 0, create=True))
            return compile_fx(module, inputs)

    real = torch.compile
    options = {**compiled.PINNED, **NOT_CACHED, **NOT_FOLDED}
    active = triton.runtime.driver.active if triton.runtime.driver._active else None
    triton.runtime.driver.set_active(Driver())
    try:
        with torch._inductor.config.patch(options), pretend.mode, torch.no_grad():
            torch._dynamo.reset()
            key = compiled.ProgramKey(spec, part, part == "critics", arguments[0].runs, torch.float32, str(CUDA))
            with patch("torch.compile", lambda f, **_: real(f, backend=backend, fullgraph=True, dynamic=False)):
                function = compiled._compiled.__wrapped__(key)
            try:
                function(*arguments)
            except Exception:
                if not written:
                    raise
    finally:
        torch._dynamo.reset()
        if active is not None:
            triton.runtime.driver.set_active(active)
    call = written[0][written[0].index("def call(") :]
    library = len(re.findall(r"\bextern_kernels\.\w+\(", call))
    return Calls(len(re.findall(r"\.run\(", call)), library, len(re.findall(r"torch\.ops\.aten\.\w+", call)))


def per_step(calls: dict[str, Calls]) -> float:
    """Mean launches of a training step over a period: parts, the sums of their metrics, and one for the sampling."""
    spec = make_spec([AgentConfig()], [RunShape(1, 1)])
    total = 0
    for step in range(1, spec.period + 1):
        total += 1 + sum(calls[part].total + SUMS for part in spec.parts(step))
    return total / spec.period


def main() -> None:
    """Print the table."""
    for runs in map(int, sys.argv[1:] or ("1", "39", "195")):
        calls = count(runs)
        parts = ", ".join(
            f"{part}: {c.kernels} kernels + {c.library} library + {c.single}" for part, c in calls.items()
        )
        print(f"{runs} runs: {per_step(calls):.1f} launches per step ({parts})", flush=True)


if __name__ == "__main__":
    main()
