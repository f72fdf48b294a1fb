"""Runs trained by several processes in shared memory: the same numbers, bit for bit, as one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aspc_fast.config import AgentConfig
from aspc_fast.results.checkpoint import load_checkpoint
from aspc_fast.run.loop import Interrupted
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from tests.run.test_train import write_data

BASE = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5)
TIMES = ("updates_per_second", "run_updates_per_second")


def settings(**changes: object) -> SweepSettings:
    usual = {"steps": 60, "device": "cpu", "engine": "eager", "log_every": 20, "eval_every": 0, "final_episodes": 0}
    return SweepSettings(**(usual | {"workers": 0, "tensorboard": False} | changes))  # type: ignore[arg-type]


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [write_data(tmp_path / "a.hdf5"), write_data(tmp_path / "b.hdf5", 17, 6, "Walker2d-v4")]


def records(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def assert_same(one: Path, other: Path) -> None:
    assert records(one) == records(other)
    left, right = (load_checkpoint(out / "shards/000/checkpoints").tensors for out in (one, other))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_two_processes_give_what_one_gives(tmp_path: Path, sources: list[Path]) -> None:
    torch.set_num_threads(1)
    sweep(sources, [0, 1], tmp_path / "alone", base=BASE, settings=settings(processes=1))
    sweep(sources, [0, 1], tmp_path / "beside", base=BASE, settings=settings(processes=3))
    assert_same(tmp_path / "alone", tmp_path / "beside")
    assert len({tuple(r.items()) for r in records(tmp_path / "alone") if r["kind"] == "train" and r["step"] == 60}) == 4


def test_it_goes_on_where_it_was_interrupted_with_another_number_of_processes(
    tmp_path: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aspc_fast.run.loop.SLICE", 30)
    sweep(sources, [0, 1], tmp_path / "alone", base=BASE, settings=settings(processes=1))
    with pytest.raises(Interrupted):
        sweep(sources, [0, 1], tmp_path / "r", base=BASE, settings=settings(processes=2), stop=lambda: True)
    sweep(sources, [0, 1], tmp_path / "r", base=BASE, settings=settings(processes=1))
    assert_same(tmp_path / "alone", tmp_path / "r")
