"""Every rival equals its authors' recordings and, in other settings, its plain PyTorch reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import Check, verify
from tests.helpers import SHARED, needs_shared
from tests.references.record import record_trace
from tests.references.traces import module

SMALL = {  # what every recording below has, whatever else it changes
    "a2pr": {"hidden_dim": 16, "vae_hidden_dim": 24},
    "cql": {"hidden_dim": 16, "cql_n_actions": 4},
    "iql": {"hidden_dim": 16},
    "rapo": {"hidden_dim": 16, "meta_interval": 4},
    "rebrac": {"hidden_dim": 16},
    "wpc": {"hidden_dim": 16},
}
SHAPES: dict[str, dict[str, Any]] = {"a2pr": {"max_action": 1.5, "act_dim": 3}, "cql": {"max_action": 1.5, "steps": 12}}
VARIANTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a2pr", {}, {}),
    ("a2pr", {"mask": 0.4, "vae_weight": 1.5, "discount": 0.995, "alpha": 40.0}, {}),
    ("a2pr", {"policy_freq": 3, "tau": 0.1, "policy_noise": 0.7, "noise_clip": 0.3}, {}),
    ("a2pr", {"policy_freq": 1, "actor_lr": 1e-3, "critic_lr": 2e-3, "value_lr": 3e-3, "vae_lr": 4e-3}, {}),
    ("cql", {}, {}),
    ("cql", {"cql_lagrange": True, "cql_max_target_backup": True, "cql_target_action_gap": 0.8}, {}),
    ("cql", {"cql_importance_sample": False, "backup_entropy": True, "cql_clip_diff_min": 2.6}, {}),
    ("cql", {"use_automatic_entropy_tuning": False, "alpha_multiplier": 0.3, "orthogonal_init": False}, {}),
    ("cql", {"backup_entropy": True, "cql_max_target_backup": True, "policy_lr": 1e-3, "qf_lr": 1e-4}, {}),
    ("cql", {"target_update_period": 3, "cql_temp": 0.5, "cql_alpha": 2.0, "q_n_hidden_layers": 2}, {}),
    ("cql", {"q_n_hidden_layers": 5, "second_critic_layers": 3, "cql_lagrange": True, "discount": 0.9}, {}),
    ("cql", {"q_n_hidden_layers": 2, "second_critic_layers": 3, "target_entropy": -0.5}, {}),
    ("cql", {"cql_clip_diff_max": 2.6, "soft_target_update_rate": 0.1, "policy_log_std_multiplier": 0.5}, {}),
    ("iql", {}, {}),
    ("iql", {"iql_deterministic": True, "tau": 0.001}, {"max_action": 1.5}),
    # past the schedule's end
    ("iql", {"iql_deterministic": True, "actor_dropout": 0.1, "max_timesteps": 10}, {"obs_dim": 9, "act_dim": 1}),
    ("iql", {"iql_deterministic": True, "actor_dropout": 0.6}, {}),
    ("iql", {"actor_dropout": 0.1, "iql_tau": 0.9, "beta": 10.0}, {"act_dim": 4}),  # without effect on a Gaussian
    ("iql", {"exp_adv_max": 1.0, "log_std_max": -0.001}, {"max_action": 0.4}),
    ("iql", {"vf_lr": 1e-3, "qf_lr": 2e-3, "actor_lr": 5e-4, "discount": 0.9, "max_timesteps": 24}, {}),
    ("rapo", {}, {}),
    ("rapo", {"bootstrap_loss": "l1_l2_rms", "critic_target": "bootstrap"}, {}),  # the original AMO
    ("rapo", {"alpha_B": 1.0, "freeze_scale_B": True, "critic_depth": 3, "critic_layernorm": True}, {}),
    ("rapo", {"freeze_scale_E": True, "alpha_lr": 0.1}, {}),
    ("rapo", {"meta_interval": 2, "bootstrap_loss": "l1", "actor_depth": 3}, {}),
    ("rapo", {"meta_interval": 2, "bootstrap_loss": "l2", "alpha_E": 0.5, "actor_lr": 1e-3, "critic_lr": 1e-4}, {}),
    ("rapo", {"policy_freq": 3, "smoothness_eps": 1e-2, "tau": 0.1, "discount": 0.9}, {}),
    ("rapo", {"critic_target": "execution", "critic_layernorm": True, "ln_eps": 1e-3}, {}),
    ("rapo", {"meta_interval": 1, "policy_freq": 1, "alpha_lr": 0.5}, {}),
    ("rebrac", {"critic_bc_coef": 0.05, "actor_bc_coef": 0.3}, {}),
    ("rebrac", {"actor_ln": True, "normalize_q": False, "policy_freq": 3, "layernorm_eps": 1e-3}, {}),
    ("rebrac", {"critic_ln": False, "critic_n_hiddens": 2, "actor_n_hiddens": 2, "critic_bc_coef": 0.0}, {}),
    ("rebrac", {"actor_n_hiddens": 1, "critic_n_hiddens": 4, "policy_freq": 1, "policy_noise": 0.7, "tau": 0.1}, {}),
    ("rebrac", {"gamma": 0.999, "actor_learning_rate": 3e-4, "critic_learning_rate": 5e-5, "noise_clip": 0.3}, {}),
    ("wpc", {}, {}),
    ("wpc", {"robust_critic": False, "policy_freq": 3, "alpha": 1.5}, {"max_action": 1.5}),
    ("wpc", {"policy_noise": 0.5, "noise_clip": 0.2, "policy_freq": 1, "lr": 1e-3}, {"obs_dim": 9, "act_dim": 4}),
    ("wpc", {"discount": 0.9, "tau": 0.05}, {"obs_dim": 1, "act_dim": 1, "max_action": 0.4}),
]
CHANGED: dict[str, list[dict[str, Any]]] = {
    "cql": [
        *({"policy_lr": 3.1e-5}, {"cql_alpha": 9.9}, {"cql_temp": 1.01}, {"backup_entropy": True}),
        *({"cql_lagrange": True}, {"cql_importance_sample": False}, {"target_update_period": 2}),
        {"target_entropy": -2.1},
    ],
    "iql": [
        *({"iql_tau": 0.71}, {"beta": 3.1}, {"tau": 0.006}, {"max_timesteps": 1000}, {"vf_lr": 4e-4}),
        {"log_std_max": -0.1},
    ],
    "rapo": [
        *({"alpha_lr": 1.1e-3}, {"meta_interval": 6}, {"bootstrap_loss": "l2"}, {"critic_target": "bootstrap"}),
        *({"freeze_scale_E": True}, {"freeze_scale_B": True}, {"smoothness_eps": 1e-3}, {"actor_lr": 2.9e-4}),
    ],
    "wpc": [
        *({"alpha": 2.475}, {"discount": 0.98}, {"tau": 0.00495}, {"policy_noise": 0.198}, {"noise_clip": 0.495}),
        {"policy_freq": 3},
    ],
}


def record(path: Path, algo: str, settings: dict[str, Any], **shape: Any) -> Path:
    config = module(algo).Config(**(SMALL[algo] | settings))
    return record_trace(path, algo, config, **(SHAPES.get(algo, {}) | shape))


def failed(checks: list[Check]) -> list[tuple[str, float]]:
    return [(check.quantity, check.deviation) for check in checks if not check.passed]


def outputs_of(path: Path) -> set[str]:
    return {name.rpartition("/")[-1] for name in np.load(path).files if name.startswith("f64/out/")}


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("path", sorted((SHARED / "rivals").glob("*.npz")), ids=lambda path: path.stem)
def test_the_authors_recordings(path: Path, dtype: torch.dtype) -> None:
    checks = verify(read_trace(path), dtype, steps=None if dtype == torch.float64 else 30)
    assert {check.quantity.split(",")[0] for check in checks} >= outputs_of(path)
    assert not failed(checks)


@pytest.mark.parametrize(("algo", "settings", "shape"), VARIANTS, ids=str)
def test_other_settings_equal_the_reference(
    tmp_path: Path, algo: str, settings: dict[str, Any], shape: dict[str, Any]
) -> None:
    path = record(tmp_path / "t.npz", algo, settings, **shape)
    checks = verify(read_trace(path))
    trainer = module(algo).Trainer
    found = {check.quantity for check in checks}
    assert found >= outputs_of(path)
    assert sum(name.startswith("final ") for name in found) == len({*trainer.initial, *trainer.derived})
    assert not failed(checks)


@pytest.mark.parametrize(("algo", "changes"), [(a, change) for a, each in CHANGED.items() for change in each], ids=str)
def test_a_changed_setting_does_not_pass(tmp_path: Path, algo: str, changes: dict[str, Any]) -> None:
    """The weights, batches and outputs of one run with the settings of another."""
    arrays = dict(np.load(record(tmp_path / "t.npz", algo, {}, steps=12)))
    other = np.load(record(tmp_path / "o.npz", algo, changes, steps=12))
    np.savez(tmp_path / "t.npz", **(arrays | {"meta_json": other["meta_json"]}))
    assert failed(verify(read_trace(tmp_path / "t.npz")))
