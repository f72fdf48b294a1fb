"""RAPO: what its recordings may hold, and its two actors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aspc_fast.config import AgentConfig
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.errors import UserError
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.tools.trace import read_trace
from tests.helpers import toy_data
from tests.references.record import record_trace


def test_other_methods_of_the_authors_program_are_refused(tmp_path: Path) -> None:
    arrays = dict(np.load(record_trace(tmp_path / "t.npz", "rapo")))
    meta = json.loads(str(arrays["meta_json"]))
    meta["hp"]["execution_only"] = True
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": np.array(json.dumps(meta))}))
    with pytest.raises(UserError, match="execution_only"):
        read_trace(tmp_path / "t.npz")


SMALL = {"hidden_dim": 16, "batch_size": 8, "meta_interval": 4, "policy_noise": 0.5}


def test_both_actors_begin_alike_and_part() -> None:
    made = build_population([toy_data()], [RunSpec(0, AgentConfig(algo="rapo", **SMALL, alpha_bootstrap=1.0), 3)])
    assert torch.equal(made.state.actor, made.state.bootstrap)
    made.engine.advance(4, MetricMeans())
    assert not torch.equal(made.state.actor, made.state.bootstrap)
