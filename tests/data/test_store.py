"""Datasets read once into shared memory, by several processes, and kept decoded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aspc_fast.cli import main
from aspc_fast.config import AgentConfig
from aspc_fast.data import cache, decode
from aspc_fast.data import store as stores
from aspc_fast.data.load import load
from aspc_fast.data.packed import Compact, Packing, describe, pack
from aspc_fast.data.store import load_store
from aspc_fast.engine.replay import _Block
from aspc_fast.errors import UserError
from aspc_fast.run.population import RunSpec, build_population
from tests.helpers import toy_data
from tests.run.test_train import write_data


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASPC_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH_KEEPING", 0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_data(tmp_path / "a.hdf5"), write_data(tmp_path / "b.hdf5", 17, 6, "Walker2d-v4")]


def pairs(files: list[Path]) -> list[tuple[str, str | None]]:
    return [(str(path), None) for path in files]


@pytest.mark.parametrize("store_next", [True, False])
@pytest.mark.parametrize("processes", [0, 2])
def test_batches_are_those_of_the_loaded_datasets(files: list[Path], store_next: bool, processes: int) -> None:
    config = AgentConfig(hidden_dim=8, batch_size=32, normalise_eps=0.01)
    runs = [RunSpec(i, config, seed) for i in (0, 1) for seed in (0, 1)]
    plain = build_population([load(path) for path in files], runs, store_next=store_next)
    for _ in range(2):  # decoded, then from the cache
        store = load_store(pairs(files), Packing(0.01, store_next), processes)
        population = build_population(store.datasets, runs, store=store.array())
        store.close()
        replays = [p.engine._parts for p in (plain, population)]  # type: ignore[attr-defined]
        for one, other in zip(*replays, strict=True):
            left = list(one.replay.sample(plain.spec, one.hyper, 1, 5))
            right = list(other.replay.sample(plain.spec, other.hyper, 1, 5))
            for a, b in zip(left, right, strict=True):
                assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        for one, other in zip(plain.datasets, population.datasets, strict=True):
            for name in ("source", "fingerprint", "env", "frame", "max_action", "obs_dim", "act_dim", "dataset_id"):
                assert getattr(one, name) == getattr(other, name), name
            assert np.array_equal(one.episode_returns, other.episode_returns)
        for one, other in zip(plain.normalisers, population.normalisers, strict=True):
            assert np.array_equal(one.mean, other.mean) and np.array_equal(one.std, other.std)


def test_next_states_that_are_not_the_next_rows_are_packed_exactly() -> None:
    rng = np.random.default_rng(0)
    data = toy_data(rows=201)  # the last row has no successor
    for share in (0.02, 0.9):  # few: extra rows; many: stored after all
        broken = rng.random(200) < share
        successors = np.where(broken[:, None], rng.normal(size=(200, 5)), data.next_observations).astype(np.float32)
        changed = dataclasses.replace(data, next_observations=successors)
        compact = Compact.of(changed)
        packed = describe(compact, Packing(1e-3, False))
        assert packed.store_next == (share > 0.2)
        block = np.full((packed.stored_rows, packed.width), np.nan, dtype=np.float32)
        pack(compact, packed, block)
        assert np.isfinite(block).all()
        rows = np.arange(200) + np.searchsorted(packed.breaks + 1, np.arange(200), side="right")
        found = block[rows, 7:12] if packed.store_next else block[rows + 1, :5]
        assert np.array_equal(found, packed.normaliser(successors))


def test_next_actions_and_raw_states_lie_where_replay_has_them() -> None:
    data = toy_data(rows=120, timeouts=np.arange(120) % 50 == 20)
    compact = Compact.of(data)
    for eps in (None, 0.5):
        for store_next in (True, False):
            packed = describe(compact, Packing(eps, store_next, next_actions=True))
            block = np.full((packed.stored_rows, packed.width), np.nan, dtype=np.float32)
            pack(compact, packed, block)
            ours = _Block(data, store_next, next_actions=True)
            theirs = torch.zeros(ours.rows, ours.width)
            ours.fill(theirs, packed.normaliser)
            assert np.array_equal(theirs.numpy(), block)
    assert np.array_equal(describe(compact, Packing(None, True)).normaliser(data.observations), data.observations)


def test_a_bad_file_is_the_same_sentence_from_a_process(files: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.hdf5"
    bad.write_bytes(b"no such thing")
    with pytest.raises(UserError) as plain:
        load(bad)
    with pytest.raises(UserError) as told:
        load_store(pairs([*files, bad]), Packing(1e-3, True), processes=2)
    assert str(told.value) == str(plain.value)


def test_memory_bounds_how_many_are_decoded_at_once(files: list[Path]) -> None:
    store = stores.Store(Packing(1e-3, True))
    jobs = [decode.Job("x", None, 1e-3, True)] * 4
    work = stores._Decoders(store, jobs, [100, 100, 100, 5000], lambda *_: None, {})
    assert work._waiting[0] == 3
    assert work._fits(3)  # one always may
    work._busy = {object(): 3}  # type: ignore[dict-item]
    assert not work._fits(0)
    work._busy = {object(): 0}  # type: ignore[dict-item]
    assert work._fits(1)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def note(source: str, **options: Any) -> Any:
        calls.append(Path(source).name)
        return load(source, **options)

    monkeypatch.setattr(decode, "load", note)
    return calls


def test_a_second_start_reads_the_decoded_copy_until_the_file_changes(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    for _ in range(2):
        load_store(pairs(files), Packing(1e-3, True), 0)
    assert calls == ["a.hdf5", "b.hdf5"]
    write_data(files[0], 11, 3, None)
    changed = load_store(pairs(files), Packing(1e-3, True), 0)
    assert calls[2:] == ["a.hdf5"] and changed.datasets[0].env is None
    load_store([(str(files[1]), "Walker2d-v4")], Packing(1e-3, True), 0)  # asked for in another way
    assert calls[3:] == ["b.hdf5"]


@pytest.mark.parametrize("where", [3, 12, 40, -5])
def test_a_damaged_copy_is_not_believed(files: list[Path], where: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_store(pairs(files[:1]), Packing(1e-3, True), 0)
    (entry,) = cache.entries()
    damaged = bytearray(entry.path.read_bytes())
    damaged[where] ^= 0x41
    entry.path.write_bytes(damaged)
    calls = counted(monkeypatch)
    after = load_store(pairs(files[:1]), Packing(1e-3, True), 0)
    assert calls == ["a.hdf5"] and np.array_equal(before.array(), after.array())


def test_the_cache_is_bounded_and_the_oldest_go_first(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_store(pairs(files), Packing(1e-3, True), 0)
    sizes = {Path(entry.source).name: entry.bytes for entry in cache.entries()}
    monkeypatch.setenv("ASPC_FAST_CACHE_GB", str((sizes["b.hdf5"] + sizes["a.hdf5"] + 100) / 1e9))
    load_store(pairs(files[:1]), Packing(1e-3, True), 0)  # a is used again, so b is the oldest
    load_store(pairs([write_data(tmp_path / "c.hdf5")]), Packing(1e-3, True), 0)
    assert {Path(entry.source).name for entry in cache.entries()} == {"a.hdf5", "c.hdf5"}
    monkeypatch.setenv("ASPC_FAST_CACHE_GB", "0")
    load_store(pairs([write_data(tmp_path / "d.hdf5")]), Packing(1e-3, True), 0)
    assert len(list(cache.entries())) == 2


def test_the_command_shows_and_clears_the_cache(files: list[Path], capsys: pytest.CaptureFixture) -> None:
    load_store(pairs(files), Packing(1e-3, True), 0)
    files[1].unlink()
    with pytest.raises(SystemExit):
        main(["data", "cache"])
    told = capsys.readouterr().out
    assert "a.hdf5" in told and told.count("(stale)") == 1
    with pytest.raises(SystemExit):
        main(["data", "cache", "--stale"])
    assert [Path(entry.source).name for entry in cache.entries()] == ["a.hdf5"]
    with pytest.raises(SystemExit):
        main(["data", "cache", "--clear"])
    assert not list(cache.entries())
