"""Minari datasets: the round trip of our own, and the layouts of others flattened to D4RL's."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aspc_fast.cli.data import make
from aspc_fast.data.download import get
from aspc_fast.data.load import load
from aspc_fast.data.minari import quiet_minari
from aspc_fast.errors import UserError
from aspc_fast.mazes import fixed_target_rewards

minari = pytest.importorskip("minari")
gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def box(*shape: int, bound: float = np.inf) -> Any:
    return spaces.Box(-bound, bound, shape, np.float64)


def create(
    dataset_id: str, observation_space: Any, act_dim: int, observe: Any, bound: float = 1.0, **flags: Any
) -> None:
    """Two episodes of six steps; ``observe(steps)`` gives the observations."""
    from minari.data_collector import EpisodeBuffer

    rng = np.random.default_rng(0)
    rewards = flags.get("rewards", [0.0] * 6)
    buffers = [
        EpisodeBuffer(
            observations=observe(7),
            actions=rng.uniform(-bound, bound, (6, act_dim)),
            rewards=list(rewards),
            terminations=flags.get("terminations", [False] * 6),
            truncations=[False] * 5 + [True],
        )
        for _ in range(2)
    ]
    with quiet_minari():
        minari.create_dataset_from_buffers(
            dataset_id, buffers, observation_space=observation_space, action_space=box(act_dim, bound=bound)
        )


def maze_space(width: int) -> Any:
    return spaces.Dict({"observation": box(width), "achieved_goal": box(2), "desired_goal": box(2)})


def maze_states(width: int) -> Any:
    rng = np.random.default_rng(1)
    return lambda n: {
        "observation": rng.normal(size=(n, width)),
        "achieved_goal": rng.normal(size=(n, 2)),
        "desired_goal": rng.normal(size=(n, 2)),
    }


def test_make_in_both_formats_gives_the_same_arrays(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("envpool")
    make("maze2d-umaze", transitions=1500, seed=4, out=str(tmp_path / "x.hdf5"))
    make("maze2d-umaze", transitions=1500, seed=4, format="minari", out="aspc/maze2d-umaze-v0")
    assert "1,500 transitions" in capsys.readouterr().out
    one, other = load(tmp_path / "x.hdf5"), load("aspc/maze2d-umaze-v0")
    for name in ("observations", "actions", "rewards", "next_observations", "terminals", "episode_lengths"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.fingerprint, one.env, one.frame) == (other.fingerprint, other.env, other.frame)
    assert other.attributes["seed"] == "4" and one.rewards.any()
    with pytest.raises(UserError, match="already there"):
        make("maze2d-umaze", transitions=1500, format="minari", out="aspc/maze2d-umaze-v0")
    assert not [path for path in root.iterdir() if path.name.startswith(".")]


def test_box_observations_and_the_bound_of_the_actions(root: Path) -> None:
    rng = np.random.default_rng(0)
    create("mine/box-v0", box(5), 3, lambda n: rng.normal(size=(n, 5)), bound=2.0, terminations=[False] * 5 + [True])
    data = load("mine/box-v0")
    assert (data.obs_dim, data.act_dim, data.max_action, data.env) == (5, 3, 2.0, None)
    assert len(data) == 10 and data.timeout_count == 2 and data.episode_lengths.tolist() == [6, 6]
    np.testing.assert_array_equal(data.next_observations[:4], data.observations[1:5])


def test_point_mazes_keep_observation_and_get_the_fixed_targets_reward(root: Path) -> None:
    create("D4RL/pointmaze/umaze-v2", maze_space(4), 2, maze_states(4), rewards=[1.0] * 6)
    data = load("D4RL/pointmaze/umaze-v2")
    assert data.obs_dim == 4 and data.env == "PointMaze_UMaze-v3" and data.dataset_id is None
    np.testing.assert_array_equal(data.rewards, fixed_target_rewards(data.observations, (-0.8, 0.8)))
    assert not data.rewards.all() and "recomputed" in data.attributes["notes"]


@pytest.mark.parametrize("width", [27, 105])
def test_ant_mazes_are_position_plus_27(root: Path, width: int) -> None:
    states = maze_states(width)(7)
    create("D4RL/antmaze/umaze-v1", maze_space(width), 8, lambda n: states, rewards=[0, 0, 1, 0, 0, 1.0])
    data = load("D4RL/antmaze/umaze-v1")
    assert data.obs_dim == 29 and data.env == "AntMaze_UMaze-v4"
    np.testing.assert_array_equal(data.observations[:6, :2], states["achieved_goal"][:6].astype(np.float32))
    np.testing.assert_array_equal(data.observations[:6, 2:], states["observation"][:6, :27].astype(np.float32))
    # goal hits are terminal and survive the time-out that Minari sets on the last step
    assert data.terminals.tolist() == [False, False, True, False, False, True] * 2 and data.rewards.sum() == 4
    assert ("not comparable" in data.attributes["notes"]) == (width == 105)


def test_other_dicts_are_refused(root: Path) -> None:
    space = spaces.Dict({"camera": box(4), "speed": box(1)})
    create("mine/odd-v0", space, 2, lambda n: {"camera": np.zeros((n, 4)), "speed": np.zeros((n, 1))})
    with pytest.raises(UserError, match="camera, speed"):
        load("mine/odd-v0")


def test_missing_and_damaged_datasets(root: Path) -> None:
    with pytest.raises(UserError, match=r"aspc-fast data get D4RL/pen/human-v2"):
        load("D4RL/pen/human-v2")
    folder = root / "mine" / "broken-v0" / "data"
    folder.mkdir(parents=True)
    (folder / "main_data.hdf5").write_bytes(b"nothing")
    (folder / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match=r"broken-v0/data/metadata.json: total_episodes is 'None'"):
        load("mine/broken-v0")


@pytest.mark.parametrize("name", ["plain", "a/b", "../up-v0", "a//b-v0", "/abs/x-v0", "a/b-v"])
def test_malformed_ids_for_a_new_dataset(root: Path, name: str) -> None:
    with pytest.raises(UserError, match="no Minari id"):
        make("maze2d-umaze", transitions=10, format="minari", out=name)


def test_reading_needs_no_minari_and_fetching_names_the_extra(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create("mine/x-v0", box(5), 3, lambda n: np.zeros((n, 5)))
    monkeypatch.setitem(sys.modules, "minari", None)
    assert load("mine/x-v0").obs_dim == 5
    with pytest.raises(UserError, match=r"pip install 'aspc_fast\[data\]'"):
        get("mine/y-v0")


def test_an_environment_named_by_a_file_is_never_built(root: Path, tmp_path: Path) -> None:
    """Without a space Minari builds the environment of ``env_spec``, whose entry point may be any function at all."""
    create("mine/evil-v0", box(5), 3, lambda n: np.zeros((n, 5)))
    described = root / "mine/evil-v0/data/metadata.json"
    metadata = json.loads(described.read_text())
    del metadata["observation_space"]
    spec = {"id": "Evil-v0", "entry_point": "os:mkdir", "kwargs": {"path": str(tmp_path / "fired")}}
    described.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    assert "Evil-v0" in load("mine/evil-v0").attributes["notes"]
    assert not (tmp_path / "fired").exists()


def test_links_inside_a_minari_file_are_refused(root: Path, tmp_path: Path) -> None:
    create("mine/link-v0", box(5), 3, lambda n: np.zeros((n, 5)))
    path = root / "mine/link-v0/data/main_data.hdf5"
    shutil.copy(path, tmp_path / "other.hdf5")
    for name in ("episode_1", "episode_1/rewards", "episode_1/observations"):
        shutil.copy(tmp_path / "other.hdf5", path)
        with h5py.File(path, "a") as file:
            del file[name]
            file[name] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), name)
        with pytest.raises(UserError, match="link to elsewhere"):
            load("mine/link-v0")
