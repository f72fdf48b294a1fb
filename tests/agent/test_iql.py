"""IQL: dropout, in recordings and drawn, and the actor's learning rate."""

import numpy as np
import pytest
import torch

from aspc_fast.agent.iql import cosine_rate, policy_mean
from aspc_fast.agent.state import RunShape, init_state, make_hyper, make_spec
from aspc_fast.config import AgentConfig
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.engine.replay import Replay
from aspc_fast.errors import UserError
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import toy_data
from tests.references.iql import Config
from tests.references.record import record_trace

SMALL = AgentConfig(algo="iql", policy="deterministic", actor_dropout=0.25, hidden_dim=32, batch_size=64)


def test_a_recording_with_dropout_needs_its_masks(tmp_path):
    path = record_trace(tmp_path / "t.npz", "iql", Config(iql_deterministic=True, actor_dropout=0.1, hidden_dim=16))
    arrays = dict(np.load(path))
    arrays.pop("batch/dropout_mask_2")
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="dropout_mask_2"):
        read_trace(path)


def test_masks_that_a_gaussian_does_not_use_may_stand_in_the_file(tmp_path):
    path = record_trace(tmp_path / "t.npz", "iql", Config(hidden_dim=16))
    np.savez(path, **dict(np.load(path)), **{"batch/dropout_mask_1": np.ones((24, 16, 16), np.float32)})
    assert all(check.passed for check in verify(read_trace(path)))


def test_drawn_dropout_keeps_the_wanted_share_and_the_mean():
    data, runs = toy_data(), [RunShape(5, 2)]
    spec = make_spec([SMALL], runs)
    hyper = make_hyper(spec, [SMALL], runs, [0], torch.float64)
    replay = Replay([data], [Normaliser.of(data.observations, 1e-3)], [0], spec, dtype=torch.float64)
    batch = next(replay.sample(spec, hyper, 1, 1))
    assert batch.dropout_1.shape == batch.dropout_2.shape == (1, 64, 32)
    for drawn in (batch.dropout_1, batch.dropout_2):
        assert float((drawn < 1.0 - 2.0 * 0.25).double().mean()) == pytest.approx(0.75, abs=0.04)
    assert not torch.equal(batch.dropout_1, batch.dropout_2)
    params = spec.params("actor", init_state(spec, [SMALL], runs, [0], torch.float64).actor)
    half = batch._replace(dropout_2=torch.full_like(batch.dropout_2, 0.9))  # the whole second layer dropped
    torch.testing.assert_close(policy_mean(SMALL, params, half), params.b.tanh().unsqueeze(1).expand(-1, 64, -1))


def test_the_actors_rate_falls_along_half_a_cosine_to_zero():
    config = AgentConfig(algo="iql", horizon=1_000_000)
    spec = make_spec([config], [RunShape(5, 2)])
    hyper = make_hyper(spec, [config], [RunShape(5, 2)], [0], torch.float64)
    rates = [float(cosine_rate(hyper, torch.tensor(done))[0]) for done in (0, 500_000, 999_999, 1_000_000)]
    delta = np.pi / 1_000_000  # near the end 1 + cos is delta^2 / 2
    assert rates[:3] == pytest.approx([3e-4, 1.5e-4, 1.5e-4 * delta**2 / 2], rel=1e-9)
    assert rates[3] < 1e-30
