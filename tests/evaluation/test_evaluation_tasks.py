"""Every dataset of the suite has a task whose simulator agrees with the suite's table."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from aspc_fast import suite
from aspc_fast.errors import UserError
from aspc_fast.evaluation import evaluate, make_task, rollout
from tests.evaluation.pretrained import Uniform

ENVS = sorted({row.env for row in suite.SUITE})


@pytest.mark.parametrize("domain", sorted({row.domain for row in suite.SUITE}))
def test_every_score_says_how_it_compares(domain: str) -> None:
    row = next(row for row in suite.SUITE if row.domain == domain)
    pytest.importorskip(row.engine.replace("-", "_"))
    for frame in ("simulator", "d4rl"):
        told = make_task(row.id, frame).comparable
        assert "D4RL" in told and "{" not in told
        assert told.startswith("not comparable") == (domain == "AntMaze" and frame == "simulator")


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("frame", ["simulator", "d4rl"])
def test_simulator_of_an_environment(env: str, frame: str) -> None:
    row = suite.for_env(env)
    assert row is not None
    pytest.importorskip(row.engine.replace("-", "_"))
    simulator = make_task(env, frame).open([5, 6])
    observations = simulator.reset()
    assert observations.shape == (2, row.obs_dim) and observations.dtype == np.float64
    assert not np.array_equal(observations[0], observations[1])
    observations, rewards, terminals = simulator.step(np.zeros((2, row.act_dim)))
    assert observations.shape == (2, row.obs_dim) and np.isfinite(observations).all()
    assert (rewards.shape, rewards.dtype, terminals.shape, terminals.dtype) == ((2,), np.float64, (2,), np.bool_)
    simulator.close()


@pytest.mark.parametrize("env", [env for env in ENVS if not env.startswith("AntMaze")])
def test_action_boxes_are_plus_minus_one(env: str) -> None:
    envpool = pytest.importorskip("envpool")
    box = envpool.make_spec(env).action_space
    assert np.all(box.low == -1.0) and np.all(box.high == 1.0)
    assert box.dtype == (np.float64 if env.endswith("-v4") else np.float32)


def test_unknown_names_and_frames_are_refused() -> None:
    with pytest.raises(UserError, match=r"unknown simulator task or dataset id 'hoper-medium-v2'.*hopper-medium-v2"):
        make_task("hoper-medium-v2")
    with pytest.raises(UserError, match=r"unknown frame 'upside'.*simulator, d4rl"):
        make_task("maze2d-umaze-v1", "upside")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("pen-human-v1", "envpool", "eval"),
        ("kitchen-mixed-v0", "envpool", "eval"),
        ("antmaze-umaze-v2", "gymnasium-robotics", "eval"),
        ("cube-single-singletask-v0", "ogbench", "ogbench"),
    ],
)
def test_a_missing_simulator_is_one_sentence_with_its_cure(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(UserError, match=rf"{package}.*pip install 'aspc_fast\[{extra}\]'"):
        evaluate(Uniform(24), name)


def test_importing_evaluation_loads_no_simulator() -> None:
    code = (
        "import sys, aspc_fast.evaluation; "
        "print(sorted({'envpool', 'gymnasium', 'gymnasium_robotics', 'mujoco'} & sys.modules.keys()))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_equal_seeds_repeat_and_neighbouring_seeds_share_no_start() -> None:
    pytest.importorskip("envpool")
    starts: list[np.ndarray] = []

    class Damped(Uniform):
        """A row-wise policy that notes where its episodes start."""

        def __init__(self) -> None:
            self.first = True

        def __call__(self, observations: np.ndarray) -> np.ndarray:
            if self.first:
                starts.append(observations.copy())
            self.first = False
            return -0.1 * observations[:, 5:8]

    one, two = (evaluate(Damped(), "Hopper-v4", 12, seed=4, threads=threads) for threads in (1, 2))
    pieces = evaluate(Damped(), "Hopper-v4", 12, seed=4, max_envs=5)
    other = evaluate(Damped(), "Hopper-v4", 12, seed=5)
    np.testing.assert_array_equal(one.returns, two.returns)
    np.testing.assert_array_equal(one.returns, pieces.returns)
    np.testing.assert_array_equal(one.lengths, pieces.lengths)
    assert len(np.unique(one.returns)) == 12
    assert not np.intersect1d(one.returns, other.returns).size
    here, there = starts[0], starts[-1]
    assert not (here[:, None] == there[None]).all(axis=2).any()


def test_no_reward_or_step_of_envpools_next_episode_is_counted() -> None:
    """Hopper falls at different times: an episode's return is the raw simulator's sum up to its own fall."""
    envpool = pytest.importorskip("envpool")
    from aspc_fast.evaluation.rollout import episode_seeds

    result = evaluate(lambda o: np.full((len(o), 3), 0.3), "hopper-random-v2", 8, seed=2)
    assert len(set(result.lengths.tolist())) > 1
    for seed, expected, length in zip(episode_seeds(2, 8), result.returns, result.lengths, strict=True):
        pool = envpool.make_gymnasium("Hopper-v4", num_envs=1, env_seed=[seed])
        pool.reset()
        rewards, ended = [], False
        while not ended:
            _, reward, terminal, cut, _ = pool.step(np.full((1, 3), 0.3))
            rewards.append(float(reward[0]))
            ended = bool(terminal[0] or cut[0])
        assert len(rewards) == length
        assert expected == pytest.approx(sum(rewards), abs=1e-9)
        pool.close()


def test_a_run_in_a_batch_meets_the_episodes_it_would_meet_alone() -> None:
    pytest.importorskip("envpool")

    def bend(observations: np.ndarray) -> np.ndarray:
        return 0.2 * observations[:, 5:8]

    alone = rollout(bend, make_task("Hopper-v4"), 3, seed=6)
    batch = rollout(bend, make_task("Hopper-v4"), 9, seed=6, episodes_per_run=3)
    assert len(np.unique(alone.returns)) == 3
    np.testing.assert_array_equal(batch.returns, np.tile(alone.returns, 3))
    np.testing.assert_array_equal(batch.lengths, np.tile(alone.lengths, 3))
