"""AntMaze: D4RL's layout, goal, reward and end on gymnasium-robotics' ant, in both frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aspc_fast import mazes
from aspc_fast.evaluation import evaluate, make_task

pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics is not installed")
from aspc_fast.evaluation import antmaze

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# D4RL's maps, start R and goal G; its coordinates put R at the origin, x along columns and y along rows, 4 m a cell
D4RL_MAPS = {
    "antmaze-umaze-v2": ["#####", "#R  #", "### #", "#G  #", "#####"],
    "antmaze-medium-diverse-v2": [
        "########",
        "#R ##  #",
        "#  #   #",
        "##   ###",
        "#  #   #",
        "# #  # #",
        "#   # G#",
        "########",
    ],
    "antmaze-large-play-v2": [
        "############",
        "#R   #     #",
        "# ## # # # #",
        "#      #   #",
        "# #### ### #",
        "#  # #     #",
        "## # # # ###",
        "#  #   # G #",
        "############",
    ],
}
DATASETS = sorted(D4RL_MAPS)


def cells(dataset: str, tile: str) -> np.ndarray:
    """D4RL's (x, y) of every cell of one kind, float64 [k, 2]."""
    found = [(i, j) for i, row in enumerate(D4RL_MAPS[dataset]) for j, t in enumerate(row) if t == tile]
    return np.array([[4.0 * (j - 1), 4.0 * (i - 1)] for i, j in found])


def to_d4rl(dataset: str, frame: str, xy: np.ndarray) -> np.ndarray:
    """Positions [..., 2] in the world of ``frame``'s simulator, in D4RL's coordinates."""
    rows, columns = len(D4RL_MAPS[dataset]), len(D4RL_MAPS[dataset][0])
    y = xy[..., 1] if frame == "d4rl" else -xy[..., 1]
    return np.stack([xy[..., 0] + 2 * columns - 6, y + 2 * rows - 6], axis=-1)


def opened(dataset: str, frame: str, seeds: list[int]) -> tuple[Any, np.ndarray, list[Any]]:
    simulator: Any = make_task(dataset, frame).open(seeds)
    observations = simulator.reset()
    return simulator, observations, [env.unwrapped for env in simulator.envs.envs]


@pytest.mark.parametrize("frame", ["simulator", "d4rl"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_walls_start_and_goal_lie_where_d4rl_has_them(dataset: str, frame: str) -> None:
    simulator, observations, ants = opened(dataset, frame, list(range(12)))
    model = ants[0].ant_env.model
    walls = [model.geom(i).pos[:2] for i in range(model.ngeom) if model.geom(i).name.startswith("block")]
    ours, theirs = to_d4rl(dataset, frame, np.array(walls)), cells(dataset, "#")
    np.testing.assert_allclose(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)], atol=1e-6)

    world = np.array([ant.ant_env.data.qpos[:2] for ant in ants])
    start = to_d4rl(dataset, frame, world)
    assert np.abs(start).max() <= (0.1 if frame == "d4rl" else 1.0)
    assert len(np.unique(start, axis=0)) == 12
    np.testing.assert_allclose(observations[:, :2], start if frame == "d4rl" else world, atol=1e-6)

    goals = to_d4rl(dataset, frame, np.array([ant.goal for ant in ants])) - cells(dataset, "G")
    assert goals.min() >= 0.0 and goals.max() <= 1.5 and np.ptp(goals) > 0.5
    simulator.close()


@pytest.mark.parametrize("frame", ["simulator", "d4rl"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_the_goal_pays_one_and_ends_the_episode_and_nothing_else_does(dataset: str, frame: str) -> None:
    simulator, _, ants = opened(dataset, frame, [1, 2, 3])
    for ant, distance in zip(ants, (0.3, 0.47, 0.7), strict=True):
        ant.ant_env.data.qpos[:2] = ant.goal - np.array([distance, 0.0])  # away from the wall
        ant.ant_env.data.qpos[2:] = ant.ant_env.init_qpos[2:]  # upright and symmetric: it will not drift
        ant.ant_env.data.qvel[:] = 0.0
    still = np.zeros((3, 8))
    observations, rewards, terminals = simulator.step(still)
    np.testing.assert_array_equal(rewards, [1.0, 1.0, 0.0])  # today's own radius, 0.45, would miss the second
    np.testing.assert_array_equal(terminals, [True, True, False])
    goals = np.array([ant.goal for ant in ants])
    shown = to_d4rl(dataset, frame, goals) if frame == "d4rl" else goals
    np.testing.assert_allclose(np.linalg.norm(observations[:, :2] - shown, axis=1), [0.3, 0.47, 0.7], atol=0.01)
    later, rewards, terminals = simulator.step(still)
    assert not rewards.any() and not terminals.any()
    np.testing.assert_array_equal(later[:2], observations[:2])
    assert not np.array_equal(later[2], observations[2])
    simulator.close()


def test_observations_are_d4rls_29_positions_then_velocities() -> None:
    simulator, observations, ants = opened("antmaze-umaze-v2", "simulator", [3])
    observations, *_ = simulator.step(np.full((1, 8), 0.5))
    data = ants[0].ant_env.data
    np.testing.assert_array_equal(observations[0], np.concatenate([data.qpos[:15], data.qvel[:14]]))
    simulator.close()


@pytest.mark.parametrize(("frame", "seconds", "torque"), [("simulator", 0.05, 150.0), ("d4rl", 0.1, 30.0)])
def test_the_ant_of_each_frame(frame: str, seconds: float, torque: float) -> None:
    simulator, _, ants = opened("antmaze-umaze-diverse-v2", frame, [1])
    simulator.step(np.ones((1, 8)))
    data = ants[0].ant_env.data
    assert data.time == pytest.approx(seconds)
    np.testing.assert_allclose(data.qfrc_actuator[6:], torque)
    simulator.close()


def test_an_episode_ends_at_the_goal_or_at_the_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wider goal moved into the start cell, a motionless ant is at some goals and far from others."""
    monkeypatch.setitem(
        mazes.MAZES, "AntMaze_UMaze-v4", dataclasses.replace(mazes.MAZES["AntMaze_UMaze-v4"], goal=(1, 1))
    )
    monkeypatch.setattr(antmaze, "TARGET_RADIUS", 1.0)
    result = evaluate(lambda o: np.zeros((len(o), 8)), "antmaze-umaze-v2", 8, seed=1, frame="d4rl")
    reached = result.returns == 1.0
    assert reached.any() and not reached.all()
    assert np.all(result.lengths[reached] < 700)
    np.testing.assert_array_equal(result.returns[~reached], 0.0)
    np.testing.assert_array_equal(result.lengths[~reached], 700)
    np.testing.assert_array_equal(result.normalised_scores, 100.0 * reached)


def test_random_ants_never_arrive_and_evaluation_repeats() -> None:
    def push(observations: np.ndarray) -> np.ndarray:
        return np.sin(10.0 * observations[:, 5:13].astype(np.float64))

    one = evaluate(push, "antmaze-medium-play-v2", 2, seed=9)
    two = evaluate(push, "antmaze-medium-play-v2", 2, seed=9, max_envs=1)
    np.testing.assert_array_equal(one.lengths, [1000, 1000])
    np.testing.assert_array_equal(one.returns, two.returns)
    assert one.score == 0.0 and one.comparable.startswith("not comparable")


def test_no_model_file_stays_behind() -> None:
    simulator, _, ants = opened("antmaze-umaze-v2", "d4rl", [1, 2])
    assert not any(Path(ant.tmp_xml_file_path).exists() for ant in ants)
    simulator.close()


@pytest.mark.parametrize("frame", ["simulator", "d4rl"])
def test_the_short_way_through_the_simulator_gives_gymnasiums_numbers(frame: str) -> None:
    short, first, _ = opened("antmaze-umaze-v2", frame, [1, 2])
    whole, also_first, _ = opened("antmaze-umaze-v2", frame, [1, 2])
    np.testing.assert_array_equal(first, also_first)
    rng = np.random.default_rng(0)
    for step in range(60):
        if step == 40:  # the first ant at its goal
            for simulator in (short, whole):
                base = simulator.envs.envs[0].unwrapped
                base.ant_env.data.qpos[:2] = base.goal
        actions = rng.uniform(-1, 1, (2, 8))
        observations, rewards, terminals = short.step(actions)
        expected, paid, _, _, _ = whole.envs.step(actions.astype(np.float32))
        np.testing.assert_array_equal(observations, expected)
        np.testing.assert_array_equal(rewards, paid)
        assert terminals.tolist() == [step == 40, False]
    short.close()
    whole.close()
