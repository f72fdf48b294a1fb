"""The choice of tiles: by name, by rule, or by the trial of engines on a pretended GPU."""

import pytest
import torch

from tests.kernels import interpreter  # noqa: F401  (first: sets the interpreter)

# isort: split
from aspc_fast.engine import trial
from aspc_fast.engine.fused import FusedEngine
from aspc_fast.engine.fused_tiles import VARIABLE, candidates, find_tiles, rule
from aspc_fast.engine.select import make_engine
from aspc_fast.errors import UserError
from aspc_fast.kernels.problem import TILES, Tiles, fit, tiles_of
from tests.engine.test_fused import population, small
from tests.kernels.interpreter import ON_GPU
from tests.pretend.device import pretend_cuda
from tests.pretend.populations import build, move


def test_names_rule_and_variable(monkeypatch):
    learners = population([small()])
    spec = learners.spec

    def found(wanted=None):
        return find_tiles(wanted, learners)

    monkeypatch.delenv(VARIABLE, raising=False)
    own = Tiles(rows=32, stages=1)
    assert found(own) == ("given", own)
    assert found("throughput") == ("throughput", fit(TILES["throughput"], spec))
    assert found("latency, paired") == ("latency, paired", fit(Tiles(paired=True), spec))
    assert found() == found("rule") == ("latency", fit(TILES["latency"], spec))
    monkeypatch.setenv(VARIABLE, "throughput")
    assert found()[0] == "throughput"
    assert found("latency")[0] == "latency"
    assert FusedEngine(learners).tiles == "throughput"
    monkeypatch.setenv(VARIABLE, "latency, 32 rows")
    assert found()[1] == fit(Tiles(rows=32), spec)
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(UserError, match=rf"{VARIABLE} must be one of tuned, rule, latency, throughput, .*, got 'fast'"):
        found()
    with pytest.raises(UserError, match=r"tiles must be one of latency, throughput, latency, 32 rows, .*, got 'fast'"):
        found("fast")
    assert [rule(runs) for runs in (1, 15, 16, 195)] == ["latency", "latency", "throughput", "throughput"]


def test_candidates_hold_both_shapes_where_many_runs_are():
    assert set(TILES) <= set(candidates(39))
    assert set(candidates(1)) < set(candidates(39))
    assert len(set(candidates(39).values())) == len(candidates(39))
    assert all(tiles.chain > 1 for tiles in candidates(1).values())
    for capability in (80, 90, 100):
        options = candidates(39, capability)
        assert options["throughput"] == tiles_of("throughput", capability)
        assert len(set(options.values())) == len(candidates(39))
    cases = ((90, "3.6.0", 64), (90, "3.7.1", 32), (90, "3.8.0", 64), (90, "3.9.0", 64), (100, "3.9.0", 32))
    for capability, compiler, rows in cases:
        assert tiles_of("throughput", capability, compiler).rows == rows


def outcomes(times):
    return tuple(trial.Outcome(name, "right", 1.0, time) for name, time in times.items())


@pytest.mark.parametrize(
    ("times", "name"),
    [
        ({"eager": 1.0, "fused, latency": 9.0, "fused, latency, 32 rows": 8.0}, "latency, 32 rows"),
        ({"eager": 1.0}, None),  # none is right: the rule's
    ],
)
def test_on_a_gpu_the_trial_of_tiles_alone_decides(monkeypatch, times, name):
    asked = []

    def find(learners, precision, *, key, options):
        asked.append((precision, key, list(options)))
        return trial.Found(dict(key), outcomes(times), min(times, key=times.__getitem__))

    monkeypatch.setattr(trial, "find", find)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Pretended")
    made = build(runs=3)
    with pretend_cuda() as pretend:
        assert trial.fastest_tiles(move(pretend, made), "fp32") == name
    ((precision, key, options),) = asked
    assert (precision, key["tiles_only"]) == ("fp32", True)
    assert sorted(options) == sorted(f"fused, {tiles}" for tiles in candidates(3))


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a CUDA device")
def test_a_gpu_tries_tiles_and_leaves_the_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    learners = _, state, *_ = population([small(hidden_dim=256, batch_size=256)] * 3)
    before = state.clone()
    monkeypatch.setenv(VARIABLE, "tuned")
    assert make_engine("fused", learners).tiles in candidates(3)
    for field, tensor in before.tensors().items():
        assert torch.equal(getattr(state, field), tensor), field
