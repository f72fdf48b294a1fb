"""TensorBoard event files: a by-product of metrics.jsonl that no other part reads. Import lazily: needs tensorboard.

TensorBoard's own events and record format, but without its SummaryWriter: no thread for every run (a population has
hundreds), every event is with the system when a call returns, and a full disk is an OSError here, not in a thread. And
without its RecordWriter, whose CRC is Python's: a log point of 195 runs with 20 numbers each takes 2.6 ms and not 24.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.metadata import create_summary_metadata

from aspc_fast.results.logged_run import LoggedRun, scalars
from aspc_fast.results.records import Observer, Record

try:
    from google_crc32c import value as crc32c
except ImportError:  # slower, the same number
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c  # type: ignore[no-redef]


class EventSink(Observer):
    """Writes every record's numbers into ``folder``: one sub-folder per run, or ``folder`` itself for a single run.

    ``runs``: run number in the records (None: the single run) -> what it is called and how it is set. Records of the
    whole population (speed, memory) go into the sub-folder ``population``. Every method may raise OSError.
    """

    def __init__(self, folder: Path, runs: Mapping[int | None, LoggedRun], population: str) -> None:
        self._folder, self._runs, self._population = folder, runs, population
        self._files: dict[int | None, EventFile] = {}

    def on_restore(self, step: int, records: list[Record], pending: list[int]) -> None:
        """Events are written anew from the records, which are all that counts."""
        own: dict[int | None, list[Record]] = {}
        for record in records:
            own.setdefault(record.get("run"), []).append(record)
        for key, kept in own.items():
            self._files[key] = self._open(key, kept)

    def on_record(self, record: Record) -> None:
        """Write a record; the first of a run opens its file."""
        self.on_records([record])

    def on_records(self, records: list[Record]) -> None:
        """Write the records of a log point: those with the same names in one piece of work."""
        together: dict[tuple[int, tuple[str, ...]], list[tuple[EventFile, list[float]]]] = {}
        for record in records:
            key = record.get("run")
            if key not in self._files:
                self._files[key] = self._open(key, [])
            if record["kind"] == "diverged":
                self._write_text(self._files[key], record)
                continue
            numbers = scalars(record)
            rows = together.setdefault((record["step"], tuple(numbers)), [])
            rows.append((self._files[key], list(numbers.values())))
        for (step, tags), rows in together.items():
            _write_scalars(step, tags, rows)

    def close(self, failed: bool = False) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()

    def _open(self, key: int | None, kept: list[Record]) -> EventFile:
        run = self._runs.get(key)
        name = "" if run is not None and key is None else self._population if run is None else run.name
        folder = self._folder / name
        before = list(folder.glob("*tfevents*"))
        file = EventFile(folder)
        if run is not None:
            file.describe(run)
        for record in kept:
            if record["kind"] == "diverged":
                self._write_text(file, record)
            else:
                file.scalars(record["step"], scalars(record))
        for path in before:  # only now: a TensorBoard that looks on never finds the folder empty
            path.unlink()
        return file

    @staticmethod
    def _write_text(file: EventFile, record: Record) -> None:
        file.text("diverged", f"{record['quantity']} is not finite at step {record['step']}", record["step"])


class EventFile:
    """One file of events, opened anew by every process; readers drop what they had read in earlier ones."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time_ns()  # readers take a folder's files in the order of their names
        name = f"events.out.tfevents.{now // 10**9:010d}.{now % 10**9:09d}.{socket.gethostname()}.{os.getpid()}"
        self._handle = (folder / name).open("xb", buffering=0)
        self.write(Event(file_version="brain.Event:2"))
        self.write(Event(session_log=SessionLog(status=SessionLog.START)))  # what SummaryWriter's purge_step does

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by tag, as float32."""
        _write_scalars(step, values, [(self, values.values())])

    def write(self, event: Event) -> None:
        """A whole record: length and event, each with its masked CRC (tensorflow/core/lib/io/record_writer.h)."""
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        left = memoryview(length + _masked_crc(length) + data + _masked_crc(data))
        while left:
            left = left[self._handle.write(left) :]

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Markdown for the tab "Text"."""
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
        value = Summary.Value(tag=tag, tensor=tensor, metadata=create_summary_metadata(None, None))
        self.write(Event(step=step, summary=Summary(value=[value])))

    def describe(self, run: LoggedRun) -> None:
        """The run's settings: a row of the tab "HParams", and the configuration as text."""
        self.write(Event(summary=hparams_pb(run.hparams)))
        listing = "\n".join(f"    {line}" for line in json.dumps(run.config, indent=1).splitlines())
        self.text("config", listing)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def _write_scalars(step: int, tags: Iterable[str], rows: Sequence[tuple[EventFile, Iterable[float]]]) -> None:
    event = Event(step=step)
    values = [event.summary.value.add(tag=tag) for tag in tags]
    for file, numbers in rows:  # the same event with other numbers: 5 times faster than one for each
        for value, number in zip(values, numbers, strict=True):
            value.simple_value = number
        file.write(event)


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
