"""Running out of the device's memory, as one sentence: what was planned, and what to lower."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from aspc_fast.data.checks import physical_memory
from aspc_fast.errors import UserError
from aspc_fast.run.plan import MemoryPlan, gib

# torch has a type for a full GPU only; a CPU's allocator speaks through RuntimeError
_CPU_WORDS = ("can't allocate memory", "not enough memory", "DefaultCPUAllocator")


def check_host(where: str, device: str, plan: MemoryPlan, advice: str) -> None:
    """UserError if ``plan`` is more than all the memory of a machine that trains on its CPU.

    A GPU says itself that it is full; a machine would swap, or have the process killed without a word.
    """
    need, there = plan.total_bytes - plan.copy_bytes, physical_memory()
    if device == "cpu" and need > there:
        raise UserError(f"{where}: the run needs {gib(need)}, but this machine has {gib(there)} of memory; {advice}")


@contextlib.contextmanager
def memory_named(where: str, plan: MemoryPlan, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error of the device into a UserError that shows ``plan`` and gives ``advice``."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        exhausted = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not exhausted and not any(word in str(error) for word in _CPU_WORDS):
            raise
        parts = f"datasets {gib(plan.dataset_bytes)}, learning state {gib(plan.state_bytes)}"
        raise UserError(
            f"{where}: the device ran out of memory; {plan.runs} run(s) are planned to take {gib(plan.total_bytes)}"
            f" ({parts}, activations {gib(plan.activation_bytes)}); {advice}; what is in the folder is intact"
        ) from None
