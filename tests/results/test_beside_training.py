"""Records, checkpoints and loggers that are written while training goes on."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aspc_fast.config import AgentConfig
from aspc_fast.errors import UserError
from aspc_fast.files import read_json
from aspc_fast.results import checkpoint as ckpt
from aspc_fast.results.feed import WAITING, Feed
from aspc_fast.results.merging import merge
from aspc_fast.results.records import Observer, Record
from aspc_fast.results.tensors import save_file
from aspc_fast.run.train import TrainSettings, train
from tests.helpers import toy_data
from tests.run.test_train import assert_same_run

SMALL = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5)
USUAL = {"steps": 60, "eval_every": 0, "log_every": 10, "checkpoint_every": 20, "device": "cpu", "engine": "eager"}


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(**(USUAL | {"tensorboard": False} | changes))


class Heard(Observer):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)


def test_the_safetensors_writer_writes_what_the_package_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aspc_fast.results.tensors.PIECE_BYTES", 64)
    tensors = {
        "a": torch.randn(7, 13),
        "b": torch.randn(3, dtype=torch.float64),
        "step": torch.tensor(5),
        "flags": torch.tensor([True, False, True]),
        "empty": torch.empty(0, 4),
        "half": torch.randn(5).to(torch.bfloat16),
        "turned": torch.randn(4, 6).T,
    }
    digest = save_file(tensors, tmp_path / "x.safetensors")
    assert digest == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) and read[name].dtype == tensors[name].dtype for name in read)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aspc_fast.run.loop.SLICE", 10)
    far, seen, write = threading.Event(), [], ckpt.save_checkpoint

    def slow(folder: Path, step: int, *rest: Any) -> Path:
        seen.append((step, far.wait(60)))
        return write(folder, step, *rest)

    class Watch(Observer):
        def on_progress(self, step: int) -> None:
            if step == 50:
                far.set()

    monkeypatch.setattr(ckpt, "save_checkpoint", slow)
    by_time = settings(checkpoint_every=0, checkpoint_seconds=1e-9)
    train(toy_data(), SMALL, by_time, out=tmp_path / "r", observer=Watch())
    assert seen[0] == (10, True), "the write of step 10 ended before step 50 was reached"
    monkeypatch.setattr(ckpt, "save_checkpoint", write)
    train(toy_data(), SMALL, settings(), out=tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "r")


def test_a_checkpoint_vouches_for_the_metrics_of_its_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, told = ckpt.save_checkpoint, []

    def note(folder: Path, step: int, tensors: Any, meta: dict[str, Any]) -> Path:
        told.append((step, meta["metrics_bytes"], meta["metrics_sha256"]))
        return write(folder, step, tensors, meta)

    monkeypatch.setattr(ckpt, "save_checkpoint", note)
    train(toy_data(), SMALL, settings(), out=tmp_path / "r")
    lines = (tmp_path / "r/metrics.jsonl").read_bytes()
    assert [step for step, *_ in told] == [20, 40, 60]
    for step, size, digest in told:
        assert [json.loads(line)["step"] for line in lines[:size].splitlines()] == list(range(10, step + 1, 10))
        assert digest == hashlib.sha256(lines[:size]).hexdigest()


def test_a_run_stopped_between_checkpoints_by_time_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aspc_fast.run.loop.SLICE", 7)

    class Dies(Observer):
        def on_progress(self, step: int) -> None:
            if step >= 36:
                raise ZeroDivisionError

    by_time = settings(checkpoint_every=0, checkpoint_seconds=1e-9)
    train(toy_data(), SMALL, by_time, out=tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        train(toy_data(), SMALL, by_time, out=tmp_path / "r", observer=Dies())
    assert 0 < read_json(tmp_path / "r/checkpoints/latest.json")["step"] < 36
    train(toy_data(), SMALL, settings(checkpoint_every=1), out=tmp_path / "r", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "r")


def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = ckpt.save_file, []

    def once(*arguments: Any) -> str:
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(ckpt, "save_file", once)
    heard = Heard()
    train(toy_data(), SMALL, settings(), out=tmp_path / "r", observer=heard)
    (sentence,) = heard.messages
    assert "no checkpoint (No space left on device); training goes on" in sentence and "\n" not in sentence
    assert read_json(tmp_path / "r/checkpoints/latest.json")["step"] == 60


def test_a_last_checkpoint_that_does_not_fit_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ckpt, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        train(toy_data(), SMALL, settings(), out=tmp_path / "r", observer=Heard())


@pytest.mark.parametrize("changes", [{"checkpoint_seconds": 0}, {"checkpoint_seconds": "a"}, {"checkpoint_every": -1}])
def test_intervals_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        settings(**changes)


def test_waiting_snapshots_stay_while_a_checkpoint_names_them(tmp_path: Path) -> None:
    for step in (3, 5):
        ckpt.write_pending(tmp_path, step, False, torch.full((2, 4), float(step)))
    named = {"pending": [[3, 1, False, "pending-0000000003.safetensors"]]}
    ckpt.save_checkpoint(tmp_path, 4, {"x": torch.zeros(1)}, named)
    assert float(ckpt.read_pending(ckpt.pending_path(tmp_path, named["pending"][0][3]))[0, 0]) == 3.0
    for step in (6, 7):  # the checkpoint of step 4 is kept beside the first of these
        assert len(list(tmp_path.glob("pending-*"))) == (2 if step == 6 else 1)
        ckpt.save_checkpoint(tmp_path, step, {"x": torch.zeros(1)}, {"pending": []})
    assert not list(tmp_path.glob("pending-*"))
    for name in ("../pending-0000000003.safetensors", "latest.json", 3, None):
        with pytest.raises(UserError, match="no such name"):
            ckpt.pending_path(tmp_path, name)


class Sink:
    def __init__(self) -> None:
        self.got: list[Record] = []
        self.go, self.closed = threading.Event(), []

    def on_restore(self, step: int, records: list[Record], pending: list[int]) -> None:
        self.go.wait(60)
        self.got += [*records, {"restored": step}]

    def on_records(self, records: list[Record]) -> None:
        self.go.wait(60)
        self.got += records

    def close(self, failed: bool = False) -> None:
        self.closed.append(failed)


def test_a_logger_that_cannot_keep_up_gets_fewer_records_and_is_never_waited_for() -> None:
    sink = Sink()
    feed = Feed("W&B", sink)
    feed.restore(0, [], [])
    moments = 5 * WAITING
    for step in range(1, moments + 1):
        feed.put([{"kind": "eval" if step % 100 == 0 else "train", "step": step}])
        assert len(feed._waiting) <= WAITING + 1 + moments // 100
    sink.go.set()
    feed.close(False)
    steps = [record["step"] for record in sink.got[1:]]
    assert sink.got[0] == {"restored": 0} and sink.closed == [False]
    assert steps == sorted(steps) and len(steps) < moments
    assert {step for step in steps if step % 100 == 0} == set(range(100, moments + 1, 100))
    (sentence,) = feed.sentences
    assert sentence.startswith("W&B cannot keep up")


def test_a_logger_that_keeps_up_gets_everything_once_and_in_order() -> None:
    sink = Sink()
    feed = Feed("W&B", sink)
    records: list[Record] = [{"kind": "train", "step": 0}]
    feed.restore(0, records, [])
    for step in range(1, WAITING - 1):
        feed.put([{"kind": "train", "step": step}])
        records.append({"kind": "train", "step": step})  # as a single run's loop does, before the sink has its turn
    sink.go.set()
    feed.close(True)
    assert [record["step"] for record in sink.got if "step" in record] == list(range(WAITING - 1))
    assert sink.closed == [True] and not feed.sentences


def test_merging_takes_whole_lines_only(tmp_path: Path) -> None:
    shards = [tmp_path / "0", tmp_path / "1", tmp_path / "2"]
    for shard, text in zip(shards, (b"a\nb\nhalf", b"", b"c\n"), strict=True):
        shard.mkdir()
        (shard / "metrics.jsonl").write_bytes(text)
    merge(tmp_path, shards)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"a\nb\nc\n"
