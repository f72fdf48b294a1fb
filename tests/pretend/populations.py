"""Populations on the pretend device."""

from __future__ import annotations

from typing import Any

import torch

from aspc_fast.config import AgentConfig
from aspc_fast.engine.base import Learners
from aspc_fast.run.population import RunSpec, build_population
from tests.helpers import toy_data
from tests.pretend.device import Pretend

CASES: dict[str, dict[str, Any]] = {
    "aspc, 3 runs of two sizes": dict(runs=3),
    "td3bc as published": dict(runs=1, algo="td3bc", critic="plain"),
    "s' from the next row": dict(runs=3, store_next=False),
    "float64": dict(runs=2, dtype=torch.float64),
    "every step is a meta step": dict(runs=2, loss_function=2, policy_freq=1, alpha_freq=1),
}


def build(runs: int = 3, dtype: torch.dtype = torch.float32, store_next: bool = True, **config: Any) -> Learners:
    """A small population on the CPU."""
    sizes = ((5, 2), (9, 3))
    data = [toy_data(600, d, a, seed=d) for d, a in sizes][:runs]
    own = {"alpha_freq": 2} if config.get("algo", "aspc") == "aspc" else {}
    agent = AgentConfig(**dict(hidden_dim=32, batch_size=20) | own | config)
    specs = [RunSpec(i % len(data), agent, i) for i in range(runs)]
    made = build_population(data, specs, dtype=dtype, store_next=store_next)
    return Learners(made.spec, made.state, made.engine.hyper, made.engine.replay)


def move(pretend: Pretend, made: Learners) -> Learners:
    """The same on the pretend device."""
    return Learners(made.spec, *(pretend.copy(part) for part in made[1:]))
