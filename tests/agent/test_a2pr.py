"""A2PR: our update against the plain reference and its authors' recording, padded and compiled."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from aspc_fast.agent.a2pr import LOG_STD_RANGE
from aspc_fast.agent.networks import mlp_forward
from aspc_fast.config import AgentConfig
from aspc_fast.engine import compiled as compiled_module
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.agent.lockstep import assert_compiled_equals_eager, assert_padded_equals_solo
from tests.helpers import SHARED, needs_shared
from tests.references import a2pr
from tests.references.record import record_trace

SMALL: dict[str, Any] = {"algo": "a2pr", "hidden_dim": 16, "vae_hidden_dim": 24, "batch_size": 16}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"mask": 0.4, "vae_weight": 1.5, "discount": 0.995, "alpha": 40.0},
    {"policy_freq": 3, "tau": 0.1, "policy_noise": 0.7, "noise_clip": 0.3},
    {"policy_freq": 1, "actor_lr": 1e-3, "critic_lr": 2e-3, "value_lr": 3e-3, "vae_lr": 4e-3},
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_our_update_equals_the_plain_reference(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = a2pr.Config(hidden_dim=16, vae_hidden_dim=24, **settings)
    trace = read_trace(record_trace(tmp_path / "t.npz", "a2pr", config, max_action=1.5, act_dim=3))
    checks = verify(trace, torch.float64)
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]
    compared = {c.quantity for c in checks}
    assert {"recon_chosen_frac", "bc_on_frac", "final vae (14 tensors)", "final critic_target (20 tensors)"} <= compared


def test_the_latents_clamp_is_the_references(tmp_path: Path) -> None:
    """Weights so large that the log standard deviation leaves its bounds, where it has no gradient."""
    config = a2pr.Config(hidden_dim=16, vae_hidden_dim=24)
    trace = read_trace(record_trace(tmp_path / "t.npz", "a2pr", config, gain=5.0))
    state, batch = trace.initial_state(trace.spec, torch.float64), trace.batch(0, torch.float64)
    encoder = state.params(trace.spec, "encoder")
    log_std = mlp_forward(encoder, torch.cat((batch.observations, batch.actions), -1))[0].chunk(2, -1)[1]
    assert 0.05 < (log_std < LOG_STD_RANGE[0]).double().mean() < 0.95
    checks = verify(trace, torch.float64)
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


@needs_shared
@pytest.mark.slow
def test_our_update_equals_the_authors_recording() -> None:
    path = SHARED / "rivals" / "a2pr_d11x3.mini.npz"
    for dtype in (torch.float64, torch.float32):
        checks = verify(read_trace(path), dtype)
        assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


def test_a_run_does_not_depend_on_its_population() -> None:
    own = ({}, {"alpha": 40.0, "mask": 1.0, "vae_weight": 1.5}, {"discount": 0.9, "vae_lr": 3e-3, "value_lr": 1e-3})
    assert_padded_equals_solo([AgentConfig(**SMALL, **changes) for changes in own])


def test_compiled_equals_eager(quick_compiler: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_compiled_equals_eager(AgentConfig(**SMALL), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_real_compiler_equals_eager() -> None:
    compiled_module._compiled.cache_clear()
    assert_compiled_equals_eager(AgentConfig(**SMALL), rtol=1e-9, atol=1e-11)
