"""OGBench's single tasks: success is the score, episodes are repeatable, and a file made there trains and is scored."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from aspc_fast.cli import main
from aspc_fast.config import AgentConfig
from aspc_fast.data.load import load
from aspc_fast.errors import UserError
from aspc_fast.evaluation import evaluate, make_task
from aspc_fast.results.records import Observer
from aspc_fast.run.train import TrainSettings, train
from tests.helpers import toy_data

pytest.importorskip("ogbench", reason="the package ogbench is not installed")
gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")

ENV = "pointmaze-medium-singletask-task1-v0"
DATASET = "pointmaze-medium-navigate-singletask-task1-v0"


class Guide:
    """Walks the maze by the package's own breadth-first search; ``away`` walks the other way."""

    def __init__(self, away: bool = False) -> None:
        self._maze = gymnasium.make(ENV, disable_env_checker=True).unwrapped
        Path(self._maze.fullpath).unlink()  # the package leaves it in the temporary folder
        self._maze.reset(seed=0)
        self._sign = -1.0 if away else 1.0

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        actions = []
        for xy in observations:
            goal = self._maze.cur_goal_xy
            subgoal, _ = self._maze.get_oracle_subgoal(xy, goal)
            near = self._maze.xy_to_ij(xy) == self._maze.xy_to_ij(goal)
            actions.append((goal if near else subgoal) - xy)
        size = np.linalg.norm(actions, axis=1, keepdims=True)
        return self._sign * np.array(actions) / np.maximum(size, 1.0)


def test_the_score_is_the_success_rate() -> None:
    reached, lost = evaluate(Guide(), ENV, episodes=4), evaluate(Guide(away=True), DATASET, episodes=4)
    assert reached.score == 100.0 and set(reached.returns) == {1.0} and (reached.lengths < 400).all()
    assert lost.score == 0.0 and set(lost.lengths) == {1000}
    assert lost.env == ENV and "success rate" in lost.comparable and lost.engine.startswith("ogbench ")


def test_episodes_depend_on_the_seed_alone_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Guide()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def lengths(seed: int) -> list[int]:
        return evaluate(guide, ENV, episodes=3, seed=seed, max_envs=2).lengths.tolist()

    handles = len(os.listdir("/proc/self/fd"))
    np.random.seed(1)
    first = lengths(5)
    drawn = np.random.random()
    np.random.seed(1)
    assert np.random.random() == drawn  # numpy's global generator is where it was
    assert lengths(5) == first and lengths(6) != first
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= handles


def test_manipulation_has_its_own_horizon_and_bound_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = make_task("cube-single-play-singletask-task2-v0")
        simulator = task.open([0])
        assert simulator.reset().shape == (1, 28)
        simulator.close()
    assert (task.env, task.horizon, task.obs_dim, task.act_dim, task.max_action) == (
        "cube-single-singletask-task2-v0", 200, 28, 5, 1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("antmaze-large-navigate-v0", "only single tasks are known, as antmaze-large-singletask-task1-v0"),
        ("visual-antmaze-large-singletask-v0", "pixels"),
        ("cube-single-singletask-task9-v0", "no such task"),
    ],
)
def test_what_cannot_be_evaluated_is_told(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        make_task(name)


def recorded(folder: Path) -> Path:
    """Four walks to the goal recorded in the environment, relabelled by the package, saved as a compact .npz."""
    from ogbench.relabel_utils import relabel_dataset

    env = gymnasium.make(ENV, terminate_at_goal=False, disable_env_checker=True)
    Path(env.unwrapped.fullpath).unlink()
    guide, rng = Guide(), np.random.default_rng(0)
    rows: dict[str, list[np.ndarray]] = {"observations": [], "actions": [], "terminals": [], "qpos": []}
    for episode in range(4):
        observation, _ = env.reset(seed=episode)
        for step in range(300):
            action = np.clip(guide(observation[None])[0] + rng.normal(0, 0.3, 2), -1, 1)
            for name, value in (("observations", observation), ("actions", action), ("qpos", env.unwrapped.data.qpos)):
                rows[name].append(np.array(value, np.float32))
            rows["terminals"].append(np.array(step == 299, np.float32))
            observation = env.step(action.astype(np.float32))[0]
    raw = {name: np.array(value) for name, value in rows.items()}
    import ogbench

    np.savez(folder / "raw.npz", **raw)
    dataset = ogbench.load_dataset(folder / "raw.npz", compact_dataset=True, add_info=True)
    relabel_dataset(ENV, env, dataset)
    path = folder / f"{DATASET}.npz"
    np.savez(path, **dataset)
    return path


def test_a_file_made_in_the_environment_trains_and_is_scored_and_the_commands_say_how(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, out = recorded(tmp_path), tmp_path / "r"
    data = load(path)
    assert data.env == ENV and len(data) == 4 * 299 and data.episode_lengths.tolist() == [299] * 4
    assert 0 < data.terminals.sum() < len(data) and set(np.unique(data.rewards)) == {-1.0, 0.0}
    with pytest.raises(UserError, match=r"raw\.npz: .*relabel_dataset\(NAME, gymnasium.make\(NAME\)"):
        load(tmp_path / "raw.npz")

    def said(code: int, *words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert ended.value.code == code
        told = capsys.readouterr()
        return " ".join((told.err if code else told.out).split())

    options = "--steps 10 --eval-episodes 1 --log-every 5 --device cpu --engine eager --hidden-dim 8 --batch-size 8"
    assert "terminals are the rows whose mask is 0" in said(0, "data", "info", str(path))
    told = said(0, "train", str(path), *options.split(), "--out", str(out))
    assert (
        "terminals are the rows whose mask is 0" in told and f"success rate 0.0 +- 0.0 over 1 episodes of {ENV}" in told
    )
    assert "success rate 0.0" in said(0, "evaluate", str(out), "--episodes", "1")
    assert "cannot be filmed" in said(2, "watch", str(out))


def test_data_of_other_dimensions_trains_without_evaluation() -> None:
    class Heard(Observer):
        told = ""

        def on_message(self, text: str) -> None:
            self.told += text

    heard, data = Heard(), toy_data(env=ENV)
    settings = TrainSettings(steps=10, eval_every=5, log_every=5, device="cpu", engine="eager")
    run = train(data, AgentConfig(hidden_dim=8, batch_size=8), settings, observer=heard)
    assert run.summary["score"] is None and f"action entries, {ENV} 2 and 2" in heard.told
