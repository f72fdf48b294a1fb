"""Maze2d: D4RL's fixed target, radius and horizon, and the same policy in either frame."""

from __future__ import annotations

import numpy as np
import pytest

from aspc_fast.evaluation import evaluate, make_task
from tests.evaluation.pretrained import standard_error
from tests.evaluation.waypoints import MAPS, SIMULATOR_TARGETS, Waypoints

pytest.importorskip("envpool", reason="envpool is not installed")

HORIZON = {"PointMaze_UMaze-v3": 300, "PointMaze_Medium-v3": 600, "PointMaze_Large-v3": 800}
MAZES = sorted(MAPS)


@pytest.mark.parametrize("frame", ["simulator", "d4rl"])
@pytest.mark.parametrize("env", MAZES)
def test_waypoint_policy_reaches_the_goal_from_every_start(env: str, frame: str) -> None:
    result = evaluate(Waypoints(env, frame), env, 5, frame=frame)
    assert np.all(result.lengths == HORIZON[env])
    assert np.all(result.returns > 0.25 * HORIZON[env])
    assert result.score > 120


@pytest.mark.parametrize("env", MAZES)
def test_d4rls_reference_procedure_scores_100(env: str) -> None:
    """D4RL's reference planned once and reused that finished plan: later episodes head straight for the target.

    So a straight PD line to the target, walls or not, is what 100 means; planning afresh scores 150 to 200.
    """
    target = np.array(SIMULATOR_TARGETS[env])
    result = evaluate(lambda o: np.clip(10.0 * (target - o[:, :2]) - o[:, 2:], -1.0, 1.0), env, 20)
    assert abs(result.score - 100.0) < 3.0 * standard_error(result.normalised_scores)


@pytest.mark.parametrize("env", MAZES)
def test_reward_is_one_inside_half_a_metre_of_the_fixed_target_where_the_step_ended(env: str) -> None:
    simulator = make_task(env).open([1, 2, 3, 4, 5])
    policy = Waypoints(env, "simulator")
    observations, seen = simulator.reset(), set()
    for _ in range(HORIZON[env]):
        observations, rewards, terminals = simulator.step(policy(observations))
        distance = np.linalg.norm(observations[:, :2] - SIMULATOR_TARGETS[env], axis=1)
        np.testing.assert_array_equal(rewards, (distance <= 0.5).astype(float))
        assert not terminals.any()
        seen.update(rewards.tolist())
    assert seen == {0.0, 1.0}
    simulator.close()


@pytest.mark.parametrize("env", MAZES)
def test_d4rls_frame_is_the_same_motion_seen_from_elsewhere(env: str) -> None:
    """Equal forces, written in each frame, give equal motions, by the formulas for each maze's own centre."""
    xc, yc = len(MAPS[env][0]) / 2, len(MAPS[env]) / 2
    here, there = make_task(env).open([3, 4]), make_task(env, "d4rl").open([3, 4])
    ours, theirs = here.reset(), there.reset()
    for action in np.random.default_rng(1).uniform(-1, 1, (60, 2, 2)).astype(np.float32):
        x, y, vx, vy = ours.T
        np.testing.assert_allclose(theirs, np.stack([yc - y - 0.7, x + xc - 0.7, -vy, vx], axis=1), atol=1e-12)
        ours, *_ = here.step(action)
        theirs, *_ = there.step(np.stack([-action[:, 1], action[:, 0]], axis=1))
    assert np.abs(ours[:, 2:]).max() > 0.1
    here.close()
    there.close()
