"""Which engine ``auto`` stands for."""

from __future__ import annotations

import shutil

import pytest

from aspc_fast.engine import select
from aspc_fast.engine.select import WORTH_BUILDING, WORTH_COMPILING, resolve_engine
from aspc_fast.errors import UserError


def test_a_cpu_takes_native_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "works_here", lambda: True)
    assert resolve_engine("auto", "cpu", WORTH_BUILDING) == "native"
    assert resolve_engine("auto", "cpu", WORTH_BUILDING - 1) == "eager"
    assert resolve_engine("auto", "cuda", WORTH_BUILDING) == "compiled"


def test_a_cpu_compiles_only_where_there_is_much_work_and_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "works_here", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    assert resolve_engine("auto", "cpu", WORTH_COMPILING) == "compiled"
    assert resolve_engine("auto", "cpu", WORTH_COMPILING - 1) == "eager"
    assert resolve_engine("auto", "cuda:1", 1) == "compiled"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert resolve_engine("auto", "cpu", 10 * WORTH_COMPILING) == "eager"
    assert resolve_engine("fused", "cpu", 1) == "fused"


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="auto, eager, compiled, native, fused"):
        resolve_engine("fast", "cpu", 1)
