"""The native engine against golden traces and against eager: by stage, over periods, padded, resumed, in crews."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
import torch

from aspc_fast.agent.state import AgentState, inverse_softplus
from aspc_fast.agent.td3bc import move_targets
from aspc_fast.config import AgentConfig
from aspc_fast.engine import native, native_build, native_check
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.native import NativeEngine
from aspc_fast.engine.native_build import NativeUnavailable
from aspc_fast.errors import UserError
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.engine import support
from tests.engine.support import VARIANTS, assert_padded_run_equals_alone, assert_states_agree, eager_stages, trace_of
from tests.helpers import SHARED, needs_shared

needs_compiler = pytest.mark.skipif(native_build.compiler() is None, reason="no C++ compiler (g++ or clang++) here")
both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}

SIZES = ((5, 2), (3, 1), (40, 18))


def small(**changes):
    return AgentConfig(**dict(hidden_dim=40, batch_size=20, alpha_freq=2) | changes)


def population(configs, dtype=torch.float64, sizes=SIZES, seeds=None, store_next=True):
    """Up to three runs, of which the last is much wider."""
    return support.population(configs, dtype, sizes, seeds, store_next)


@needs_compiler
@both_types
@pytest.mark.parametrize("variant", VARIANTS)
def test_trace_of_the_reference(tmp_path, variant, dtype):
    checks = verify(trace_of(tmp_path, variant), dtype, NativeEngine)
    assert len(checks) >= (4 if "td3bc" in variant else 13)
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


@needs_compiler
@needs_shared
@pytest.mark.parametrize("name", ["aspc_lf4_d11x3_b256_n200.mini.npz", "aspc_lf4_d29x8_b64_n120.mini.npz"])
def test_golden_traces(name):
    checks = verify(read_trace(SHARED / "traces" / name), torch.float64, NativeEngine)
    assert {"critic_loss", "actor_loss"} <= {c.quantity.split(",")[0] for c in checks}
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


@needs_compiler
@both_types
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["critic", "actor", "meta"])
def test_every_stage_leaves_what_eager_leaves(kind, threads, dtype):
    """Kinds of steps end after a stage each; what a stage hands on shows in the next one's metrics."""
    configs = [small(policy_freq=1, alpha_freq=2)] if kind != "critic" else [small()]
    learners = spec, state, hyper, replay = population(configs, dtype)
    state.step.fill_({"critic": spec.config.policy_freq, "actor": 2, "meta": 1}[kind])
    expected = state.clone()
    engine = NativeEngine(learners, threads=threads)
    (batch,) = replay.sample(spec, hyper, 7, 1)
    found = engine.step(batch)

    wanted = eager_stages(spec, expected, hyper, batch, {"critic": 2, "actor": 3, "meta": 4}[kind])
    del wanted["y"]
    if kind != "critic":
        move_targets(expected, hyper)
        wanted["alpha_after"] = torch.nn.functional.softplus(expected.rho)
    assert_states_agree(state, expected, TOLERANCE[dtype])
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=10 * TOLERANCE[dtype], atol=1e-6 * TOLERANCE[dtype])


SHAPES = {
    "the paper's width": dict(hidden_dim=256, batch_size=64),
    "wider than a pass": dict(hidden_dim=300, batch_size=264),
    "one row": dict(hidden_dim=16, batch_size=1),
    "odd": dict(hidden_dim=33, batch_size=17),
    "plain critics": dict(critic="plain", hidden_dim=70),
}


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_advance_equals_eager(shape, threads):
    learners = _, state, *_ = population([small(**SHAPES[shape])], sizes=((40, 18),))
    eager = EagerEngine(learners._replace(state=state.clone()))
    engine = NativeEngine(learners, threads=threads)
    found, expected = MetricMeans(), MetricMeans()
    for steps in (1, 0, 3):
        engine.advance(steps, found)
        eager.advance(steps, expected)
    assert_states_agree(state, eager.state, 1e-9)
    means, wanted = found.take(), expected.take()
    assert list(means) == list(wanted)
    for name, values in wanted.items():
        assert means[name] == pytest.approx(values, rel=1e-6, abs=1e-12), name


@needs_compiler
@pytest.mark.parametrize("store_next", [True, False])
def test_runs_of_a_population_draw_and_train_as_eager_does(store_next, monkeypatch):
    monkeypatch.setattr(native, "SLICE", 3)
    configs = [small(), small(actor_lr=1e-3), small(alpha=0.7, loss_function=2)]
    learners = _, state, _, replay = population(configs, store_next=store_next)
    assert store_next or replay.extra.shape[-1]
    eager = EagerEngine(learners._replace(state=state.clone()))
    engine = NativeEngine(learners, threads=2)
    found, expected = MetricMeans(), MetricMeans()
    for one, means in ((engine, found), (eager, expected)):
        one.advance(8, means)
    assert_states_agree(state, eager.state, 1e-8)
    assert (state.rho[[0, 2]] != eager.state.rho.new_tensor([inverse_softplus(c.alpha) for c in configs])[[0, 2]]).all()
    means, wanted = found.take(), expected.take()
    for name, values in wanted.items():
        assert means[name] == pytest.approx(values, rel=1e-4, abs=1e-9), name


@needs_compiler
def test_results_depend_neither_on_threads_nor_on_cuts(monkeypatch):
    """Bit for bit: resumed from a copy of the state, in one or several calls, with any number of threads."""
    monkeypatch.setattr(native, "SLICE", 3)
    config = small(batch_size=64)
    learners = population([config, config], torch.float32)
    first = learners.state
    states = [first] + [first.clone() for _ in range(3)]
    engines = [NativeEngine(learners._replace(state=s), threads=n) for s, n in zip(states, (1, 2, 4, 8), strict=True)]
    for engine, cuts in zip(engines, ((8,), (7, 1), (1, 7), (8,)), strict=True):
        for steps in cuts:
            engine.advance(steps, MetricMeans())
    for state in states[1:]:
        assert_states_agree(state, first, 0)
    resumed = first.clone()
    engine = NativeEngine(learners._replace(state=resumed), threads=1)
    engine.advance(3, MetricMeans())
    resumed.copy_(first)
    engine.restored()
    for one in (engine, engines[0]):
        one.advance(5, MetricMeans())
    assert_states_agree(resumed, first, 0)


@needs_compiler
def test_a_padded_run_equals_the_run_alone():
    config = small()
    learners = spec, state, *_ = population([config] * 3)
    NativeEngine(learners, threads=2).advance(8, MetricMeans())
    alone = population([config], sizes=((3, 1),), seeds=[1])
    alone.hyper.max_action.fill_(1.5)
    NativeEngine(alone).advance(8, MetricMeans())
    assert_padded_run_equals_alone(learners, alone, 1e-10)
    padding = spec.shapes.critic_params(state.critic).hidden[0].w[1, :, 3:40]
    assert padding.shape[-2] == 37
    assert not padding.any()


@needs_compiler
def test_what_is_not_finite_shows():
    learners = spec, state, *_ = population([small()])
    spec.shapes.actor_params(state.actor).hidden[0].w.fill_(torch.nan)
    eager = EagerEngine(learners._replace(state=state.clone()))
    means = MetricMeans()
    NativeEngine(learners).advance(spec.period, means)
    eager.advance(spec.period, MetricMeans())
    for name, tensor in eager.state.tensors().items():
        assert torch.equal(getattr(state, name).isfinite(), tensor.isfinite()), name
    assert not state.actor.isfinite().all()
    assert means.take()["actor_loss"] == pytest.approx([float("nan")], nan_ok=True)


@needs_compiler
def test_unfit_populations_and_batches_are_the_users_mistakes():
    learners = spec, state, hyper, replay = population([small()])
    (batch,) = replay.sample(spec, hyper, 1, 1)
    with pytest.raises(UserError, match=r"batch.rewards must be \[1, 20\], got \[1, 19\]"):
        NativeEngine(learners).step(batch._replace(rewards=batch.rewards[:, :19]))
    half = AgentState(**{n: t.half() if t.is_floating_point() else t for n, t in state.tensors().items()})
    with pytest.raises(UserError, match="float32 or float64"):
        NativeEngine(learners._replace(state=half))


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache, and nothing remembered of earlier libraries."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for cached in (native_build.library, native_check.works_here):
        cached.cache_clear()
    yield tmp_path / "aspc_fast" / "native"
    for cached in (native_build.library, native_check.works_here):
        cached.cache_clear()


INSTRUCTIONS = {
    "AVX-512": (64, "avx512f", "skylake-avx512"),
    "AVX2": (32, "avx2", "haswell"),
    "SSE2": (16, "sse2", "x86-64"),
}


@needs_compiler
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_every_instruction_set_gives_what_eager_gives(fresh, monkeypatch, name):
    """Those that this processor has, whichever ``-march=native`` would take."""
    vector_bytes, flag, march = INSTRUCTIONS[name]
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists() or flag not in cpu.read_text().split():
        pytest.skip(f"this processor has no {name}")
    monkeypatch.setattr(native_build, "_machine_flags", lambda: (f"-march={march}", "-mprefer-vector-width=512"))
    assert native_build.library("double").aspc_vector_bytes() == vector_bytes
    learners = _, state, *_ = population([small(), small()])
    eager = EagerEngine(learners._replace(state=state.clone()))
    one, two = state, state.clone()
    for own, threads in ((one, 1), (two, 4)):
        NativeEngine(learners._replace(state=own), threads=threads).advance(8, MetricMeans())
    eager.advance(8, MetricMeans())
    assert_states_agree(one, eager.state, 1e-8)
    assert_states_agree(two, one, 0)


def test_without_a_compiler(fresh, monkeypatch, recwarn):
    monkeypatch.setattr(native_build.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler"):
        native_build.library("float")
    assert not native_check.works_here()
    assert not recwarn.list


@pytest.mark.skipif(os.name != "posix", reason="a compiler that is a shell script")
def test_a_compiler_that_fails(fresh, tmp_path, monkeypatch):
    script = tmp_path / "cxx"
    lines = (
        "#!/bin/sh",
        '[ "$1" = --version ] && echo 1 && exit 0',
        'echo "native.cpp:1: error: no" >&2',
        "exit 1",
        "",
    )
    script.write_text("\n".join(lines))
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    with pytest.raises(NativeUnavailable, match=r"does not compile here: native\.cpp:1: error"):
        native_build.library("float")
    assert not list(fresh.iterdir())
    with pytest.warns(UserWarning, match="going on without engine native") as warned:
        assert not native_check.works_here()
    assert len(warned) == 1


@needs_compiler
def test_the_cache_is_used_mended_and_bounded(fresh, monkeypatch):
    built = []
    build = native_build._build
    monkeypatch.setattr(native_build, "_build", lambda command, path: (built.append(path), build(command, path)))
    monkeypatch.setattr(native_build, "_load", lambda path: path)

    def again() -> Path:
        native_build.library.cache_clear()
        return native_build.library("float")

    path = again()
    assert built == [path]
    assert again() == path
    assert len(built) == 1
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # loading this would end the process
    again()
    assert len(built) == 2
    ctypes.CDLL(str(path))
    for i in range(native_build.KEPT + 3):
        other = fresh / f"{i}.so"
        other.write_bytes(b"")
        other.with_suffix(".sha256").write_text("")
        os.utime(other, (i, i))
    path.unlink()
    again()
    assert len(list(fresh.glob("*.so"))) == len(list(fresh.glob("*.sha256"))) == native_build.KEPT
    assert path.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders have no owner here")
@needs_compiler
def test_a_cache_that_others_may_write_is_not_loaded_from(fresh):
    fresh.mkdir(parents=True)
    fresh.chmod(0o777)
    with pytest.raises(NativeUnavailable, match="others may write there"):
        native_build.library("float")


@needs_compiler
def test_auto_leaves_a_library_that_disagrees(monkeypatch):
    native_check.works_here.cache_clear()
    monkeypatch.setattr(native_check, "AGREEMENT", 1e-12)
    monkeypatch.setattr(native_check, "FAST_VECTOR_BYTES", 0)
    with pytest.warns(UserWarning, match="disagrees with engine eager"):
        assert not native_check.works_here()
    native_check.works_here.cache_clear()


@needs_compiler
def test_threads_that_cannot_start_leave_nothing_waiting(monkeypatch):
    learners = _, state, *_ = population([small()])
    before = state.clone()
    engine = NativeEngine(learners, threads=4)
    start, started = native.threading.Thread.start, []

    def refuse(self):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(native.threading.Thread, "start", refuse)
    with pytest.raises(MemoryError, match="could not start 4 threads"):
        engine.advance(2, MetricMeans())
    assert not any(thread.is_alive() for thread in started)
    assert_states_agree(state, before, 0)
