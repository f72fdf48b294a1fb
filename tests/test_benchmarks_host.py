"""The host benchmark runs the sweep itself with an engine that does nothing, and can fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from aspc_fast.engine.select import make_engine, register_engine, resolve_engine
from aspc_fast.errors import UserError
from benchmarks import host, side_by_side, synthetic
from benchmarks.parts import keep_part


def test_it_measures_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("ASPC_FAST_CACHE", "set by host.main")
    few = host.SUITE[::13]
    for module in (host, synthetic):
        monkeypatch.setattr(module, "SUITE", few)
    out = tmp_path / "told.json"
    command = f"host --data {tmp_path} --rows 120 --steps 2000 --disk 0 --json {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    assert host.main() == 0
    found = json.loads(out.read_text())
    assert found["machine"]["cpus"] and found["versions"]["torch"] and found["date"]
    (told,) = found["parts"].values()
    assert told["command"][:3] == ["host", "--data", str(tmp_path)]
    assert list(found["parts"]) == [f"{len(few)} runs, files of 120 rows"]
    for which in ("first", "again"):
        assert told[which]["whole"] >= told[which]["first_update"] > 0
        assert {"updates", "records", "checkpoints", "last checkpoint", "reading", "merging"} <= told[which][
            "waited"
        ].keys()
        assert {"records", "checkpoints", "TensorBoard events"} <= told[which]["beside"].keys()
    assert "blocked_per_1e6" in capsys.readouterr().out


def test_a_missed_number_is_told() -> None:
    good = dict.fromkeys(("blocked_per_1e6", "first_update", "memory_over_store", "whole"), 1.0)
    good |= {"seeds": 1, "full": True}
    assert host.missed(good, good) == []
    (told,) = host.missed(good | {"whole": 91.0}, good | {"whole": 91.0})
    assert told == "first: whole: 91.00, to reach 90"
    (told,) = host.missed(good | {"first_update": 16.0}, good | {"first_update": 16.0})
    assert told == "again: first_update: 16.00, to reach 15"
    assert host.missed(good | {"whole": 91.0, "full": False}, good) == []
    assert len(host.missed(good | {"blocked_per_1e6": 9.0, "full": False}, good)) == 1
    assert host.missed(good | {"blocked_per_1e6": 9.0, "seeds": 5}, good | {"seeds": 5}) == []


@pytest.mark.parametrize(("alone", "code"), [(90.0, 0), (110.0, 1)])
def test_a_sweep_slower_than_single_runs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: float, code: int
) -> None:
    out = tmp_path / "told.json"
    monkeypatch.setattr(side_by_side, "window", lambda *given: (99.0, alone))
    monkeypatch.setattr(sys, "argv", f"side_by_side --engine native --windows 2 --check --json {out}".split())
    assert side_by_side.main() == code
    (part,) = json.loads(out.read_text())["parts"].values()
    assert part["windows"] == [[99.0, alone]] * 2 and part["ratio"] == [99.0 / alone, side_by_side.TO_REACH]


def test_a_file_keeps_the_parts_of_several_commands_on_one_machine(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    keep_part(path, "a", {"ratio": [0.9, 1.0]})
    keep_part(path, "b", {"ratio": [1.25, 1.0]})
    keep_part(path, "a", {"ratio": [1.125, 1.0]})
    found = json.loads(path.read_text())
    assert {name: part["ratio"][0] for name, part in found["parts"].items()} == {"a": 1.125, "b": 1.25}
    path.write_text(json.dumps(found | {"machine": {**found["machine"], "cpus": 4096}}))
    keep_part(path, "c", {})
    assert list(json.loads(path.read_text())["parts"]) == ["c"]


def test_an_engine_from_elsewhere_may_not_take_the_name_of_ours() -> None:
    with pytest.raises(UserError, match="eager"):
        register_engine("eager", host.NullEngine)
    register_engine("null", host.NullEngine)
    assert resolve_engine("null", "cpu", 1) == "null" and callable(make_engine)
