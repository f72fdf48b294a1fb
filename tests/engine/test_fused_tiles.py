"""The choice of tiles: by name, by rule, measured and remembered. Time is a fake here, the launches are real."""

import json
from dataclasses import replace

import pytest
import torch

from tests.kernels import interpreter  # noqa: F401  (first: sets the interpreter)

# isort: split
from aspc_fast.engine import fused_tiles
from aspc_fast.engine.fused import FusedEngine
from aspc_fast.engine.fused_tiles import (
    VARIABLE,
    cache_file,
    candidates,
    choose,
    cuda_seconds,
    find_tiles,
    make_key,
    measured,
    recall,
    remember,
    rule,
    tuned,
)
from aspc_fast.errors import UserError
from aspc_fast.kernels.problem import TILES, Tiles, fit, tiles_of
from tests.engine.test_fused import population, small
from tests.kernels.interpreter import ON_GPU

OPTIONS = {"small": Tiles(rows=16), "large": Tiles(rows=64), "odd": Tiles(rows=32)}
KEY = {"gpu": "Some GPU", "runs": 4}


def test_the_fastest_is_chosen_and_what_does_not_run_is_left_out():
    def measure(tiles):
        if tiles.rows == 32:
            raise RuntimeError("out of resource: shared memory")
        return 1.0 / tiles.rows

    assert choose(OPTIONS, measure) == ("large", {"small": 1 / 16, "large": 1 / 64})
    assert choose(OPTIONS, lambda tiles: tiles.rows)[0] == "small"


def test_if_none_runs_the_error_is_shown():
    def measure(tiles):
        raise RuntimeError(f"no {tiles.rows}")

    with pytest.raises(RuntimeError, match="no 32"):
        choose(OPTIONS, measure)


def test_a_choice_is_remembered_and_read_again(tmp_path):
    folder = tmp_path / "a" / "b"
    assert recall(folder, KEY, OPTIONS) is None
    remember(folder, KEY, "large", OPTIONS["large"], {"small": 2.0, "large": 1.0})
    assert recall(folder, KEY, OPTIONS) == "large"
    assert recall(folder, KEY | {"runs": 8}, OPTIONS) is None
    assert recall(folder, KEY, {"small": OPTIONS["small"]}) is None  # no longer a candidate
    assert recall(folder, KEY, OPTIONS | {"large": Tiles(rows=64, stages=2)}) is None  # the name means something else
    assert [path.name for path in folder.iterdir()] == [cache_file(folder, KEY).name]  # nothing temporary is left


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"key": KEY}), "\x00\xff"])
def test_a_damaged_cache_is_ignored_with_one_sentence(tmp_path, text):
    cache_file(tmp_path, KEY).write_text(text, encoding="latin-1")
    with pytest.warns(UserWarning, match="not a readable choice of tiles") as seen:
        assert recall(tmp_path, KEY, OPTIONS) is None
    assert len(seen) == 1
    remember(tmp_path, KEY, "odd", OPTIONS["odd"], {"odd": 1.0})
    assert recall(tmp_path, KEY, OPTIONS) == "odd"


def test_an_unwritable_folder_is_only_a_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be remembered") as seen:
        remember(tmp_path / "file" / "tiles", KEY, "odd", OPTIONS["odd"], {"odd": 1.0})
    assert len(seen) == 1
    assert recall(tmp_path / "file" / "tiles", KEY, OPTIONS) is None


def test_what_a_choice_depends_on():
    spec, *_ = population([small()])
    base = make_key("Some GPU", spec, 39, "tf32")
    assert make_key("Some GPU", spec, 64, "tf32") == base
    others = [
        make_key("Other GPU", spec, 39, "tf32"),
        make_key("Some GPU", spec, 65, "tf32"),
        make_key("Some GPU", spec, 39, "bf16"),
        make_key("Some GPU", replace(spec, config=replace(spec.config, batch_size=128)), 39, "tf32"),
        make_key("Some GPU", replace(spec, dims=spec.dims._replace(obs=45)), 39, "tf32"),
    ]
    assert len({cache_file(fused_tiles.cache_folder(), key) for key in [base, *others]}) == 6


class FakeTimer:
    """Makes the launches, and says that the last candidate was the fastest."""

    def __init__(self):
        self.launches = []

    def __call__(self, launches):
        for launch in launches:
            launch.call()
        self.launches.append(len(launches))
        return 1.0 / len(self.launches)


def test_tuning_trains_a_copy_once_and_leaves_the_state(tmp_path, monkeypatch, capsys):
    learners = _, state, *_ = population([small(), small(alpha=0.5)])
    monkeypatch.setattr(fused_tiles, "candidates", lambda runs, capability: dict(TILES))
    before, copies, clone = state.clone(), [], type(state).clone
    monkeypatch.setattr(type(state), "clone", lambda self: copies.append(clone(self)) or copies[-1])
    timer = FakeTimer()
    options = {"gpu": "Some GPU", "timer": timer, "folder": tmp_path}
    assert tuned(learners, "fp32", **options) == "throughput"
    assert "timing 2 tile shapes on Some GPU" in capsys.readouterr().err
    assert timer.launches == [4 + 7 + 4 + 9] * 2  # one period of four steps each, passes counted
    for name, tensor in before.tensors().items():
        assert torch.equal(getattr(state, name), tensor), name
        if name != "step":  # the copies did train, and both shapes alike
            assert not torch.equal(getattr(copies[0], name), tensor), name
            torch.testing.assert_close(getattr(copies[0], name), getattr(copies[1], name), rtol=1e-6, atol=1e-6)
    assert [int(copy.step) for copy in copies] == [4, 4]
    assert tuned(learners, "fp32", **options) == "throughput"  # from the cache
    assert len(timer.launches) == 2
    assert not capsys.readouterr().err


def test_names_rule_and_variable(monkeypatch):
    learners = spec, _, _, replay = population([small()])
    monkeypatch.setattr(fused_tiles, "tuned", lambda *a, **k: pytest.fail("must not measure"))

    def found(wanted=None, data=None):
        return find_tiles(wanted, learners._replace(replay=data), "fp32")

    monkeypatch.delenv(VARIABLE, raising=False)
    own = Tiles(rows=32, stages=1)
    assert found(own) == ("given", own)
    assert found("throughput") == ("throughput", fit(TILES["throughput"], spec))
    assert found() == found("rule") == found("rule", replay) == ("latency", fit(TILES["latency"], spec))
    monkeypatch.setenv(VARIABLE, "throughput")
    assert found()[0] == "throughput"
    assert found("latency")[0] == "latency"
    assert FusedEngine(learners).tiles == "throughput"
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(UserError, match="one of tuned, rule, latency, throughput, got 'fast'"):
        found()
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
    assert (tiles_of("throughput", 90).rows, tiles_of("throughput", 100).rows) == (64, 32)


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a CUDA device")
def test_a_gpu_measures_every_candidate(tmp_path):
    learners = spec, state, *_ = population([small(hidden_dim=256, batch_size=256)] * 3)
    before = state.clone()
    options = {name: fit(tiles, spec) for name, tiles in candidates(4).items()}
    name, seconds = choose(options, measured(learners, "tf32", cuda_seconds))
    assert set(seconds) == set(options)
    assert name in options
    assert all(s > 0 for s in seconds.values())
    for field, tensor in before.tensors().items():
        assert torch.equal(getattr(state, field), tensor), field
