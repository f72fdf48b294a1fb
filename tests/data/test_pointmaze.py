"""The maze2d collector: D4RL's recipe, deterministic, with the state coverage of D4RL's own controller."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from aspc_fast.data.load import load
from aspc_fast.data.pointmaze import Walker, collect, shortest_path
from aspc_fast.data.writers import write_d4rl
from aspc_fast.errors import UserError
from aspc_fast.mazes import POINT_MAZES, fixed_target_rewards

pytest.importorskip("envpool")
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def umaze() -> tuple[dict[str, np.ndarray], dict]:
    return collect("maze2d-umaze", 20_000, 7)


def test_files_of_one_seed_are_identical_and_those_of_others_not(umaze, tmp_path: Path) -> None:
    again = collect("maze2d-umaze", 20_000, 7)
    one, other = (write_d4rl(tmp_path / name, *made) for name, made in (("a.hdf5", umaze), ("b.hdf5", again)))
    assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5", "b.hdf5"]
    differing, _ = collect("maze2d-umaze", 2_000, 8)
    assert not np.array_equal(differing["observations"], umaze[0]["observations"][:2000])


def test_streams_go_on_without_reset(umaze) -> None:
    data, attributes = umaze
    assert attributes["streams"] == 2 and len(data["rewards"]) == 20_000
    jumps = np.flatnonzero((data["next_observations"][:-1] != data["observations"][1:]).any(1))
    assert jumps.tolist() == [9_999] and data["timeouts"][9_999] and data["timeouts"][-1]
    assert not data["terminals"].any()
    assert np.abs(data["next_observations"] - data["observations"])[:, :2].max() < 0.06


def test_rewards_are_those_of_the_fixed_target_before_the_step(umaze) -> None:
    data, attributes = umaze
    offset = data["observations"][:, :2] - np.array([-0.8, 0.8])
    inside = np.linalg.norm(offset.astype(np.float64), axis=1) <= 0.5
    assert (data["rewards"] == inside).mean() > 0.9999
    assert data["rewards"].any() and attributes["target"] == "[-0.8, 0.8]"
    late = fixed_target_rewards(data["next_observations"], (-0.8, 0.8))
    assert (late != data["rewards"]).any()


def test_segments_end_at_the_goal_or_the_time_limit(umaze) -> None:
    data, _ = umaze
    ends = np.flatnonzero(data["timeouts"])
    assert np.diff(ends).max() <= 301
    # the walker aims at the goal's cell, up to 0.1 from the goal in each direction, and is there within 0.1
    reached = np.linalg.norm(data["observations"][ends, :2] - data["infos/goal"][ends], axis=1) < 0.1 + 0.15
    assert reached.mean() > 0.95
    changes = (data["infos/goal"][1:] != data["infos/goal"][:-1]).any(1)
    assert (np.flatnonzero(changes) == ends[ends < 19_999]).all()


def test_actions_are_the_controllers_with_noise() -> None:
    noisy, attributes = collect("maze2d-umaze", 3000, 0)
    plain, _ = collect("maze2d-umaze", 3000, 0, action_noise=0.0)
    assert np.abs(noisy["actions"]).max() <= 1 and noisy["actions"].dtype == np.float32
    assert 0.3 < (np.abs(plain["actions"]) == 1).mean() < 0.65
    assert attributes["action_noise"] == 0.5, "D4RL's --noisy"
    jitter = {}
    for name, data in (("noisy", noisy), ("plain", plain)):
        inside = (np.abs(data["actions"]) < 1).all(1)
        jitter[name] = np.median(np.abs(np.diff(data["actions"], axis=0)[inside[1:] & inside[:-1]]))
    assert jitter["noisy"] > 2 * jitter["plain"] > 0
    np.testing.assert_array_equal(noisy["observations"][0], plain["observations"][0])


@pytest.mark.parametrize("name", POINT_MAZES)
def test_every_maze_is_walked_to_every_corner(name: str) -> None:
    data, _ = collect(name, 12_000, 3)
    maze = POINT_MAZES[name]
    visited = {maze.cell(x, y) for x, y in data["observations"][:, :2].astype(float)}
    assert visited <= set(maze.free_cells), "the layout and the simulator's walls disagree"
    assert len(visited) > 0.9 * len(maze.free_cells)
    assert data["rewards"].any()


def test_paths_stay_on_free_cells() -> None:
    maze = POINT_MAZES["maze2d-large"]
    cells = maze.free_cells
    for start in cells[::5]:
        for end in cells[::7]:
            path = shortest_path(maze, start, end)
            assert path[0] == start and path[-1] == end and set(path) <= set(cells)
            assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(path))


def test_the_time_limit_ends_a_walk_that_never_arrives() -> None:
    walker = Walker(POINT_MAZES["maze2d-umaze"], np.random.default_rng(0))
    walker.draw_goal(0.0, 1.0)
    walker.end = (9.0, 9.0)
    done = [walker.act(0.0, 1.0, 0.0, 0.0)[2] for _ in range(301)]
    assert not any(done[:300]) and done[300]


@pytest.mark.parametrize(
    ("name", "rows", "seed", "noise"),
    [
        ("maze2d-huge", 100, 0, 0.1),
        ("maze2d-umaze", 1, 0, 0.1),
        ("maze2d-umaze", 9, -1, 0.1),
        ("maze2d-umaze", 9, 0, -1),
    ],
)
def test_bad_requests(name: str, rows: int, seed: int, noise: float) -> None:
    with pytest.raises(UserError, match="data make"):
        collect(name, rows, seed, action_noise=noise)


@pytest.mark.parametrize("rows", [2, 3, 257])
def test_small_collections_load(rows: int, tmp_path: Path) -> None:
    data, attributes = collect("maze2d-umaze", rows, 1)
    assert all(len(array) == rows for array in data.values())
    loaded = load(write_d4rl(tmp_path / "x.hdf5", data, attributes))
    assert loaded.env == "PointMaze_UMaze-v3" and loaded.frame == "simulator"
    np.testing.assert_array_equal(loaded.observations, data["observations"][~data["timeouts"]])


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        write_d4rl(target / "x.hdf5", {"rewards": np.zeros(3)}, {})
    with pytest.raises(TypeError):
        write_d4rl(tmp_path / "x.hdf5", {"rewards": np.zeros(3)}, {"bad": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not (SHARED / "maze2d-umaze.hdf5").exists(), reason="the shared development data is absent")
def test_the_same_coverage_as_d4rls_own_controller() -> None:
    data, attributes = collect("maze2d-umaze", 40_000, 0, action_noise=0.0)
    with h5py.File(SHARED / "maze2d-umaze.hdf5") as file:
        theirs, actions = file["observations"][:], file["actions"][:]
        rewards = file["rewards"][:]
        np.testing.assert_array_equal(fixed_target_rewards(theirs, POINT_MAZES["maze2d-umaze"].target), rewards)
    ours = data["observations"]
    edges = [np.linspace(-1.5, 1.5, 13)] * 2
    shares = [np.histogram2d(s[:, 0], s[:, 1], bins=edges)[0] / len(s) for s in (ours, theirs)]
    assert 0.5 * np.abs(shares[0] - shares[1]).sum() < 0.08
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.05)
    speeds = [np.linalg.norm(s[:, 2:], axis=1).mean() for s in (ours, theirs)]
    assert abs(speeds[0] / speeds[1] - 1) < 0.03
    bound = [(np.abs(a) == 1).mean() for a in (data["actions"], actions)]
    assert abs(bound[0] - bound[1]) < 0.03
    assert abs(attributes["mean_reward"] - rewards.mean()) < 0.015
