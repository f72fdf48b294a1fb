"""CQL equals its authors' recording and, for other settings, its plain reference."""

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
from tests.agent.engines import assert_compiled_equals_eager, assert_padding_is_inert
from tests.helpers import SHARED, needs_shared, toy_data
from tests.references.cql import Config
from tests.references.record import record_trace

NARROW = {"cql_n_actions": 4, "hidden_dim": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "lagrange, best of K": {"cql_lagrange": True, "cql_max_target_backup": True, "cql_target_action_gap": 0.8},
    "no importance": {"cql_importance_sample": False, "backup_entropy": True, "cql_clip_diff_min": 2.6},
    "fixed entropy": {"use_automatic_entropy_tuning": False, "alpha_multiplier": 0.3, "orthogonal_init": False},
    "best of K with entropy": {"backup_entropy": True, "cql_max_target_backup": True, "policy_lr": 1e-3, "qf_lr": 1e-4},
    "others": {"target_update_period": 3, "cql_temp": 0.5, "cql_alpha": 2.0, "q_n_hidden_layers": 2, "discount": 0.9},
    "a shallow second critic": {"q_n_hidden_layers": 5, "second_critic_layers": 3, "cql_lagrange": True},
    "a deep second critic": {"q_n_hidden_layers": 2, "second_critic_layers": 3, "target_entropy": -0.5},
    "upper bound": {"cql_clip_diff_max": 2.6, "soft_target_update_rate": 0.1, "policy_log_std_multiplier": 0.5},
}
SMALL = {"algo": "cql", "cql_actions": 3, "hidden_dim": 16, "batch_size": 8}


@needs_shared
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_authors_recording(dtype: torch.dtype) -> None:
    checks = verify(read_trace(SHARED / "rivals" / "cql_d11x3_mujoco.mini.npz"), dtype)
    assert len(checks) >= 26
    assert not [check for check in checks if not check.passed]


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_other_settings_equal_the_reference(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = record_trace(tmp_path / "t.npz", "cql", Config(**(NARROW | settings)), max_action=1.5, steps=12)
    checks = verify(read_trace(path))
    assert len(checks) == 26 + 5  # outputs and networks
    assert not [check for check in checks if not check.passed]


@pytest.mark.parametrize(
    "settings",
    [
        *({"policy_lr": 3.1e-5}, {"cql_alpha": 9.9}, {"cql_temp": 1.01}, {"backup_entropy": True}),
        *({"cql_lagrange": True}, {"cql_importance_sample": False}, {"target_update_period": 2}),
        {"target_entropy": -2.1},
    ],
    ids=str,
)
def test_a_changed_setting_does_not_pass(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The weights, batches and outputs of one run with the settings of another."""
    arrays = dict(np.load(record_trace(tmp_path / "t.npz", "cql", Config(**NARROW), steps=6)))
    other = np.load(record_trace(tmp_path / "o.npz", "cql", Config(**(NARROW | settings)), steps=6))
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": other["meta_json"]}))
    assert [check for check in verify(read_trace(tmp_path / "t.npz")) if not check.passed]


def test_a_recording_with_cloning_first_is_refused(tmp_path: Path) -> None:
    arrays = dict(np.load(record_trace(tmp_path / "t.npz", "cql", Config(**NARROW), steps=2)))
    meta = json.loads(str(arrays["meta_json"]))
    meta["hp"]["bc_steps"] = 5
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": np.array(json.dumps(meta))}))
    with pytest.raises(UserError, match="bc_steps"):
        read_trace(tmp_path / "t.npz")


@pytest.mark.parametrize("lagrange", [False, True])
def test_a_run_does_not_depend_on_its_population(lagrange: bool) -> None:
    common: dict[str, Any] = {"lagrange": lagrange, "max_target_backup": lagrange, **SMALL}
    assert_padding_is_inert(AgentConfig(**common, actor_lr=1e-3), AgentConfig(**common, cql_temp=0.5, cql_gap=2.0))


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


def test_compiled_equals_eager() -> None:
    shallow = {"target_update_period": 2, "critic_depth": 3, "second_critic_depth": 2}
    assert_compiled_equals_eager(AgentConfig(**SMALL, **shallow), backend="eager")
    assert_compiled_equals_eager(AgentConfig(**SMALL, target_update_period=2, lagrange=True), backend="eager")


@pytest.mark.parametrize("shape", [(14, 64), (64, 64), (64, 1)])
def test_orthogonal_weights_are_orthonormal(shape: tuple[int, int]) -> None:
    matrix = orthogonal(3, 100, *shape).double()
    square = matrix @ matrix.T if shape[0] < shape[1] else matrix.T @ matrix
    torch.testing.assert_close(square, torch.eye(min(shape)).double(), rtol=0, atol=1e-5)
    assert not torch.equal(matrix, orthogonal(4, 100, *shape).double())
