"""D4RL's kitchen: its observations, noise, rewards and end on today's simulator, and Minari's nested goals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aspc_fast.config import AgentConfig
from aspc_fast.data.load import load
from aspc_fast.data.minari import quiet_minari
from aspc_fast.data.tasks import guess_task
from aspc_fast.environments import KITCHEN_TASKS, environment, find_environment
from aspc_fast.errors import UserError
from aspc_fast.evaluation import evaluate, make_task
from aspc_fast.evaluation.kitchen import KitchenSimulator
from aspc_fast.kitchen import GOALS, done_tasks, goal_vector, to_d4rl
from aspc_fast.run.train import TrainSettings, train

envpool = pytest.importorskip("envpool", reason="envpool is not installed")

MIXED = ("microwave", "kettle", "bottom burner", "light switch")


def test_both_of_todays_simulators_agree_and_have_the_goals_written_here(monkeypatch: pytest.MonkeyPatch) -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    robotics = pytest.importorskip("gymnasium_robotics", reason="gymnasium-robotics is not installed")
    from gymnasium_robotics.envs.franka_kitchen import franka_env, kitchen_env

    for task, (where, value) in GOALS.items():
        np.testing.assert_array_equal(kitchen_env.OBS_ELEMENT_INDICES[task], where)
        np.testing.assert_array_equal(kitchen_env.OBS_ELEMENT_GOALS[task], value)
    assert set(GOALS) == set(kitchen_env.OBS_ELEMENT_GOALS) == set(KITCHEN_TASKS)
    # its own reader of joints fails an assertion under MuJoCo 4
    monkeypatch.setattr(franka_env, "robot_get_obs", lambda _, data, __: (data.qpos[:9].copy(), data.qvel[:9].copy()))
    gymnasium.register_envs(robotics)
    quiet = {"robot_noise_ratio": 0.0, "object_noise_ratio": 0.0}
    one = gymnasium.make("FrankaKitchen-v1", disable_env_checker=True, **quiet)
    other = envpool.make_gymnasium("FrankaKitchen-v1", num_envs=1, **quiet)
    seen, (shown, _) = one.reset(seed=0)[0], other.reset()
    rng = np.random.default_rng(0)
    for _ in range(20):
        np.testing.assert_allclose(shown["observation"][0], seen["observation"], atol=1e-6)
        positions = np.concatenate([one.unwrapped.data.qpos[:9], one.unwrapped.data.qpos[9:]])
        np.testing.assert_allclose(to_d4rl(shown["observation"], np.zeros(30))[0, :30], positions, atol=1e-6)
        action = rng.uniform(-1, 1, 9)
        seen, shown = one.step(action)[0], other.step(action[None])[0]


def test_a_task_is_done_within_three_tenths_of_its_goal() -> None:
    row = np.zeros((4, 60))
    row[1:, 22] = [-0.75, -0.75 + 0.29, -0.75 + 0.31]
    np.testing.assert_array_equal(done_tasks(row, ("microwave", "kettle"))[:, 0], [False, True, True, False])
    assert not done_tasks(row, ("microwave", "kettle"))[:, 1].any()
    goal = goal_vector(MIXED)
    assert done_tasks(np.concatenate([goal, goal])[None], MIXED).all()
    np.testing.assert_array_equal(np.flatnonzero(goal), [11, 12, 17, 18, 22, 23, 24, 25, 26, 29])


class Scripted:
    """A pool of one kitchen that shows prepared positions [T, 30], one row per step."""

    def __init__(self, positions: np.ndarray) -> None:
        self._rows = iter(positions)

    def _shown(self) -> dict[str, np.ndarray]:
        row = next(self._rows)
        return {"observation": np.concatenate([row[:9], np.full(9, 7.0), row[9:], np.full(20, 7.0)])[None]}

    def reset(self) -> tuple[Any, dict]:
        return self._shown(), {}

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        return (self._shown(),)


def test_a_task_pays_once_and_all_tasks_end_the_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = ("microwave", "slide cabinet")
    done = {task: goal_vector((task,)) for task in tasks}
    script = [done["microwave"], done["microwave"], np.zeros(30), done["microwave"], done["slide cabinet"]]
    pool = Scripted(np.array([np.zeros(30), *script]))
    found = SimpleNamespace(make_gymnasium=lambda *names, **options: pool)
    monkeypatch.setattr("aspc_fast.evaluation.kitchen.require", lambda package: found)
    simulator = KitchenSimulator(find_environment("FrankaKitchen-v1:slide cabinet+microwave").env, 280, [0])
    first = simulator.reset()
    assert first.shape == (1, 60) and not (first == 7.0).any()
    # the goal stands in the order of the joints, whatever the order of the names
    np.testing.assert_array_equal(first[0, 30:], goal_vector(tasks))
    steps = [simulator.step(np.zeros((1, 9))) for _ in script]
    assert [float(rewards[0]) for _, rewards, _ in steps] == [1, 0, 0, 0, 1]
    assert [bool(ended[0]) for *_, ended in steps] == [False, False, False, False, True]


def test_the_noise_is_d4rls() -> None:
    simulator = make_task("kitchen-complete-v0").open(list(range(8)))
    joints = simulator.reset()[:, :9]
    simulator.close()
    # uniform within 0.1 of an amplitude of 0.1, the same for every joint
    assert np.ptp(joints, axis=0).max() <= 0.02
    np.testing.assert_allclose(np.sqrt(joints.var(axis=0, ddof=1).mean()), 0.01 / np.sqrt(3), rtol=0.15)


def test_scores_name_the_rules() -> None:
    result = evaluate(lambda o: np.zeros((len(o), 9)), "kitchen-mixed-v0", episodes=2)
    assert set(result.lengths) == {280} and result.score == 0.0
    assert result.env == "FrankaKitchen-v1:bottom burner+light switch+microwave+kettle"
    assert "unverified" in result.comparable
    task = make_task(result.env)
    assert (task.obs_dim, task.act_dim, task.ref_max) == (60, 9, 4.0)


@pytest.mark.parametrize("name", ["FrankaKitchen-v1", "FrankaKitchen-v1:toaster", "FrankaKitchen-v1:kettle+kettle"])
def test_a_kitchen_needs_its_tasks(name: str) -> None:
    with pytest.raises(UserError, match="kettle"):
        find_environment(name)


def test_d4rls_own_files_are_known_by_name() -> None:
    for name in ("kitchen-complete-v0", "kitchen-partial-v0", "kitchen-mixed-v0"):
        env = guess_task(None, name).env
        assert env is not None and environment(name) == environment(env)


def record(tasks: tuple[str, ...], dataset_id: str) -> list[np.ndarray]:
    """A Minari dataset of two episodes of the real simulator, with Minari's nested goals; its raw observations."""
    minari = pytest.importorskip("minari", reason="minari is not installed")
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    def box(width: int) -> Any:
        return spaces.Box(-np.inf, np.inf, (width,), np.float64)

    goals = {task: box(len(GOALS[task][0])) for task in tasks}
    space = spaces.Dict(
        {"observation": box(59), "achieved_goal": spaces.Dict(goals), "desired_goal": spaces.Dict(goals)}
    )
    pool = envpool.make_gymnasium("FrankaKitchen-v1", num_envs=1, seed=4)
    rng, buffers, seen = np.random.default_rng(0), [], []
    for _ in range(2):
        shown = [pool.reset()[0]]
        actions = rng.uniform(-1, 1, (12, 9))
        shown += [pool.step(action[None])[0] for action in actions]
        seen.append(np.concatenate([step["observation"] for step in shown]))
        nested = {
            key: {task: np.concatenate([step[key][task] for step in shown]) for task in tasks}
            for key in ("achieved_goal", "desired_goal")
        }
        buffers.append(
            EpisodeBuffer(
                observations={"observation": seen[-1], **nested},
                actions=actions,
                rewards=[0.0] * 11 + [1.0],
                terminations=[False] * 12,
                truncations=[False] * 11 + [True],
            )
        )
    with quiet_minari():
        action_space = spaces.Box(-1, 1, (9,), np.float64)
        dataset = minari.create_dataset_from_buffers(
            dataset_id, buffers, observation_space=space, action_space=action_space
        )
        dataset.storage.update_metadata({"aspc_env_id": "FrankaKitchen-v1"})
    return seen


def test_minaris_nested_goals_become_d4rls_60_entries_and_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    seen = record(MIXED, "D4RL/kitchen/mixed-v2")
    data = load("D4RL/kitchen/mixed-v2")
    assert (data.obs_dim, data.act_dim, len(data), data.timeout_count) == (60, 9, 22, 2)
    expected = np.concatenate([states[:11] for states in seen])
    np.testing.assert_array_equal(data.observations[:, :9], expected[:, :9].astype(np.float32))
    np.testing.assert_array_equal(data.observations[:, 9:30], expected[:, 18:39].astype(np.float32))
    np.testing.assert_array_equal(data.observations[:, 30:], np.tile(goal_vector(MIXED).astype(np.float32), (22, 1)))
    assert data.env == make_task("kitchen-mixed-v0").env and "terminals" in data.attributes["notes"]
    settings = TrainSettings(steps=20, eval_every=20, eval_episodes=2, log_every=10, device="cpu", engine="eager")
    run = train(data, AgentConfig(hidden_dim=16, batch_size=16), settings, out=tmp_path / "run")
    assert run.summary["env"] == data.env and run.summary["score"] is not None


def test_a_kitchen_without_goals_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    record((), "mine/kitchen-v0")
    with pytest.raises(UserError, match="no desired_goal of any task"):
        load("mine/kitchen-v0")
