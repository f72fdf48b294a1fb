"""Eleven real D4RL-style files, where a developer has them: counts and scores must be those recorded at collection."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from aspc_fast.data.describe import describe
from aspc_fast.data.load import load

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
NAMES = (
    "door-human",
    "halfcheetah-medium",
    "hopper-expert",
    "hopper-medium",
    "hopper-medium-expert",
    "hopper-mixed",
    "hopper-random",
    "maze2d-medium",
    "maze2d-umaze",
    "pen-expert",
    "walker2d-medium",
)
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared development data is absent")


@pytest.mark.parametrize("name", NAMES)
def test_rows_episodes_and_scores(name: str) -> None:
    path = SHARED / f"{name}.hdf5"
    data = load(path)
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
        timeouts = file["timeouts"][:]
        np.testing.assert_array_equal(data.observations, file["observations"][:][~timeouts])
        np.testing.assert_array_equal(data.next_observations, file["next_observations"][:][~timeouts])
        assert int(data.terminals.sum()) == int((file["terminals"][:] & ~timeouts).sum())
    facts = describe(data)
    assert data.env == attributes["env_id"] and data.dataset_id is None and data.frame == "simulator"
    assert facts.transitions + facts.timeouts == attributes["transitions"]
    assert facts.scores is not None
    if name.startswith("maze2d"):
        assert facts.episodes == attributes["segments_ended"]
        assert abs(facts.scores[1] - attributes["normalised_score_of_data"]) < 0.5
    else:
        assert facts.episodes == attributes["episodes"]
        np.testing.assert_allclose(facts.returns[1], attributes["mean_return"], rtol=1e-5)
        np.testing.assert_allclose(facts.scores[1], attributes["normalised_score"], rtol=1e-5)
