"""The fused engine against golden traces, and stage by stage against eager; without a GPU in Triton's interpreter."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.kernels import interpreter  # noqa: F401  (first: sets the interpreter)

# isort: split
from aspc_fast import reference
from aspc_fast.agent.state import inverse_softplus
from aspc_fast.config import AgentConfig
from aspc_fast.engine import fused, fused_program
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.fused import STAGES, FusedEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.split import SplitEngine
from aspc_fast.errors import UserError
from aspc_fast.kernels import gather
from aspc_fast.kernels.problem import TILES, Tiles
from aspc_fast.kernels.target import td_target_twin
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.engine import support
from tests.engine.support import VARIANTS, assert_padded_run_equals_alone, assert_states_agree, eager_stages, trace_of
from tests.helpers import golden_traces, record_trace
from tests.kernels.interpreter import DEVICE, DTYPES, ON_GPU

DTYPE = DTYPES[-1]
IS_DOUBLE = torch.float64 in DTYPES
TOLERANCE = 1e-9 if IS_DOUBLE else 1e-4


both_shapes = pytest.mark.parametrize("tiles", TILES)
LARGE = Tiles(32, depth=32, weight_rows=256, weight_cols=256, actor_weight_cols=256, weight_depth=256)  # quick there
DESIGNS = {**{name: name for name in TILES}, "latency, paired": replace(LARGE, paired=True)}
all_designs = pytest.mark.parametrize("tiles", DESIGNS.values(), ids=list(DESIGNS))


def ieee(tiles="latency"):
    """A factory of the engine without tf32."""
    return partial(FusedEngine, precision="fp32", tiles=tiles)


def population(configs, sizes=((5, 2), (3, 1), (9, 4)), seeds=None):
    """On this machine's device, in the most exact type that it checks."""
    return support.population(configs, DTYPE, sizes, seeds, device=DEVICE)


def small(**changes):
    return AgentConfig(**dict(hidden_dim=32, batch_size=20, alpha_freq=2) | changes)


@both_shapes
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "variant 1"])
def test_trace_of_the_reference(tmp_path, variant, tiles):
    checks = verify(trace_of(tmp_path, variant), DTYPE, ieee(tiles), DEVICE)
    assert len(checks) >= 13
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


def test_float32_trace_of_the_reference(tmp_path):
    path = record_trace(tmp_path / "t.npz", reference.Config(alpha_freq=1), steps=4)
    checks = verify(read_trace(path), torch.float32, ieee(), DEVICE)
    assert len(checks) >= 13
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


GOLDEN_STEPS = {  # in the interpreter; a GPU replays all
    "aspc_29x8_40steps": 4,
    "td3bc_17x6_20steps": 4,
    "aspc_lf4_d11x3_b256_n200.mini": 20,
}


GOLDEN = [(path, tiles) for path in golden_traces() if path.stem in GOLDEN_STEPS for tiles in TILES]


@pytest.mark.parametrize(
    ("path", "tiles"),  # a whole period of the full size in one shape only
    [(path, tiles) for path, tiles in GOLDEN if ON_GPU or tiles == "throughput" or GOLDEN_STEPS[path.stem] < 20],
    ids=lambda value: getattr(value, "stem", value),
)
def test_golden_traces_at_reduced_length(path, tiles):
    steps = None if ON_GPU else GOLDEN_STEPS[path.stem]
    checks = verify(read_trace(path), DTYPE, ieee(tiles), DEVICE, steps)
    assert {"critic_loss", "actor_loss"} <= {c.quantity.split(",")[0] for c in checks}
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


@all_designs
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_leaves_what_eager_leaves(stage, tiles):
    learners = spec, state, hyper, replay = population([small(), small(alpha=0.7)])
    eager_state = state.clone()
    engine = FusedEngine(learners, precision="fp32", tiles=tiles)
    for s in (state, eager_state):
        s.step.fill_(spec.period - 1)  # the step to come has all stages
    engine.restored()
    (batch,) = replay.sample(spec, hyper, spec.period, 1)
    metrics = engine.step(batch, stop_after=stage)
    expected = eager_stages(spec, eager_state, hyper, batch, STAGES.index(stage))
    assert_states_agree(state, eager_state, TOLERANCE)
    for name, value in metrics.items():
        if name != "alpha_after":
            torch.testing.assert_close(value, expected.pop(name), rtol=TOLERANCE, atol=TOLERANCE, msg=name)
    if "y" in expected:
        torch.testing.assert_close(td_target_twin(engine.program.work, hyper), expected.pop("y"))
    assert not expected


def test_sampling_is_that_of_the_replay_store():
    learners = spec, _, hyper, replay = population([small(), small()])
    engine = FusedEngine(learners)
    (expected,) = replay.sample(spec, hyper, 1, 1)
    for found, wanted in zip(engine.sample(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14 if IS_DOUBLE else 1e-6)


@all_designs
def test_advance_equals_eager(tiles):
    configs = [small(alpha=1.0), small(loss_function=2)]
    learners = _, state, *_ = population(configs)
    eager = EagerEngine(learners._replace(state=state.clone()))
    engine = FusedEngine(learners, precision="fp32", tiles=tiles)
    found, expected = MetricMeans(), MetricMeans()
    for steps in (1, 3):  # to the end of a period
        engine.advance(steps, found)
        eager.advance(steps, expected)
    assert_states_agree(state, eager.state, TOLERANCE)
    means, wanted = found.take(), expected.take()
    assert means.keys() == wanted.keys()
    for name, values in wanted.items():
        assert means[name] == pytest.approx(values, rel=1e-6 if IS_DOUBLE else 1e-3, abs=1e-7), name


def test_a_run_does_not_depend_on_its_neighbours():
    config = small(alpha_freq=1)
    learners = _, state, *_ = population([config, config])
    FusedEngine(learners, precision="fp32").advance(2, MetricMeans())
    alone = population([config], sizes=((3, 1),), seeds=[1])
    alone.hyper.max_action.fill_(1.5)
    FusedEngine(alone, precision="fp32").advance(2, MetricMeans())
    assert (state.rho != inverse_softplus(config.alpha)).all()
    assert_padded_run_equals_alone(learners, alone, TOLERANCE)


def test_groups_of_runs_train_as_the_whole_population_bit_for_bit():
    configs = [small(hidden_dim=16, batch_size=8, alpha=alpha) for alpha in (1.0, 2.5, 0.5)]
    learners = spec, state, hyper, replay = population(configs)
    whole = FusedEngine(learners._replace(state=state.clone()), precision="fp32", tiles="latency")
    apart = SplitEngine(ieee("latency"), learners, groups=2, branches=2)
    found, expected = MetricMeans(), MetricMeans()
    for steps in (1, 1):
        apart.advance(steps, found)
        whole.advance(steps, expected)
    assert [part.state.runs for part in apart._parts] == [1, 2]
    assert_states_agree(state, whole.state, 0)
    assert found.take() == expected.take()
    for engine in (apart, whole):  # a checkpoint of another step is read
        engine.state.step.fill_(spec.period - 1)
        engine.restored()
    (batch,) = replay.sample(spec, hyper, spec.period, 1)
    metrics, wanted = apart.step(batch), whole.step(batch)
    assert {"alpha_grad", "critic_loss"} <= metrics.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(metrics[name], value), name
    assert int(state.step) == spec.period


@all_designs
def test_launches_per_step(monkeypatch, tiles):
    """Counted where a kernel is launched, not where the program lists it."""
    learners = _, state, *_ = population([small()])
    engine = FusedEngine(learners, tiles=tiles)
    counts = []
    kernel_type = type(gather.gather_kernel)
    if ON_GPU:
        run = kernel_type.run
        monkeypatch.setattr(kernel_type, "run", lambda self, *a, **k: (counts.append(1), run(self, *a, **k))[1])
    else:
        launch = kernel_type.__getitem__
        monkeypatch.setattr(kernel_type, "__getitem__", lambda self, grid: (counts.append(1), launch(self, grid))[1])
    per_step = {}
    for kind in ("critic", "actor", "meta"):
        counts.clear()
        state.step.fill_({"critic": 0, "actor": 1, "meta": 3}[kind])
        for each in engine.program.launches(kind):
            each.call()
        per_step[kind] = len(counts)
    expected = {"latency": {"critic": 4, "actor": 7, "meta": 9}, "throughput": {"critic": 9, "actor": 16, "meta": 23}}
    shape = "latency" if isinstance(tiles, Tiles) else tiles  # the paired design has as many launches, cut elsewhere
    assert per_step == expected[shape] == fused_program.LAUNCHES[shape]


def test_unknown_stage_and_unfit_populations_are_the_users_mistakes():
    learners = spec, _, hyper, replay = population([small()])
    with pytest.raises(UserError, match="stop_after"):
        FusedEngine(learners).step(next(replay.sample(spec, hyper, 1, 1)), "alpha")
    learners = population([small(hidden_dim=48)])
    with pytest.raises(UserError, match="hidden_dim a power of two from 16 to 512, got 48"):
        FusedEngine(learners)


SCRIPT = """
import sys
{before}
import torch
from aspc_fast.agent.state import RunShape, init_state, make_hyper, make_spec
from aspc_fast.config import AgentConfig
from aspc_fast.engine.base import Learners
from aspc_fast.engine.fused import FusedEngine
from aspc_fast.errors import UserError
config, run = AgentConfig(hidden_dim=16), RunShape(3, 1)
spec = make_spec([config], [run])
makes = (init_state, make_hyper)
learners = Learners(spec, *(make(spec, [config], [run], [0], torch.float32) for make in makes))
try:
    FusedEngine(learners)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("", "needs a CUDA device, got cpu"),
        ("sys.modules['triton'] = None", "needs the package triton"),
        ("import os, triton; os.environ['TRITON_INTERPRET'] = '1'", "set it before the start"),
    ],
)
def test_where_it_cannot_work_it_says_so(before, message):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = SCRIPT.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=900, check=True
    )
    assert message in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a CUDA device")
@both_shapes
@pytest.mark.parametrize("precision", ["tf32", "fp32", "bf16"])
def test_graphs_replay_what_single_launches_do(precision, tiles):
    learners = _, state, *_ = population([small(), small(alpha=0.5)])
    options = {"precision": precision, "tiles": tiles}
    first, second = FusedEngine(learners, **options), state.clone()
    other = FusedEngine(learners._replace(state=second), **options)
    other._uses_graphs = False
    for engine in (first, other):
        engine.advance(3, MetricMeans())
        engine.advance(fused.MAX_GRAPH_STEPS, MetricMeans())
    assert_states_agree(second, state, 0)
