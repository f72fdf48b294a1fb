"""Every engine's work on a CUDA device that is not there: see device.py for what that finds."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from aspc_fast import reference
from aspc_fast.agent.step import update
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.engine.base import Learners, graph_steps
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.replay import Replay
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import record_trace, toy_data
from tests.pretend.device import CUDA, Capture, Stream, pretend_cuda
from tests.pretend.populations import CASES, build, move

pytest.importorskip("triton")
from aspc_fast.engine import fused, trial
from aspc_fast.engine.fused import FusedEngine
from aspc_fast.engine.fused_program import LAUNCHES
from aspc_fast.engine.fused_tiles import candidates

cases = pytest.mark.parametrize("case", CASES)
TILES = candidates(39)  # the larger set: both shapes and what is tried besides


def fused_engine(learners: Learners, tiles: str) -> FusedEngine:
    return FusedEngine(learners, tiles=TILES[tiles])


@cases
def test_eager_steps_need_nothing_of_the_host(case):
    made = build(**CASES[case])
    with pretend_cuda() as pretend:
        learners = spec, state, hyper, replay = move(pretend, made)
        steps = state.step + torch.arange(1, 3, device=CUDA)
        for parts in {spec.parts(step) for step in range(1, spec.period + 1)}:
            with pretend.capturing(Capture()):
                drawn = replay.draw(spec, hyper, steps)
                batch = replay.gather(spec, *(values[1] for values in drawn))
                metrics = update(spec, state, hyper, batch, parts)
            assert {tuple(m.shape) for m in metrics.values()} == {(state.runs,)}
        EagerEngine(learners).advance(spec.period, MetricMeans())


@cases
def test_compiled_captures_a_period_with_its_sampling(case):
    made = build(**CASES[case])
    with pretend_cuda() as pretend:
        engine = CompiledEngine(move(pretend, made))
        steps = graph_steps(engine.spec)
        engine.advance(1, MetricMeans())  # then to the end of a graph's steps one by one, two graphs, one step
        engine.advance(3 * steps, MetricMeans())
        assert engine.compiles
        (graph,) = pretend.graphs
        assert graph.replays == 2
        assert graph.capture.launches["gather_kernel"] == steps
        assert not graph.capture.launches["aten::__rshift__"]  # no Philox by single operations
    assert engine._done == 1 + 3 * steps


@pytest.mark.parametrize(
    ("case", "tiles"),
    [*((next(iter(CASES)), tiles) for tiles in TILES), *((c, t) for c in list(CASES)[1:] for t in LAUNCHES)],
)
def test_fused_launches_are_legal_in_every_shape(case, tiles):
    made = build(**CASES[case])
    with pretend_cuda() as pretend:
        engine = fused_engine(move(pretend, made), tiles)
        engine.advance(1, MetricMeans())
        engine.advance(2 * graph_steps(engine.spec), MetricMeans())
        assert sum(graph.replays for graph in pretend.graphs) >= 3
        if tiles in LAUNCHES and engine.spec.shapes.robust:
            for kind, count in LAUNCHES[tiles].items():
                with pretend.capturing(Capture()) as capture:
                    for launch in engine.program.launches(kind):
                        launch.call()
                assert capture.total == count


@pytest.mark.parametrize("name", [n for n in trial.candidates(39, 90, "tf32") if "branches" in n])
def test_branches_wait_for_what_was_before_and_are_waited_for(name):
    made = build(runs=18)
    with pretend_cuda() as pretend:
        learners = move(pretend, made)
        before = len(Stream.made)
        engine = trial.candidates(18, 90, "tf32")[name](learners)
        streams, Stream.main.waited_for = Stream.made[before:], []
        steps = graph_steps(engine.spec)
        engine.advance(2 * steps, MetricMeans())
        assert len(pretend.graphs) == (2 if "halves" in name else 4)  # one for each group
        assert {graph.replays for graph in pretend.graphs} == {2}
        assert len({graph.capture.total for graph in pretend.graphs}) == 1
    assert [stream.waited_for[0] for stream in streams] == [Stream.main] * 2
    assert Stream.main.waited_for[-2:] == streams


@pytest.mark.parametrize("tiles", ["latency", "throughput"])
@cases
def test_fused_steps_on_given_batches(case, tiles):
    made = build(**CASES[case])
    with pretend_cuda() as pretend:
        engine = fused_engine(move(pretend, made), tiles)
        rows, noise = engine.replay.draw(engine.spec, engine.hyper, torch.ones(1, dtype=torch.int64, device=CUDA))
        batch = engine.replay.gather(engine.spec, rows[0], noise[0])
        for stage in (*fused.STAGES, None):
            metrics = engine.step(batch, stop_after=stage)
            assert all(value.device == CUDA for value in metrics.values())
        assert engine.sample().noise.device == CUDA


@pytest.mark.parametrize("store_next", [True, False])
def test_a_replay_store_is_built_on_the_device(store_next):
    made = build(runs=2)
    data = [toy_data(600, 5, 2), toy_data(600, 9, 3)]
    normalisers = [Normaliser.of(d.observations, 1e-3) for d in data]
    with pretend_cuda():
        replay = Replay(data, normalisers, [0, 1], made.spec, CUDA, store_next=store_next)
        found = {name: t.device for name, t in vars(replay).items() if isinstance(t, torch.Tensor)}
        assert set(found.values()) == {CUDA}
        assert {"buffer", "columns", "lengths", "extra"} <= set(found)
        assert next(replay.sample(made.spec, move_hyper(made), 1, 2)).observations.device == CUDA


def move_hyper(made: Learners):
    return made.hyper.to(CUDA, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("engine", ["eager", "compiled", "fused"])
def test_verify_works_there(engine, dtype, tmp_path):
    trace = read_trace(record_trace(tmp_path / "t.npz", reference.Config(alpha_freq=1), steps=3))
    makes = {
        "eager": EagerEngine,
        "compiled": CompiledEngine,
        "fused": partial(FusedEngine, tiles=TILES["latency"], precision="fp32"),
    }
    devices = set()

    def make(learners):
        devices.add(learners.state.device)
        return makes[engine](learners)

    with pretend_cuda() as pretend:
        checks = verify(trace, dtype, make, str(CUDA), steps=2)
        assert bool(pretend.kernels) == (engine == "fused")
    assert devices == {CUDA}
    assert len(checks) >= 20
