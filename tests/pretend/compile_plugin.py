"""Compile, without a GPU, every kernel that the tests for a GPU would launch: a pytest plugin, not part of the suite.

python -m pytest -p tests.pretend.compile_plugin tests/kernels tests/engine/test_fused.py [--capability 90] [--jobs 2]

The tests run as on a GPU, but their launches are recorded instead of made: what they say of numbers counts for nothing.
At the end each distinct kernel (function, constants, types, alignment, options) is compiled. What does not compile, or
wants more shared memory than the GPU has, is a failure, and the exit code is theirs; spills are only counted, since the
tests' odd tiles are no design of ours.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import types
from typing import Any

import pytest
import torch

if os.environ.get("TRITON_INTERPRET"):
    raise pytest.UsageError("unset TRITON_INTERPRET: what is interpreted cannot be compiled")
as_on_a_gpu = types.ModuleType("tests.kernels.interpreter")
as_on_a_gpu.ON_GPU, as_on_a_gpu.DEVICE, as_on_a_gpu.DTYPES = True, "cpu", [torch.float32]  # type: ignore[attr-defined]
sys.modules["tests.kernels.interpreter"] = as_on_a_gpu
os.environ["ASPC_FAST_TILES"] = "rule"

from triton.runtime.jit import JITFunction  # noqa: E402

from aspc_fast.engine import fused  # noqa: E402
from aspc_fast.tools.kernel_compiler import Recorded, compile_for  # noqa: E402

SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # what one program may have
LAUNCHES: dict[Any, Recorded] = {}


def _record(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    options = {k: v for k, v in kwargs.items() if k not in self.arg_names}
    arguments = dict(zip(self.arg_names, args, strict=False)) | {k: v for k, v in kwargs.items() if k not in options}
    key = (self.__name__, *(_kind(p, arguments[p.name]) for p in self.params), tuple(sorted(options.items())))
    LAUNCHES.setdefault(key, Recorded(self.__name__, self, arguments, options))


def _kind(parameter: Any, value: Any) -> Any:
    """What of an argument makes another program."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.data_ptr() % 16 == 0
    return value if parameter.is_constexpr else (value == 1, value % 16 == 0)


def _compile(task: tuple[Any, int]) -> tuple[str | None, bool]:
    """What is wrong with one, and whether it spills."""
    key, capability = task
    launch = LAUNCHES[key]
    try:
        report = compile_for(launch, capability)
    except Exception as error:
        return f"{launch.name}: {type(error).__name__}: {str(error)[:300]}", False
    too_much = report.shared > SHARED_BYTES[capability]
    return f"{launch.name}: {report.shared} bytes of shared memory" if too_much else None, report.stack > 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--capability", type=int, default=90, help="compute capability to compile for")
    parser.addoption("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once")


def pytest_configure(config: pytest.Config) -> None:
    JITFunction.run = _record
    fused._check = lambda *_: None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """No numbers were made: a test that fails says nothing."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and report.when == "call":
        report.outcome = "passed"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    capability, jobs = session.config.getoption("capability"), session.config.getoption("jobs")
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        found = pool.map(_compile, [(key, capability) for key in LAUNCHES], chunksize=1)
    failures = [text for text, _ in found if text is not None]
    spills = sum(spilled for _, spilled in found)
    by_name: dict[str, int] = {}
    for launch in LAUNCHES.values():
        by_name[launch.name] = by_name.get(launch.name, 0) + 1
    print(
        f"\n{len(LAUNCHES)} kernels compiled for sm_{capability}, {len(failures)} failures, {spills} spill: {by_name}"
    )
    print(*failures, sep="\n")
    session.exitstatus = 1 if failures or not LAUNCHES else 0
