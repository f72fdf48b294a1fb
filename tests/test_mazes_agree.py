"""Data collection and evaluation each state where D4RL's targets and frames lie; they must say the same."""

import numpy as np
import pytest

from aspc_fast.data.mazes import MAZES, TARGET_RADIUS
from aspc_fast.evaluation import corrections
from aspc_fast.evaluation.mazes import MAZES as EVALUATED


@pytest.mark.parametrize("name", MAZES)
def test_targets_and_radius_agree(name):
    maze = MAZES[name]
    np.testing.assert_allclose(maze.target, EVALUATED[maze.env].point_target, atol=1e-12)
    assert TARGET_RADIUS == corrections.TARGET_RADIUS
