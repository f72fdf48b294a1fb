"""Fixtures of several rooms; no test fails by a clock or by chance, so hypothesis has neither."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from tests.kernels import interpreter  # noqa: F401  (before anything that imports triton)

# isort: split
from aspc_fast.engine import compiled as compiled_module

with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    settings.register_profile("patient", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile with Dynamo as it is, its guards and limits, but without generating code."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend="eager", **options))
    torch._dynamo.reset()
    compiled_module._compiled.cache_clear()
    yield
    compiled_module._compiled.cache_clear()
