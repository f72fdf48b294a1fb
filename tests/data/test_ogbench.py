"""OGBench's three layouts give the transitions that OGBench itself makes of them, and what they lack is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aspc_fast.data.arrays import from_arrays
from aspc_fast.data.load import load
from aspc_fast.data.tasks import guess_task
from aspc_fast.environments import ogbench_name
from aspc_fast.errors import UserError

Fields = dict[str, np.ndarray]
Save = Callable[..., Path]
NAME = "pointmaze-medium-navigate-singletask-task1-v0"


@pytest.fixture
def raw() -> Fields:
    """Three trajectories of 6, 5 and 4 states, as downloaded: only a trajectory's last state is marked."""
    rng = np.random.default_rng(0)
    terminals = np.zeros(15, np.float32)
    terminals[[5, 10, 14]] = 1
    return {
        "observations": rng.normal(size=(15, 2)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (15, 2)).astype(np.float32),
        "terminals": terminals,
        "qpos": rng.normal(size=(15, 2)).astype(np.float32),
    }


def relabelled(dataset: Fields) -> Fields:
    """Rewards and masks as a single task gives them: the goal is reached where the first action is above 0.3."""
    reached = dataset["actions"][:, 0] > 0.3
    return dataset | {"rewards": reached.astype(np.float32) - 1, "masks": 1 - reached.astype(np.float32)}


def layouts(raw: Fields, folder: Path) -> dict[str, Fields]:
    """What the package makes of a raw file, and the raw file itself, all with rewards and masks."""
    ogbench = pytest.importorskip("ogbench", reason="the package ogbench is not installed")
    path = folder / "file.npz"
    np.savez(path, **raw)
    made = {"regular": ogbench.load_dataset(path), "compact": ogbench.load_dataset(path, compact_dataset=True)}
    return {name: relabelled(dataset) for name, dataset in (made | {"raw": raw}).items()}


@pytest.mark.parametrize("layout", ["regular", "compact", "raw"])
def test_every_layout_gives_ogbenchs_own_transitions(raw: Fields, save: Save, tmp_path: Path, layout: str) -> None:
    all_layouts = layouts(raw, tmp_path)
    truth, given = all_layouts["regular"], all_layouts[layout]
    assert ("next_observations" in given) == (layout == "regular") and ("valids" in given) == (layout == "compact")
    for data in (load(save(given, ".npz", NAME)), from_arrays(**{k: v for k, v in given.items() if k != "qpos"})):
        for name in ("observations", "actions", "rewards", "next_observations"):
            np.testing.assert_array_equal(getattr(data, name), truth[name])
        np.testing.assert_array_equal(data.terminals, truth["masks"] == 0)
        assert data.terminals.any() and not data.terminals.all()
        assert data.episode_lengths.tolist() == [5, 4, 3]
        np.testing.assert_allclose(
            data.episode_returns, [truth["rewards"][s].sum() for s in np.split(np.arange(12), [5, 9])]
        )
        ended_by_time = [truth["masks"][last] != 0 for last in (4, 8, 11)]
        assert data.timeout_count == sum(ended_by_time)
        assert "terminals are the rows whose mask is 0" in data.attributes["notes"]


def test_masks_that_repeat_terminals_change_nothing(fields: Fields, save: Save) -> None:
    plain = load(save(fields, ".npz"))
    both = fields | {"masks": ~fields["terminals"]}
    assert load(save(both, ".npz", "both")).fingerprint == plain.fingerprint
    del both["timeouts"], fields["timeouts"]
    data = load(save(both, ".npz", "neither"))
    assert data.fingerprint == load(save(fields, ".npz", "without")).fingerprint and "notes" not in data.attributes


def test_contradictions_name_the_row(fields: Fields, save: Save) -> None:
    masks = ~fields["terminals"]
    masks[3] = False
    with pytest.raises(UserError, match="terminals and masks are both 0 in row 3"):
        load(save(fields | {"masks": masks}))
    with pytest.raises(UserError, match="'masks' is missing"):
        load(save(fields | {"valids": masks}, name="v"))
    with pytest.raises(UserError, match="masks is 2"):
        load(save({k: v for k, v in fields.items() if k != "timeouts"} | {"masks": masks * 2}, name="two"))


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_a_raw_file_names_the_function_that_relabels_it(raw: Fields, save: Save, suffix: str) -> None:
    for name in ("cube-double-play-v0", "anything"):
        with pytest.raises(UserError, match=r"rewards and masks are missing: ogbench\.relabel_utils\.relabel_dataset"):
            load(save(raw, suffix, name))
    with pytest.raises(UserError, match="such as cube-double-singletask-v0"):
        load(save(raw, suffix, "cube-double-play-v0"))
    ready = relabelled(raw)
    del ready["masks"]
    with pytest.raises(UserError, match="masks are missing"):
        load(save(ready, suffix, NAME))
    assert load(save(ready, suffix, "mine")).terminals.sum() == 2  # no sign of OGBench: D4RL's sense
    del raw["qpos"]
    with pytest.raises(UserError, match="the array 'rewards' is missing"):
        load(save(raw, suffix, "mine"))


@pytest.mark.parametrize(
    ("stem", "env"),
    [
        ("antmaze-large-navigate-singletask-task2-v0", "antmaze-large-singletask-task2-v0"),
        ("antmaze_large_navigate_singletask_v0", "antmaze-large-singletask-v0"),
        ("antmaze-large-navigate-singletask-v0-val", "antmaze-large-singletask-v0"),
        ("antmaze-large-navigate-v0", None),
        ("puzzle-4x4-play-singletask-v0", "puzzle-4x4-singletask-v0"),
        ("antmaze-large-play-v2", "AntMaze_Large-v4"),
        ("antmaze-large-play", "AntMaze_Large-v4"),
    ],
)
def test_ogbenchs_antmaze_is_not_taken_for_d4rls(stem: str, env: str | None) -> None:
    assert guess_task(None, stem).env == env


def test_every_name_of_the_package_is_known() -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    pytest.importorskip("ogbench", reason="the package ogbench is not installed")
    names = [name for name, spec in gymnasium.registry.items() if str(spec.entry_point).startswith("ogbench.")]
    assert len(names) > 200
    for name in names:
        assert ogbench_name(name) == (name, "singletask" in name)
