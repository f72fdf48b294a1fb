"""Following metrics.jsonl while a worker writes it, is killed, and its successor cuts it back and writes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from aspc_fast.results import merging
from aspc_fast.results.records import Record
from aspc_fast.results.tail import Tail


def records(steps: Sequence[int], rate: float) -> list[Record]:
    """What two runs write: the speed makes lines longer or shorter, all else comes again as it was."""
    made: list[Record] = []
    for step in steps:
        made += [{"run": run, "kind": "train", "step": step, "loss": 0.5} for run in (3, 7)]
        made.append({"kind": "system", "step": step, "run_updates_per_second": rate})
    return made


def text(made: list[Record]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in made).encode()


def test_what_is_new_comes_once_and_half_a_line_waits(tmp_path: Path) -> None:
    path, made = tmp_path / "metrics.jsonl", records([10, 20], 1.5)
    tail, whole = Tail(path), text(made)
    assert tail.new() == []  # there is no file yet
    found = []
    for end in range(0, len(whole) + 7, 7):
        path.write_bytes(whole[:end])
        found += tail.new()
    assert found == made and tail.new() == []


@pytest.mark.parametrize("rate", [2.0, 2.123456789012345])
def test_a_file_that_was_cut_back_and_has_grown_past_the_old_place_is_followed(tmp_path: Path, rate: float) -> None:
    path = tmp_path / "metrics.jsonl"
    first, again = records([10, 20, 30], 1000.25), records([20, 30, 40, 50], rate)
    evaluation = {"run": 3, "kind": "eval", "step": 10, "score": 1.0, "final": False}
    path.write_bytes(text(first) + text([evaluation]) + b'{"run": 3, "ki')
    tail = Tail(path)
    assert tail.new() == [*first, evaluation]
    final = evaluation | {"final": True}
    path.write_bytes(text([*records([10], 1000.25), *again, evaluation, final])[:-1])
    assert path.stat().st_size > len(text(first))
    assert tail.new() == records([40, 50], rate)
    path.write_bytes(text([*records([10], 1000.25), *again, evaluation, final]))
    assert tail.new() == [final]


def test_a_line_that_makes_no_sense_is_looked_at_again(tmp_path: Path) -> None:
    path, made = tmp_path / "metrics.jsonl", records([10, 20], 1.5)
    path.write_bytes(text(made[:3]))
    tail = Tail(path)
    assert tail.new() == made[:3]
    path.write_bytes(text(made[:3]) + b'": 20}\n')
    assert tail.new() == []
    path.write_bytes(text(made))
    assert tail.new() == made[3:]


def test_a_shard_that_is_cut_back_while_it_is_merged_leaves_the_last_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, read = tmp_path / "shard", merging.lines_after
    shard.mkdir()
    first, again = text(records([10, 20], 1000.25)), text(records([10, 20, 30, 40, 50], 2.5))

    def cut_back_meanwhile(handle, at, last):
        found = read(handle, at, last, limit=len(first) - 2)
        (shard / "metrics.jsonl").write_bytes(again)
        return found

    (shard / "metrics.jsonl").write_bytes(first)
    merging.merge(tmp_path, [shard])
    monkeypatch.setattr(merging, "lines_after", cut_back_meanwhile)
    with pytest.raises(OSError, match="cut back"):
        merging.merge(tmp_path, [shard])
    assert (tmp_path / "metrics.jsonl").read_bytes() == first
    monkeypatch.undo()
    merging.merge(tmp_path, [shard])
    assert (tmp_path / "metrics.jsonl").read_bytes() == again
