"""gymnasium's other MuJoCo tasks: raw returns in the environment that recorded the data, and no score made up."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aspc_fast.cli import main
from aspc_fast.data.arrays import from_arrays
from aspc_fast.data.describe import describe
from aspc_fast.data.load import load
from aspc_fast.data.minari import quiet_minari
from aspc_fast.environments import RUNNERS
from aspc_fast.evaluation import evaluate, make_task

envpool = pytest.importorskip("envpool", reason="envpool is not installed")
gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")


@pytest.mark.parametrize("env", RUNNERS)
def test_the_row_is_what_both_packages_say(env: str) -> None:
    row = RUNNERS[env]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original = gymnasium.make(env)
    pool = envpool.make_gymnasium(env, num_envs=1)
    for space in (original, pool):
        assert space.observation_space.shape == (row.obs_dim,) and space.action_space.shape == (row.act_dim,)
        np.testing.assert_allclose(space.action_space.high, row.max_action)
        np.testing.assert_allclose(space.action_space.low, -row.max_action)
    assert original.spec.max_episode_steps == row.horizon
    original.close()
    pool.close()


@pytest.mark.parametrize(("env", "hidden"), [("Swimmer-v5", 2), ("InvertedPendulum-v5", 0), ("Humanoid-v5", 2)])
def test_envpool_is_gymnasiums_simulator(env: str, hidden: int) -> None:
    """From the same start state rewards and ends agree over five random steps. ``hidden`` positions are not shown."""
    simulator = make_task(env).open([5])
    original = gymnasium.make(env, disable_env_checker=True)
    original.reset(seed=0)
    base: Any = original.unwrapped
    first = simulator.reset()[0]
    shown = base.model.nq - hidden
    base.set_state(np.concatenate([np.zeros(hidden), first[:shown]]), first[shown : shown + base.model.nv])
    rng = np.random.default_rng(0)
    for _ in range(5):
        action = rng.uniform(-1, 1, base.action_space.shape) * RUNNERS[env].max_action
        observations, rewards, ended = simulator.step(action[None])
        expected, reward, terminated, *_ = original.step(action)
        np.testing.assert_allclose(rewards[0], reward, atol=1e-3)
        np.testing.assert_allclose(observations[0, :shown], expected[:shown], atol=1e-3)
        assert bool(ended[0]) == terminated
        if terminated:
            break
    simulator.close()


def test_the_score_is_the_return_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    result = evaluate(lambda o: np.full((len(o), 1), 3.0), "InvertedPendulum-v5", episodes=2)
    assert result.score == result.returns.mean() == result.lengths.mean() - 1
    assert result.comparable.startswith("not comparable with scores") and "InvertedPendulum-v5" in result.comparable
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = {"observations": rng.normal(size=(40, 4)), "actions": rng.uniform(-1, 1, (40, 1)), "rewards": np.ones(40)}
    np.savez("mine.npz", **rows, terminals=np.arange(40) % 10 == 9)
    options = "--steps 8 --eval-episodes 1 --hidden-dim 8 --batch-size 8 --device cpu --engine eager --out run"
    for words in (f"train mine.npz --env InvertedPendulum-v5 {options}", "evaluate run --episodes 1"):
        with pytest.raises(SystemExit) as ended:
            main(words.split())
        said = capsys.readouterr().out
        assert ended.value.code == 0 and "return" in said and "score" not in said.replace("comparable with scores", "")


def test_actions_reach_the_simulator_up_to_the_tasks_bound() -> None:
    """Full force pushes the pendulum over sooner than a third of it; clipped at 1 they would be the same."""
    lengths = [
        evaluate(lambda o, f=force: np.full((len(o), 1), f), "InvertedPendulum-v5", episodes=4).lengths.mean()
        for force in (1.0, 3.0, 30.0)
    ]
    assert lengths[0] > lengths[1] == lengths[2]


def test_a_dataset_of_such_a_task_has_no_score() -> None:
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(40, 8)), rng.uniform(-1, 1, (40, 2))
    data = from_arrays(states, actions, np.ones(40), np.arange(40) % 10 == 9, env="Swimmer-v5")
    assert data.env == "Swimmer-v5" and describe(data).scores is None


@pytest.mark.parametrize(
    ("recorded", "env", "dims", "bound"),
    [
        ("Ant-v5", "Ant-v5", (105, 8), 1.0),
        ("Humanoid-v5", "Humanoid-v5", (348, 17), 0.4),
        ("Hopper-v5", "Hopper-v4", (11, 3), 1.0),
    ],
)
def test_minaris_datasets_keep_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str, env: str, dims: tuple[int, int], bound: float
) -> None:
    minari = pytest.importorskip("minari", reason="minari is not installed")
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    rng = np.random.default_rng(0)
    buffer = EpisodeBuffer(
        observations=rng.normal(size=(9, dims[0])),
        actions=rng.uniform(-bound, bound, (8, dims[1])),
        rewards=[1.0] * 8,
        terminations=[False] * 8,
        truncations=[False] * 7 + [True],
    )
    with quiet_minari():
        space = gymnasium.spaces.Box(-np.inf, np.inf, (dims[0],), np.float64)
        actions = gymnasium.spaces.Box(-np.float32(bound), np.float32(bound), (dims[1],), np.float32)
        name = f"mujoco/{recorded.removesuffix('-v5').lower()}/simple-v0"
        dataset = minari.create_dataset_from_buffers(name, [buffer], observation_space=space, action_space=actions)
        dataset.storage.update_metadata({"aspc_env_id": recorded})
    data = load(name)
    assert data.env == env and data.max_action == pytest.approx(bound)
    assert ("reference returns" in data.attributes["notes"]) == (env != recorded)
