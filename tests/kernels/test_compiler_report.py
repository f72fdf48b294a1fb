"""`aspc-fast kernels` for sm_90, in a process of its own: what is interpreted cannot be compiled."""

import os
import subprocess
import sys

import pytest

from tests.kernels import interpreter

# isort: split
from aspc_fast.cli.kernels import SHAPES, kernels
from aspc_fast.errors import UserError
from aspc_fast.kernels.problem import tiles_of
from aspc_fast.tools.kernel_compiler import TENSOR_CORE, Report

CALL = """
import sys
from aspc_fast.cli.kernels import kernels
sys.exit(kernels(architectures=("sm_90",)))
"""


def compile_in_own_process() -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"COLUMNS": "200"}
    command = [sys.executable, "-c", CALL]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_no_kernel_spills_and_every_matmul_uses_tensor_cores():
    done = compile_in_own_process()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines() if "sm_90" in line
    ]
    assert [sum(row[0] == shape for row in rows) for shape in SHAPES] == [11, 2, 20]
    for _, name, architecture, registers, stack, _, _, tensor_cores, verdict in rows:
        assert (architecture, stack, verdict) == ("sm_90", "0", "good"), name
        assert 16 <= int(registers) <= 255
        assert ("MMA" in tensor_cores) == (name not in ("gather", "outer loss and alpha")), name
    assert "33 kernels good, 0 not" in done.stdout
    narrow = {f"{row[0]}: {row[1]}": int(row[6]) for row in rows}
    wide = tiles_of("throughput", 90).rows == 64  # the wide instruction, which wants weights transposed
    assert (narrow["throughput: target pass, part 2"] > 0) == wide
    assert narrow["throughput: critic pass, part 3"] == 0


BIND = """
import triton.runtime.jit as jit
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from aspc_fast.kernels.problem import TILES, Tiles
from aspc_fast.tools.kernel_compiler import record
backend = CUDABackend(GPUTarget("cuda", 90, 32))
for tiles in (*TILES.values(), Tiles(paired=True)):
    for launch in record(17, 6, "tf32", tiles):
        bind = jit.create_function_from_signature(launch.function.signature, launch.function.params, backend)
        bind(**launch.arguments, **launch.options)
        print(launch.name)
"""


def test_triton_s_launcher_takes_every_argument():
    """The Python function it writes has names of its own: an argument called ``params`` was one of them."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", BIND]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.splitlines())) > 20


CANDIDATES = """
from aspc_fast.engine.fused_tiles import candidates
from aspc_fast.tools.kernel_compiler import compile_for, record
for name, tiles in candidates(39).items():
    if name == "throughput, plain loads":
        for launch in record(17, 6, "tf32", tiles):
            if launch.name in ("target pass, part 2", "critic pass, part 2", "critic weights, critic"):
                report = compile_for(launch, 90)
                print(name, launch.name, report.narrow_copies, report.stack, sep=";")
"""


@pytest.mark.slow
def test_there_is_a_design_without_narrow_copies():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", CANDIDATES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = {tuple(line.split(";")[:2]): line.split(";")[2:] for line in done.stdout.splitlines()}
    assert len(found) == 3
    assert {key: value for key, value in found.items() if value != ["0", "0"]} == {}


def test_faults_are_noticed():
    good = Report("k", 128, 0, 1024, {"HMMA": 4}, True)
    assert not good.faults
    assert Report("k", 255, 8, 1024, {"HMMA": 4}, True).faults == ["spills"]
    assert Report("k", 128, 0, 1024, {}, True).faults == ["no tensor cores"]
    assert not Report("k", 128, 0, 1024, {}, False).faults


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("/*0a90*/ HMMA.1688.F32.TF32 R4, R8, R10, R4 ;", "HMMA"),
        ("/*0a90*/ HGMMA.64x64x8.F32.TF32 R24, gdesc[UR4] ;", "HGMMA"),
        ("/*0a90*/ UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8] ;", "UTCHMMA"),
        ("/*0a90*/ FFMA R4, R8, R10, R4 ;", None),
    ],
)
def test_tensor_core_instructions_are_recognised(line, word):
    found = TENSOR_CORE.search(line)
    assert (found.group(0) if found else None) == word


def test_the_interpreter_and_wrong_sizes_are_the_users_mistakes():
    with pytest.raises(UserError, match="obs_dim and act_dim"):
        kernels(obs_dim=0)
    if not interpreter.ON_GPU:
        with pytest.raises(UserError, match="TRITON_INTERPRET"):
            kernels()
