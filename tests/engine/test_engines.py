"""Every engine runs the same mathematics: compiled and run-by-run against eager."""

import dataclasses
import warnings

import pytest
import torch
import torch._inductor.config

from aspc_fast import reference
from aspc_fast.agent.state import Batch, Hyper
from aspc_fast.agent.step import run_part
from aspc_fast.config import AgentConfig
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.engine import compiled as compiled_module
from aspc_fast.engine.base import Learners
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.replay import Replay
from aspc_fast.engine.split import SplitEngine
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import record_trace, toy_data

CONFIG = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=2)


def population(runs: int = 3, dtype: torch.dtype = torch.float64):
    datasets = [toy_data(), toy_data(rows=300, obs_dim=7, act_dim=3, seed=1)]
    return build_population(datasets[:runs], [RunSpec(i % 2, CONFIG, i) for i in range(runs)], dtype=dtype)


def lockstep(made):
    """The population's engine with all runs in one batched program, as on a GPU."""
    datasets = [r.dataset for r in made.runs]
    replay = Replay(made.datasets, made.normalisers, datasets, made.spec, dtype=made.state.rho.dtype)
    return EagerEngine(Learners(made.spec, made.state, made.engine.hyper, replay))


def test_run_by_run_equals_lockstep():
    split, batched = population(), population()
    assert isinstance(split.engine, SplitEngine)
    engine = lockstep(batched)
    means = [MetricMeans(), MetricMeans()]
    for _ in range(2):
        split.engine.advance(7, means[0])
        engine.advance(7, means[1])
    for name, tensor in batched.state.tensors().items():
        torch.testing.assert_close(getattr(split.state, name), tensor, rtol=1e-10, atol=1e-12)
    left, right = means[0].take(), means[1].take()
    assert left.keys() == right.keys()
    for name, values in left.items():
        assert values == pytest.approx(right[name], rel=1e-9, abs=1e-12)


def test_a_run_of_a_population_equals_the_run_alone():
    together, alone = population(dtype=torch.float32), population(1, dtype=torch.float32)
    for made in (together, alone):
        made.engine.advance(20, MetricMeans())
    wide, narrow = together.policy(0).weights, alone.policy(0).weights
    torch.testing.assert_close(wide, narrow, rtol=1e-4, atol=1e-6)


def test_metric_means_count_each_metric_over_the_steps_that_had_it():
    means = MetricMeans()
    means.add({"a": torch.tensor([1.0, 2.0])})
    means.add({"a": torch.tensor([3.0, 2.0]), "b": torch.tensor([5.0, 7.0])})
    saved = MetricMeans()
    saved.load_json(means.to_json(), "cpu")
    for one in (means, saved):
        assert one.take() == {"a": [2.0, 2.0], "b": [5.0, 7.0]}
        assert one.take() == {}


@pytest.mark.slow
def test_compiled_engine_proves_itself_on_a_trace(tmp_path):
    """fullgraph=True: a graph break would raise, and the engine fall back with a warning, which is an error here."""
    path = record_trace(tmp_path / "t.npz", reference.Config(alpha_freq=2), steps=8)
    used = []

    def make(learners):
        used.append(CompiledEngine(learners))
        return used[-1]

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="torch.compile does not work")
        checks = verify(read_trace(path), torch.float64, make)
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]
    assert used[0].compiles
    refuses_other_layouts(used[0])


def refuses_other_layouts(engine):
    """There are no guards: a layout that the key left out by mistake must be an error before anything is changed."""
    before, spec = engine.state.clone(), engine.spec
    d, a, rows = spec.shapes.obs_dim, spec.shapes.act_dim, spec.config.batch_size
    whole = Batch(*(torch.zeros(1, rows, *width, dtype=torch.float64) for width in ((d,), (a,), (), (d,), (), (a,))))
    narrow = Batch(*(t[:, :-1].contiguous() for t in whole))
    turned = whole._replace(observations=whole.observations.mT.contiguous().mT)
    for program in list(engine._parts.values()):
        for other in (narrow, turned):
            with pytest.raises(AssertionError, match=r"expected (size|stride)"):
                program(*other)
    assert all(torch.equal(t, getattr(engine.state, name)) for name, t in before.tensors().items())


def test_a_machine_without_a_compiler_goes_on_eagerly(monkeypatch):
    def broken(key):
        def run(state, hyper, *batch):
            run_part(
                key.spec, state, hyper, type_of(batch), key.part, key.first
            )  # half a step, then the compiler gives up
            raise RuntimeError("no compiler here")

        return run

    def type_of(batch):
        from aspc_fast.agent.state import Batch

        return Batch(*batch)

    monkeypatch.setattr(compiled_module, "_compiled", broken)
    eager, fallen = population(1), population(1)
    replay = Replay([toy_data()], [Normaliser.of(toy_data().observations, 1e-3)], [0], fallen.spec, dtype=torch.float64)
    engine = CompiledEngine(Learners(fallen.spec, fallen.state, fallen.engine.hyper, replay))
    with pytest.warns(UserWarning, match="no compiler here") as warned:
        engine.advance(9, MetricMeans())
    assert len(warned) == 1
    eager.engine.advance(9, MetricMeans())
    assert all(torch.equal(t, getattr(fallen.state, name)) for name, t in eager.state.tensors().items())


def test_many_populations_of_different_dimensions_stay_compiled_in_one_process(quick_compiler):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="torch.compile does not work")
        for obs_dim in range(3, 12):  # more than Dynamo's limit of recompilations of one code object
            data = toy_data(obs_dim=obs_dim)
            made = build_population([data], [RunSpec(0, CONFIG, 0)], engine="compiled")
            made.engine.advance(4, MetricMeans())
            assert made.engine.compiles
    info = compiled_module._compiled.cache_info()
    assert info.misses == 3 * 9
    assert info.currsize <= info.maxsize == compiled_module.PROGRAMS_KEPT


def test_a_program_that_dynamo_refuses_later_goes_on_eagerly(quick_compiler, monkeypatch):
    monkeypatch.setattr(compiled_module, "UNGUARDED", {})  # as on CUDA: on a CPU there is no guard that could fail
    compiled_module._compiled.cache_clear()
    made, plain = (build_population([toy_data()], [RunSpec(0, CONFIG, 0)], engine=e) for e in ("compiled", "eager"))
    made.engine.advance(4, MetricMeans())
    compiled_module._compiled.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # one of the guards that Dynamo adds by itself
    try:
        with torch._dynamo.config.patch(recompile_limit=1), pytest.warns(UserWarning, match="going on uncompiled"):
            made.engine.advance(4, MetricMeans())
    finally:
        torch.set_num_threads(threads)
    plain.engine.advance(8, MetricMeans())
    assert not made.engine.compiles
    torch.testing.assert_close(made.state.actor, plain.state.actor, rtol=1e-4, atol=1e-6)


def test_programs_without_guards_are_for_one_layout_of_their_tensors(quick_compiler):
    """Batches of several layouts in turn, then state and hyper-parameters of another one: never the wrong program."""
    runs = [RunSpec(0, CONFIG, 0), RunSpec(0, dataclasses.replace(CONFIG, discount=0.5), 1)]
    made, plain = (build_population([toy_data()], runs, engine=e) for e in ("compiled", "eager"))
    first, eager = made.engine._parts[0], plain.engine._parts[0]
    (batch,) = eager.replay.sample(first.spec, first.hyper, 1, 1)
    dense = Batch(*(t.contiguous() for t in batch))
    turned = batch._replace(noise=batch.noise.mT.contiguous().mT)
    narrow = Batch(*(t[:, :-1] for t in batch))
    for one in (batch, dense, turned, narrow) * 2:
        first.step(one)
        eager.step(one)
    assert compiled_module._compiled.cache_info().misses == 6  # critics of each, and what every 2nd and 4th step adds
    made.engine._parts[1].step(batch)  # the other run of the population: the same programs with its own tensors
    plain.engine._parts[1].step(batch)
    assert compiled_module._compiled.cache_info().misses == 6
    hyper = Hyper(**{name: t.expand(2, *t.shape[1:])[:1] for name, t in first.hyper.tensors().items()})
    far = CompiledEngine(Learners(first.spec, first.state, hyper))
    far.step(batch)
    eager.step(batch)
    assert compiled_module._compiled.cache_info().misses == 7
    assert first.compiles and far.compiles
    for name, tensor in plain.state.tensors().items():
        torch.testing.assert_close(getattr(made.state, name), tensor, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("device", "pinned"), [("cuda:0", True), ("cpu", False)])
def test_nothing_is_chosen_by_timing_on_cuda(monkeypatch, device, pinned):
    """What is timed may be chosen otherwise in another process: a resume there would not be bit for bit."""
    given = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: given.append(options) or function)
    made = build_population([toy_data()], [RunSpec(0, CONFIG, 0)])
    key = compiled_module.ProgramKey(made.spec, "critics", True, 1, torch.float32, device)
    compiled_module._compiled.__wrapped__(key)
    assert given[0]["options"] == (compiled_module.PINNED if pinned else compiled_module.UNGUARDED)
    with torch._inductor.config.patch(compiled_module.PINNED):  # raises for a name that this torch does not know
        assert torch._inductor.config.deterministic
        assert not torch._inductor.config.shape_padding
