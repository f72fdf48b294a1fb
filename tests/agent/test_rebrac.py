"""ReBRAC: our update against the plain reference and its authors' recording, padded and compiled."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from aspc_fast.config import AgentConfig
from aspc_fast.engine import compiled as compiled_module
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.agent.lockstep import DATASETS, assert_compiled_equals_eager, assert_padded_equals_solo, lockstep
from tests.helpers import SHARED, needs_shared
from tests.references import rebrac
from tests.references.record import record_trace

SMALL: dict[str, Any] = {"algo": "rebrac", "hidden_dim": 16, "batch_size": 16}
VARIANTS: list[dict[str, Any]] = [
    {"critic_bc_coef": 0.05, "actor_bc_coef": 0.3},
    {"actor_ln": True, "normalize_q": False, "policy_freq": 3, "layernorm_eps": 1e-3},
    {"critic_ln": False, "critic_n_hiddens": 2, "actor_n_hiddens": 2, "critic_bc_coef": 0.0},
    {"actor_n_hiddens": 1, "critic_n_hiddens": 4, "policy_freq": 1, "policy_noise": 0.7, "noise_clip": 0.3, "tau": 0.1},
    {"gamma": 0.999, "actor_learning_rate": 3e-4, "critic_learning_rate": 5e-5},
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_our_update_equals_the_plain_reference(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = rebrac.Config(hidden_dim=16, **settings)
    trace = read_trace(record_trace(tmp_path / "t.npz", "rebrac", config))
    checks = verify(trace, torch.float64)
    assert not [(c.quantity, c.deviation) for c in checks if not c.passed]
    assert {"actor_loss", "next_bc_mean", "q_min"} < {c.quantity for c in checks}
    assert sum(c.quantity.startswith("final ") for c in checks) == 6


@needs_shared
@pytest.mark.slow
def test_our_update_equals_the_authors_recording() -> None:
    path = SHARED / "rivals" / "rebrac_d17x6_halfcheetah_medium.mini.npz"
    for dtype in (torch.float64, torch.float32):
        checks = verify(read_trace(path), dtype)
        assert not [(c.quantity, c.deviation) for c in checks if not c.passed]


def test_a_run_does_not_depend_on_its_population() -> None:
    own = ({}, {"critic_bc_coef": 0.5, "discount": 0.9}, {"actor_bc_coef": 0.1, "actor_lr": 3e-4, "tau": 0.05})
    assert_padded_equals_solo([AgentConfig(**SMALL, **changes) for changes in own])


def test_the_first_step_moves_the_actor_and_its_target_only_later() -> None:
    made, engine = lockstep([AgentConfig(**SMALL)])
    first = made.state.actor.clone()
    means = MetricMeans()
    engine.advance(1, means)
    assert "actor_loss" in means.take()
    assert not torch.equal(made.state.actor, first)
    # the target moved towards the actor from before the step, which it was a copy of
    torch.testing.assert_close(made.state.actor_target, first, rtol=1e-14, atol=1e-16)


def test_states_are_not_normalised_unless_asked_for() -> None:
    plain, _ = lockstep([AgentConfig(**SMALL)])
    asked, _ = lockstep([AgentConfig(**SMALL, normalise=True)])
    states = DATASETS[0].observations[:5]
    assert (plain.normalisers[0](states) == states).all()
    assert abs(asked.normalisers[0](DATASETS[0].observations).mean()) < 1e-3


@pytest.mark.parametrize("settings", [{}, {"actor_ln": True}])
def test_compiled_equals_eager(quick_compiler: None, settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_compiled_equals_eager(AgentConfig(**SMALL, **settings), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_real_compiler_equals_eager() -> None:
    compiled_module._compiled.cache_clear()
    assert_compiled_equals_eager(AgentConfig(**SMALL), rtol=1e-9, atol=1e-11)
