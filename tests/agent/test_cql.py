"""CQL: what its recordings may hold, its second critic's depth, its initial weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aspc_fast.agent.cql import orthogonal
from aspc_fast.config import AgentConfig
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.errors import UserError
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import toy_data
from tests.references.cql import Config
from tests.references.record import record_trace

NARROW = {"cql_n_actions": 4, "hidden_dim": 16}
SMALL = {"algo": "cql", "cql_actions": 3, "hidden_dim": 16, "batch_size": 8}


def test_a_recording_with_cloning_first_is_refused(tmp_path: Path) -> None:
    arrays = dict(np.load(record_trace(tmp_path / "t.npz", "cql", Config(**NARROW), steps=2)))
    meta = json.loads(str(arrays["meta_json"]))
    meta["hp"]["bc_steps"] = 5
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": np.array(json.dumps(meta))}))
    with pytest.raises(UserError, match="bc_steps"):
        read_trace(tmp_path / "t.npz")


def test_layers_that_the_second_critic_lacks_stay_identities() -> None:
    config = AgentConfig(**SMALL, critic_depth=4, second_critic_depth=2)
    made = build_population([toy_data()], [RunSpec(0, config, 3)])
    before = made.state.clone()
    made.engine.advance(4, MetricMeans())
    net, layout = made.spec.nets["critic"], made.spec.layouts["critic"]
    for flat in (made.state.critic, made.state.critic_target):
        for tensor in net.spare(layout, flat[0, 1], 1):
            assert torch.equal(tensor, torch.eye(16) if tensor.ndim == 2 else torch.zeros(16))
    assert not net.spare(layout, made.state.critic[0, 0], 0)
    for number, name in enumerate(layout.names):
        (old, _), (new, learnt) = (layout.views(state.critic[0])[number] for state in (before, made.state))
        assert not torch.equal(old, new), name
        assert learnt.isfinite().all()


@pytest.mark.parametrize("infinite", ["inf", float("inf")])
def test_infinite_bounds_are_no_bounds(tmp_path: Path, infinite: Any) -> None:
    arrays = dict(np.load(record_trace(tmp_path / "t.npz", "cql", Config(**NARROW), steps=2)))
    meta = json.loads(str(arrays["meta_json"]))
    meta["hp"]["cql_clip_diff_max"] = infinite
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": np.array(json.dumps(meta))}))
    assert all(check.passed for check in verify(read_trace(tmp_path / "t.npz")))


@pytest.mark.parametrize("shape", [(14, 64), (64, 64), (64, 1)])
def test_orthogonal_weights_are_orthonormal(shape: tuple[int, int]) -> None:
    matrix = orthogonal(3, 100, *shape).double()
    square = matrix @ matrix.T if shape[0] < shape[1] else matrix.T @ matrix
    torch.testing.assert_close(square, torch.eye(min(shape)).double(), rtol=0, atol=1e-5)
    assert not torch.equal(matrix, orthogonal(4, 100, *shape).double())
