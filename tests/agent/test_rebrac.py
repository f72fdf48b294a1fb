"""ReBRAC: our update against the plain reference and its authors' recording, padded and compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aspc_fast.config import AgentConfig
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.run.population import Population, RunSpec, build_population
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import SHARED, needs_shared, toy_data
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


def population(**changes: Any) -> Population:
    """One run of small networks, in float64."""
    config = AgentConfig(**SMALL, **changes)
    return build_population([toy_data()], [RunSpec(0, config, 7)], dtype=torch.float64)


def test_the_first_step_moves_the_actor_and_its_target_only_later() -> None:
    made = population()
    first = made.state.actor.clone()
    means = MetricMeans()
    made.engine.advance(1, means)
    assert "actor_loss" in means.take()
    assert not torch.equal(made.state.actor, first)
    # the target moved towards the actor from before the step, which it was a copy of
    torch.testing.assert_close(made.state.actor_target, first, rtol=1e-14, atol=1e-16)


def test_states_are_not_normalised_unless_asked_for() -> None:
    plain, asked = population(), population(normalise=True)
    states = plain.datasets[0].observations
    assert (plain.normalisers[0](states) == states).all()
    assert abs(asked.normalisers[0](states).mean()) < 1e-3
