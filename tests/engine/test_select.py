"""Which engine ``auto`` stands for."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path

import pytest
import torch

from aspc_fast.agent.state import AgentState
from aspc_fast.config import Precision
from aspc_fast.engine import select, trial, trial_memory
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.select import (
    MEASURED,
    WORTH_BUILDING,
    WORTH_COMPILING,
    WORTH_MEASURING,
    make_engine,
    resolve_engine,
)
from aspc_fast.engine.trial import Trial
from aspc_fast.errors import UserError
from aspc_fast.run.plan import TRIAL_COPIES
from tests.pretend.device import pretend_cuda
from tests.pretend.populations import build, move


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
    assert resolve_engine("auto", "cuda:1", WORTH_MEASURING - 1) == "compiled"
    assert resolve_engine("auto", "cuda:1", WORTH_MEASURING) == MEASURED
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert resolve_engine("auto", "cpu", 10 * WORTH_COMPILING) == "eager"
    assert resolve_engine("fused", "cpu", 1) == "fused"


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="auto, eager, compiled, native, fused"):
        resolve_engine("fast", "cpu", 1)


def test_a_measured_choice_needs_a_gpu() -> None:
    made = build(runs=1)
    with pytest.raises(UserError, match="needs a CUDA device and data, got cpu"):
        make_engine(MEASURED, made)


@pytest.mark.parametrize("precision", ["tf32", "fp32", "bf16"])
def test_the_users_precision_reaches_the_trial(monkeypatch: pytest.MonkeyPatch, precision: Precision) -> None:
    seen = []
    made = build(runs=2)
    with pretend_cuda() as pretend:
        learners = move(pretend, made)
        monkeypatch.setattr(trial, "make_measured", lambda *given: seen.append(given[-1]))
        make_engine(MEASURED, learners, precision)
    assert seen == [precision]


def test_a_measured_engine_is_built_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole way on the pretend device, where all numbers are equal: times decide, and they are the clock's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Pretended")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(Trial, "_deviation", lambda *_: (1.0, ""))
    monkeypatch.setattr(Trial, "_reference", lambda self: self._truth.append({}))
    monkeypatch.setattr(MetricMeans, "take", lambda self: {})
    monkeypatch.setattr(trial, "ROUNDS", 1)
    monkeypatch.setattr(trial, "BUDGET", 1e9)  # the clock is this machine's
    made, alive, most = build(runs=2), weakref.WeakSet(), [0]
    clone = AgentState.clone

    def counted(self: AgentState) -> AgentState:
        alive.add(copy := clone(self))
        most.append(len(alive))
        return copy

    monkeypatch.setattr(AgentState, "clone", counted)
    with pretend_cuda() as pretend:
        engine = make_engine(MEASURED, move(pretend, made))
        engine.advance(engine.spec.period, MetricMeans())
    assert max(most) == TRIAL_COPIES  # the memory plan counts on it
    (found,) = trial_memory.recall_all(tmp_path / "aspc_fast" / "engines")
    assert {o.name: o.verdict for o in found.outcomes if trial.base_of(o.name) is None} == dict.fromkeys(
        ("eager", "compiled", "fused, latency"), "right"
    )
    assert found.key["gpu"] == "Pretended"
    assert engine.name == found.chosen.split(",")[0]
