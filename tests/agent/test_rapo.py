"""RAPO equals the authors' program, in every setting; its hyper-gradients are what autograd gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aspc_fast.config import AgentConfig
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.errors import UserError
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.agent.engines import assert_compiled_equals_eager, assert_padding_is_inert
from tests.helpers import SHARED, needs_shared, toy_data
from tests.references import rapo as reference
from tests.references.record import record_trace

VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {"meta_interval": 4},
    "original AMO": {"meta_interval": 4, "bootstrap_loss": "l1_l2_rms", "critic_target": "bootstrap"},
    "fixed B": {
        "meta_interval": 4,
        "alpha_B": 1.0,
        "freeze_scale_B": True,
        "critic_depth": 3,
        "critic_layernorm": True,
    },
    "fixed E": {"meta_interval": 4, "freeze_scale_E": True, "alpha_lr": 0.1},
    "l1": {"meta_interval": 2, "bootstrap_loss": "l1", "actor_depth": 3},
    "l2": {"meta_interval": 2, "bootstrap_loss": "l2", "alpha_E": 0.5, "actor_lr": 1e-3, "critic_lr": 1e-4},
    "odd intervals": {"meta_interval": 4, "policy_freq": 3, "smoothness_eps": 1e-2, "tau": 0.1, "discount": 0.9},
    "E by its other name": {"meta_interval": 4, "critic_target": "execution", "critic_layernorm": True, "ln_eps": 1e-3},
    "every step": {"meta_interval": 1, "policy_freq": 1, "alpha_lr": 0.5},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_other_settings_equal_the_reference(tmp_path: Path, settings: dict[str, Any]) -> None:
    checks = verify(read_trace(record_trace(tmp_path / "t.npz", "rapo", reference.Config(**settings, hidden_dim=16))))
    frozen = sum(2 * settings.get(f"freeze_scale_{scale}", False) for scale in "EB")
    assert len(checks) == 15 - frozen + 9  # outputs, networks and scales
    assert not [check for check in checks if not check.passed]


@pytest.mark.parametrize(
    "settings",
    [
        *({"alpha_lr": 1.1e-3}, {"meta_interval": 6}, {"bootstrap_loss": "l2"}, {"critic_target": "bootstrap"}),
        *({"freeze_scale_E": True}, {"freeze_scale_B": True}, {"smoothness_eps": 1e-3}, {"actor_lr": 2.9e-4}),
    ],
    ids=str,
)
def test_a_changed_setting_does_not_pass(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The weights, batches and outputs of one run with the settings of another."""
    small = {"hidden_dim": 16, "meta_interval": 4}
    arrays = dict(np.load(record_trace(tmp_path / "t.npz", "rapo", reference.Config(**small))))
    other = np.load(record_trace(tmp_path / "o.npz", "rapo", reference.Config(**(small | settings))))
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": other["meta_json"]}))
    assert [check for check in verify(read_trace(tmp_path / "t.npz")) if not check.passed]


def test_other_methods_of_the_authors_program_are_refused(tmp_path: Path) -> None:
    arrays = dict(np.load(record_trace(tmp_path / "t.npz", "rapo")))
    meta = json.loads(str(arrays["meta_json"]))
    meta["hp"]["execution_only"] = True
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": np.array(json.dumps(meta))}))
    with pytest.raises(UserError, match="execution_only"):
        read_trace(tmp_path / "t.npz")


@needs_shared
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_authors_recording(dtype: torch.dtype) -> None:
    checks = verify(read_trace(SHARED / "rivals" / "rapo_d11x3_tinit5.mini.npz"), dtype)
    assert len(checks) >= 24
    assert not [check for check in checks if not check.passed]


SMALL = {"hidden_dim": 16, "batch_size": 8, "meta_interval": 4, "policy_noise": 0.5}


@pytest.mark.parametrize("loss", ["l2_rms", "l1_l2_rms"])
def test_a_run_does_not_depend_on_its_population(loss: str) -> None:
    common = {"algo": "rapo", "bootstrap_loss": loss, "critic_target": "bootstrap", **SMALL}
    first = AgentConfig(**common, alpha=0.5, alpha_lr=0.1, actor_lr=1e-3)
    assert_padding_is_inert(first, AgentConfig(**common, alpha_bootstrap=2.0, tau=0.05))


def test_compiled_equals_eager() -> None:
    assert_compiled_equals_eager(AgentConfig(algo="rapo", **SMALL), backend="eager")


def test_both_actors_begin_alike_and_part() -> None:
    made = build_population([toy_data()], [RunSpec(0, AgentConfig(algo="rapo", **SMALL, alpha_bootstrap=1.0), 3)])
    assert torch.equal(made.state.actor, made.state.bootstrap)
    made.engine.advance(4, MetricMeans())
    assert not torch.equal(made.state.actor, made.state.bootstrap)
