"""The user's precision of matrix products reaches the engine, from training and from a sweep, and stays at a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import aspc_fast as af
from aspc_fast.errors import UserError
from aspc_fast.results.names import CONFIG
from aspc_fast.run import population
from tests.helpers import toy_data
from tests.run.test_train import write_data

SMALL = dict(hidden_dim=16, batch_size=16, eval_every=0, device="cpu", engine="eager")


@pytest.fixture
def seen(monkeypatch):
    made, given = population.make_engine, []

    def make(name, learners, precision="?"):
        given.append(precision)
        return made(name, learners, precision)

    monkeypatch.setattr(population, "make_engine", make)
    return given


def test_from_train(seen):
    for precision in ("tf32", "fp32"):
        af.train(toy_data(), steps=2, precision=precision, **SMALL)
    af.train(toy_data(), steps=2, **SMALL)
    assert seen == ["tf32", "fp32", "tf32"]


def test_from_sweep(seen, tmp_path: Path):
    data = write_data(tmp_path / "hopper-a.hdf5")
    af.sweep([data], out=tmp_path / "out", steps=2, final_episodes=0, workers=0, precision="fp32", **SMALL)
    assert seen == ["fp32"]


def test_what_is_no_precision_or_not_for_the_engine_is_the_users_mistake():
    with pytest.raises(UserError, match="precision must be one of tf32, fp32, bf16, got 'half'"):
        af.train(toy_data(), steps=2, precision="half", **SMALL)
    with pytest.raises(UserError, match="precision bf16 is for engine fused, not eager"):
        af.train(toy_data(), steps=2, precision="bf16", **SMALL)


def test_a_resume_keeps_it_and_folders_from_before_it_existed_go_on(tmp_path: Path):
    out = tmp_path / "run"
    af.train(toy_data(), steps=2, out=out, **SMALL)
    saved = json.loads((out / CONFIG).read_text())
    assert saved["settings"].pop("precision") == "tf32"
    saved.pop("checksum")
    (out / CONFIG).write_text(json.dumps(saved))
    af.train(toy_data(), steps=4, out=out, resume=True, **SMALL)
    with pytest.raises(UserError, match="precision was 'tf32' and is now 'fp32'"):
        af.train(toy_data(), steps=6, out=out, resume=True, precision="fp32", **SMALL)
