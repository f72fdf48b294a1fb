"""Which task a file is taken for, and whose maze coordinates it uses."""

from __future__ import annotations

import numpy as np
import pytest

from aspc_fast.data.arrays import from_arrays
from aspc_fast.data.tasks import guess_task
from aspc_fast.mazes import MAZES, POINT_MAZES, fixed_target_rewards, frame_of
from aspc_fast.suite import SUITE


@pytest.mark.parametrize(
    ("attribute", "stem", "env", "dataset_id"),
    [
        ("Hopper-v4", "anything", "Hopper-v4", None),
        ("Hopper-v4", "hopper-medium-v2", "Hopper-v4", "hopper-medium-v2"),
        ("Hopper-v4", "walker2d-medium-v2", "Hopper-v4", None),
        ("NoSuchTask-v1", "hopper-mixed", "Hopper-v4", None),
        (None, "hopper-medium-v2", "Hopper-v4", "hopper-medium-v2"),
        (None, "hopper_medium-v2", "Hopper-v4", "hopper-medium-v2"),
        (None, "halfcheetah_medium_expert-v2", "HalfCheetah-v4", "halfcheetah-medium-expert-v2"),
        (None, "maze2d-umaze", "PointMaze_UMaze-v3", None),
        (None, "maze2d-medium-sparse-v1", "PointMaze_Medium-v3", None),
        (None, "maze2d-large-n100-s0-v0", "PointMaze_Large-v3", None),
        (None, "antmaze-umaze-diverse-v2", "AntMaze_UMaze-v4", "antmaze-umaze-diverse-v2"),
        (None, "antmaze-large-play", "AntMaze_Large-v4", None),
        (None, "door-human", "AdroitHandDoor-v1", None),
        (None, "pen", "AdroitHandPen-v1", None),
        (None, "maze2d", None, None),
        (None, "hoppers", None, None),
        (None, "mydata", None, None),
        (None, "", None, None),
    ],
)
def test_guesses(attribute: str | None, stem: str, env: str | None, dataset_id: str | None) -> None:
    task = guess_task(attribute, stem)
    assert (task.env, task.dataset_id) == (env, dataset_id)


@pytest.mark.parametrize("row", SUITE, ids=lambda row: row.id)
def test_every_id_is_its_own_task(row) -> None:
    assert guess_task(None, row.id).env == row.env and guess_task(None, row.id).horizon == row.horizon


def test_a_guess_that_does_not_fit_is_dropped(tmp_path) -> None:
    from aspc_fast.data.load import load

    np.savez(
        tmp_path / "hopper-mine.npz",
        observations=np.zeros((5, 4)),
        actions=np.zeros((5, 2)),
        rewards=np.zeros(5),
        terminals=np.zeros(5),
    )
    assert load(tmp_path / "hopper-mine.npz").env is None


def test_targets_are_d4rls() -> None:
    assert POINT_MAZES["maze2d-umaze"].target == (-0.8, 0.8)
    assert POINT_MAZES["maze2d-medium"].target == (2.7, -2.7)
    assert POINT_MAZES["maze2d-large"].target == (3.7, -3.2)
    for maze in POINT_MAZES.values():
        assert maze.layout[maze.goal[0]][maze.goal[1]] == "."
        assert maze.cell(*maze.target) == maze.goal
        assert len({len(row) for row in maze.layout}) == 1


def test_rewards_at_the_rim() -> None:
    states = np.array([[0.5, 0, 9, 9], [0.5001, 0, 0, 0], [0.3, 0.39, 0, 0], [-0.36, -0.36, 0, 0]])
    assert fixed_target_rewards(states, (0.0, 0.0)).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("maze", POINT_MAZES.values(), ids=lambda maze: maze.env)
def test_the_frame_shows_in_the_positions(maze) -> None:
    cells = np.array(maze.free_cells, np.float32)
    simulator = np.array([maze.from_d4rl(*cell) for cell in maze.free_cells])
    assert frame_of(maze.env, cells - 0.5, None) == "d4rl"
    assert frame_of(maze.env, simulator, None) == "simulator"
    assert frame_of(maze.env, cells, "simulator") == "simulator"
    assert frame_of("Hopper-v4", cells, None) == "simulator" and frame_of(None, cells, None) == "simulator"


def test_antmaze_frames() -> None:
    d4rl = np.zeros((3, 29), np.float32)
    d4rl[:, 0] = [-1.5, 0, 9.5]
    assert frame_of("AntMaze_UMaze-v4", d4rl, None) == "d4rl"
    assert frame_of("AntMaze_UMaze-v4", d4rl - 4, None) == "simulator"


def test_frame_reaches_the_transitions() -> None:
    states = np.full((4, 4), 1.5)
    data = from_arrays(states, np.zeros((4, 2)), np.zeros(4), np.zeros(4), env="maze2d-umaze-v1")
    assert data.frame == "d4rl" and data.env in MAZES
