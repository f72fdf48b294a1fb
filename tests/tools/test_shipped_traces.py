"""The golden traces that come with the package: what they are cut from, and that they still prove something."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from aspc_fast.engine.eager import EagerEngine
from aspc_fast.errors import UserError
from aspc_fast.registry import names
from aspc_fast.tools.trace import SHIPPED, read_trace, shipped_traces
from aspc_fast.tools.verify import verify
from tests import helpers
from tests.helpers import SHARED, cut_trace, needs_shared
from tests.references.authors import AUTHORS

MEGABYTE = 1_000_000
CUT_FROM = {
    "aspc_29x8_40steps.npz": ("aspc_lf4_d29x8_b64_n120.mini.npz", 40),
    "td3bc_17x6_20steps.npz": ("td3bc_d17x6.mini.npz", 20),
}


RECORDED = sorted(f"{algo}_7x3_20steps.npz" for algo in AUTHORS)


def test_there_is_a_small_one_of_every_algorithm_that_others_have():
    assert {path.name for path in shipped_traces()} == {*CUT_FROM, *RECORDED}
    assert sum(path.stat().st_size for path in shipped_traces()) < 2 * MEGABYTE
    others = ("aspc", "td3bc", "wpc", "iql", "rebrac", "a2pr", "rapo", "cql")  # all but bc, which nobody published
    assert all(algo in names() and shipped_traces([algo]) for algo in others)


@pytest.mark.parametrize("name", RECORDED)
def test_they_are_of_the_settings_that_the_recorder_has(name):
    """And tell of whose code, by its digest."""
    meta = json.loads(str(np.load(SHIPPED / name)["meta_json"]))
    author = AUTHORS[meta["algo"]]
    assert {key: meta["hp"][key] for key in author.hp} == author.hp
    assert {key: meta[key] for key in author.meta} == author.meta
    assert len(meta["source_sha256"]) == 64 and meta["source"] == "tests/references/authors"


def test_they_are_enough_where_nothing_lies_beside_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(helpers, "SHARED", tmp_path / "shared")
    assert helpers.golden_traces() == shipped_traces(["aspc", "td3bc"])


@pytest.mark.parametrize("name", [*CUT_FROM, *RECORDED])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_eager_matches_the_authors(name, dtype):
    checks = verify(read_trace(SHIPPED / name), dtype)
    assert len(checks) >= 7
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


@needs_shared
@pytest.mark.parametrize("name", CUT_FROM)
def test_they_are_the_first_steps_of_the_long_ones(name, tmp_path):
    path = SHIPPED / name
    source, steps = CUT_FROM[name]
    shipped, anew = read_trace(path), read_trace(cut_trace(SHARED / "traces" / source, tmp_path / name, steps))
    long = read_trace(SHARED / "traces" / source)
    assert shipped.arrays.keys() == anew.arrays.keys()
    for key, array in shipped.arrays.items():
        np.testing.assert_array_equal(array, anew.arrays[key])
        whole = long.arrays[key]  # initial weights, which the cut one draws from the seed, are there in full
        np.testing.assert_array_equal(array, whole if key.startswith("init/") else whole[:steps])


def test_the_second_meta_step_sees_a_wrong_mean_of_q():
    """A single meta step would not: the mean of Q starts at 0."""

    class Forgetful(EagerEngine):
        def step(self, batch):
            self.state.ema_q.zero_()
            return super().step(batch)

    (path,) = shipped_traces(["aspc"])
    failed = [c.quantity for c in verify(read_trace(path), torch.float64, Forgetful) if not c.passed]
    assert "ema_q" in failed


@pytest.mark.parametrize(("field", "value"), [("init_seed", 13), ("init_sha256", "0" * 64)])
def test_other_initial_weights_are_one_sentence(tmp_path, field, value):
    arrays = dict(np.load(SHIPPED / "td3bc_17x6_20steps.npz"))
    meta = json.loads(str(arrays["meta_json"])) | {field: value}
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": np.array(json.dumps(meta))}))
    with pytest.raises(UserError, match="draws other initial weights from seed"):
        read_trace(tmp_path / "t.npz")
