"""ReBRAC's habits that are not TD3+BC's."""

from __future__ import annotations

from typing import Any

import torch

from aspc_fast.config import AgentConfig
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.run.population import Population, RunSpec, build_population
from tests.helpers import toy_data

SMALL: dict[str, Any] = {"algo": "rebrac", "hidden_dim": 16, "batch_size": 16}


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
