"""A2PR's latent at its bounds."""

from __future__ import annotations

from pathlib import Path

import torch

from aspc_fast.agent.a2pr import LOG_STD_RANGE
from aspc_fast.agent.networks import mlp_forward
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.references import a2pr
from tests.references.record import record_trace


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
