"""Compile the fused engine's kernels for a GPU that need not be there, and read the compiler's own report.

The launches of a real step are recorded instead of run, so what is compiled is what the engine launches, with the same
constants and the same alignment facts.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from aspc_fast.agent.state import RunShape, init_state, make_hyper, make_spec
from aspc_fast.config import AgentConfig, Precision
from aspc_fast.engine.base import Learners
from aspc_fast.engine.fused_program import Program
from aspc_fast.engine.kinds import Kind
from aspc_fast.engine.replay import Replay
from aspc_fast.errors import UserError
from aspc_fast.kernels.common import INTERPRETED
from aspc_fast.kernels.problem import TILES, Tiles, fit, make_problem

TENSOR_CORE = re.compile(r"\b(HMMA|HGMMA|QGMMA|UTC[A-Z]*MMA)\b|\b(tcgen05\.mma|wgmma\.mma_async|mma\.sync)\b")
COPY = re.compile(r"\bcp\.async\.c[ag]\.shared\.global[^;]*?\],\s*\[[^\]]*\],\s*(0x[0-9a-f]+|\d+)")
WIDE = 16  # bytes
_TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


@dataclass(frozen=True)
class Recorded:
    """One kernel launch that was not made: its name in the program, function, arguments and options."""

    name: str
    function: Any
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def program(self) -> tuple[Any, ...]:
        """What makes it another program to compile, but for its tensors' types and alignment."""
        numbers = {**self.arguments, **self.options}
        return self.function, *((k, v) for k, v in numbers.items() if not isinstance(v, torch.Tensor))


@dataclass(frozen=True)
class Report:
    """What the compiler says of one kernel: registers per thread, stack bytes (spills), shared memory bytes, kinds of
    tensor-core instructions with their number, whether it multiplies matrices, and how many instructions copy from
    memory to shared memory less than 16 bytes a thread."""

    name: str
    registers: int
    stack: int
    shared: int
    tensor_cores: dict[str, int]
    is_matmul: bool
    narrow_copies: int = 0

    @property
    def faults(self) -> list[str]:
        """What must not be: a spill, or a matrix product on ordinary cores."""
        faults = ["spills"] if self.stack else []
        return faults + (["no tensor cores"] if self.is_matmul and not self.tensor_cores else [])


@contextmanager
def _recording(into: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> Iterator[None]:
    original = JITFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        into.append((self, args, kwargs))

    JITFunction.run = run
    try:
        yield
    finally:
        JITFunction.run = original


def record(obs_dim: int, act_dim: int, precision: Precision, tiles: Tiles = TILES["latency"]) -> list[Recorded]:
    """Every different launch of critic, actor and meta steps for these dimensions (one run, default configuration)."""
    if INTERPRETED:
        raise UserError("kernels cannot be compiled with TRITON_INTERPRET set: unset it and start again")
    config, run = AgentConfig(), RunShape(obs_dim, act_dim)
    spec = make_spec([config], [run])
    state = init_state(spec, [config], [run], [0], torch.float32)
    hyper = make_hyper(spec, [config], [run], [0], torch.float32)
    problem = make_problem(spec, 1, torch.float32, precision, fit(tiles, spec))
    program = Program(Learners(spec, state, hyper, _empty_replay(obs_dim, act_dim, spec)), problem)
    found: dict[Any, Recorded] = {}
    kinds: tuple[Kind, ...] = ("critic", "actor", "meta")
    for kind in kinds:
        for launch in program.launches(kind):
            calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
            with _recording(calls):
                launch.call()
            for number, (function, args, kwargs) in enumerate(calls, 1):
                options = {k: v for k, v in kwargs.items() if k not in function.arg_names}
                arguments = dict(zip(function.arg_names, args, strict=False))
                arguments |= {k: v for k, v in kwargs.items() if k not in options}
                name = launch.name + (f", {kind}" if launch.name.endswith(("weights", "backward")) else "")
                name += f", part {number}" if len(calls) > 1 else ""
                launch_ = Recorded(name, function, arguments, options)
                found.setdefault(launch_.program, launch_)
    return list(found.values())


def _empty_replay(obs_dim: int, act_dim: int, spec: Any) -> Replay:
    import numpy as np

    from aspc_fast.data.arrays import from_arrays
    from aspc_fast.data.normaliser import Normaliser

    rows = 4
    data = from_arrays(
        observations=np.zeros((rows, obs_dim), np.float32),
        actions=np.zeros((rows, act_dim), np.float32),
        rewards=np.zeros(rows, np.float32),
        terminals=np.zeros(rows, bool),
        timeouts=np.zeros(rows, bool),
    )
    return Replay([data], [Normaliser.of(data.observations, 1e-3)], [0], spec)


def compile_for(launch: Recorded, capability: int) -> Report:
    """Compile one launch for sm_``capability`` and read registers, stack and tensor-core instructions."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for i, parameter in enumerate(launch.function.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):  # as Triton's launcher specialises
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        address = value.data_ptr() if isinstance(value, torch.Tensor) else value
        signature[parameter.name] = _TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
        if address % 16 == 0:
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.function, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch.options)
    usage, code = _inspect(compiled.asm["cubin"])
    found: dict[str, int] = {}
    for match in TENSOR_CORE.finditer(code):
        word = match.group(1) or match.group(2)
        found[word] = found.get(word, 0) + 1
    numbers = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return Report(
        launch.name,
        numbers["REG"],
        numbers["STACK"] + numbers["LOCAL"],
        compiled.metadata.shared,
        found,
        "tt.dot" in compiled.asm["ttir"],
        sum(int(match.group(1), 0) < WIDE for match in COPY.finditer(compiled.asm["ptx"])),
    )


def _inspect(cubin: bytes) -> tuple[str, str]:
    """Resource usage and machine code of a cubin, by the tools that Triton's package carries."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run([str(tools / "cuobjdump"), "--dump-resource-usage", file.name])
        return usage, _run([str(tools / "nvdisasm"), "-c", file.name])


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
