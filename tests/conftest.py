"""Fixtures of several rooms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from aspc_fast.engine import compiled as compiled_module


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile with Dynamo as it is, its guards and limits, but without generating code."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend="eager", **options))
    torch._dynamo.reset()
    compiled_module._compiled.cache_clear()
    yield
    compiled_module._compiled.cache_clear()
