"""Whole and wild files: what the readers must accept, and D4RL's rules for cutting them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from aspc_fast.data.arrays import from_arrays, horizon_cuts
from aspc_fast.data.load import load

Save = Callable[..., Path]
Fields = dict[str, np.ndarray]
BOTH = pytest.mark.parametrize("suffix", [".hdf5", ".h5", ".npz"])


def same(one, other) -> None:
    assert one.fingerprint == other.fingerprint
    for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@BOTH
def test_a_plain_file_gives_its_rows_but_the_timed_out(fields: Fields, save: Save, suffix: str) -> None:
    data = load(save(fields, suffix))
    keep = ~fields["timeouts"]
    assert len(data) == 28 and data.timeout_count == 2
    for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
        np.testing.assert_array_equal(getattr(data, name), fields[name][keep])
    assert data.terminals.dtype == bool and int(data.terminals.sum()) == 1
    assert {data.observations.dtype, data.actions.dtype, data.rewards.dtype} == {np.dtype(np.float32)}
    assert (data.env, data.dataset_id, data.max_action, data.frame) == (None, None, 1.0, "simulator")


@BOTH
@pytest.mark.parametrize("flag", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_wild_dtypes_and_shapes_give_the_same_dataset(fields: Fields, save: Save, suffix: str, flag: type) -> None:
    wild = {name: array.astype(np.float64) for name, array in fields.items()}
    wild["rewards"] = wild["rewards"].reshape(-1, 1)
    wild["terminals"] = fields["terminals"].astype(flag).reshape(-1, 1)
    wild["timeouts"] = fields["timeouts"].astype(flag)
    same(load(save(wild, suffix)), load(save(fields, suffix, name="plain")))


def test_big_endian_compressed_and_half_precision_arrays(fields: Fields, tmp_path: Path) -> None:
    path = tmp_path / "odd.hdf5"
    with h5py.File(path, "w") as file:
        for name, array in fields.items():
            dtype = array.dtype if array.dtype == bool else ">f8"
            file.create_dataset(name, data=array.astype(dtype), chunks=True, compression="gzip", shuffle=True)
    same(load(path), from_arrays(**fields))
    fields["rewards"] = fields["rewards"].astype(np.float16)
    assert from_arrays(**fields).rewards.dtype == np.float32


def test_extra_groups_are_ignored(fields: Fields, save: Save) -> None:
    path = save(fields)
    with h5py.File(path, "a") as file:
        file.create_group("infos").create_dataset("qpos", data=np.full((30, 3), np.nan))
        file.create_group("metadata").create_dataset("algorithm", data="SAC")
    same(load(path), from_arrays(**fields))


def test_without_next_observations_the_next_row_is_the_successor(fields: Fields) -> None:
    del fields["next_observations"]
    data = from_arrays(**fields)
    keep = ~fields["timeouts"]
    keep[-1] = False
    np.testing.assert_array_equal(data.next_observations, fields["observations"][np.flatnonzero(keep) + 1])
    assert int(data.terminals.sum()) == 1
    fields["timeouts"][:] = False
    assert len(from_arrays(**fields)) == 29  # the last row has no successor


def test_rows_both_terminal_and_timed_out_are_dropped(fields: Fields) -> None:
    fields["terminals"][19] = True
    assert int(from_arrays(**fields).terminals.sum()) == 1


def reference_cuts(terminals: np.ndarray, horizon: int) -> list[int]:
    cuts, step = [], 0
    for row, terminal in enumerate(terminals):
        step += 1
        if step == horizon:
            cuts.append(row)
        if terminal or step == horizon:
            step = 0
    return cuts


@pytest.mark.parametrize("horizon", [1, 3, 7, 100])
def test_the_horizon_cuts_streams_without_timeouts(horizon: int) -> None:
    terminals = np.random.default_rng(horizon).random(200) < 0.1
    assert np.flatnonzero(horizon_cuts(terminals, horizon)).tolist() == reference_cuts(terminals, horizon)
    assert not horizon_cuts(terminals, None).any()


def test_the_known_tasks_horizon_is_used(fields: Fields) -> None:
    rng = np.random.default_rng(1)
    rows = 350
    data = from_arrays(
        rng.normal(size=(rows, 45)), rng.uniform(-1, 1, (rows, 24)), np.ones(rows), np.zeros(rows), env="pen-human-v1"
    )
    assert data.timeout_count == 3 and data.episode_lengths.tolist() == [100] * 3
    assert len(data) == 350 - 3 - 1 and data.dataset_id == "pen-human-v1" and data.env == "AdroitHandPen-v1"


def test_episode_statistics_count_timed_out_rows_and_no_tail(fields: Fields) -> None:
    data = from_arrays(**fields)
    whole = fields["rewards"].astype(np.float64).reshape(3, 10).sum(1)
    np.testing.assert_allclose(data.episode_returns, whole)
    assert data.episode_lengths.tolist() == [10, 10, 10]
    fields["timeouts"][29] = False
    assert from_arrays(**fields).episode_lengths.tolist() == [10, 10]
    fields["timeouts"][:] = fields["terminals"][:] = False
    assert from_arrays(**fields).episode_lengths.tolist() == [30]


def test_a_rounding_excess_of_actions_is_clipped(fields: Fields) -> None:
    fields["actions"][3, 1] = 1.00003
    fields["actions"][4, 0] = -1.00003
    data = from_arrays(**fields)
    assert (data.actions[3, 1], data.actions[4, 0]) == (1.0, -1.0)


def test_max_action_from_attribute_and_option(fields: Fields, save: Save) -> None:
    fields["actions"] = fields["actions"] * 2.5
    path = save(fields, attributes={"max_action": 2.5})
    assert load(path).max_action == 2.5
    assert load(path, max_action=3).max_action == 3
    archive = save({**fields, "max_action": np.array(2.5), "env_id": np.array("none")}, ".npz")
    assert load(archive).max_action == 2.5


def test_the_fingerprint_follows_the_numbers(fields: Fields) -> None:
    before = from_arrays(**fields).fingerprint
    assert from_arrays(**fields).fingerprint == before
    fields["rewards"][0] += 1
    assert from_arrays(**fields).fingerprint != before


def test_attributes_come_as_text(fields: Fields, save: Save) -> None:
    data = load(save(fields, attributes={"how": "by hand", "seed": 3}))
    assert data.attributes == {"how": "by hand", "seed": "3"}
