"""The host benchmark runs the sweep itself with an engine that does nothing, and can fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from aspc_fast.engine.select import make_engine, register_engine, resolve_engine
from aspc_fast.errors import UserError
from benchmarks import host


def test_it_measures_a_sweep_of_all_39(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "told.json"
    command = f"host --data {tmp_path} --rows 120 --steps 2000 --disk 0 --json {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    assert host.main() == 0
    told = json.loads(out.read_text())
    for which in ("first", "again"):
        assert told[which]["whole"] >= told[which]["first_update"] > 0
        assert {"updates", "records", "checkpoints", "last checkpoint", "reading", "merging"} <= told[which][
            "waited"
        ].keys()
        assert {"records", "checkpoints", "TensorBoard events"} <= told[which]["beside"].keys()
    assert "blocked_per_1e6" in capsys.readouterr().out


def test_a_missed_number_is_told() -> None:
    good = {
        "seeds": 1,
        "blocked_per_1e6": 1.0,
        "first_update": 1.0,
        "memory_over_store": 1.0,
        "whole": 1.0,
        "full": True,
    }
    assert host.missed(good, good) == []
    (told,) = host.missed(good | {"whole": 91.0}, good)
    assert told == "whole: 91.00, to reach 90"
    assert host.missed(good | {"whole": 91.0, "full": False}, good) == []
    assert len(host.missed(good | {"blocked_per_1e6": 9.0, "full": False}, good)) == 1
    assert host.missed(good | {"blocked_per_1e6": 9.0, "seeds": 5}, good | {"seeds": 5}) == []


def test_an_engine_from_elsewhere_may_not_take_the_name_of_ours() -> None:
    with pytest.raises(UserError, match="eager"):
        register_engine("eager", host.NullEngine)
    register_engine("null", host.NullEngine)
    assert resolve_engine("null", "cpu", 1) == "null" and callable(make_engine)
